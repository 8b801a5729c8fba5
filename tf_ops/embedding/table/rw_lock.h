// RwLock: a reader-writer lock that lets a waiting writer go before new readers.
//
// std::shared_mutex sits on a pthread lock that prefers readers: a server that looks rows up all
// the time would keep the trainer waiting for ever.
#ifndef TF_OPS_EMBEDDING_TABLE_RW_LOCK_H_
#define TF_OPS_EMBEDDING_TABLE_RW_LOCK_H_

#include <pthread.h>

namespace taco {
namespace embedding {

// Meets the standard's SharedMutex requirements as far as std::shared_lock, std::unique_lock and
// std::lock_guard ask. Not recursive, for readers either.
class RwLock {
 public:
  RwLock() {
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&lock_, &attributes);
    pthread_rwlockattr_destroy(&attributes);
  }
  ~RwLock() { pthread_rwlock_destroy(&lock_); }
  RwLock(const RwLock&) = delete;
  RwLock& operator=(const RwLock&) = delete;

  void lock() { pthread_rwlock_wrlock(&lock_); }
  bool try_lock() { return pthread_rwlock_trywrlock(&lock_) == 0; }
  void unlock() { pthread_rwlock_unlock(&lock_); }
  void lock_shared() { pthread_rwlock_rdlock(&lock_); }
  bool try_lock_shared() { return pthread_rwlock_tryrdlock(&lock_) == 0; }
  void unlock_shared() { pthread_rwlock_unlock(&lock_); }

 private:
  pthread_rwlock_t lock_;
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_RW_LOCK_H_
