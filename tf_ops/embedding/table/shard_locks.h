// ShardLocks: the locks of a table's shards, and sets of them.
#ifndef TF_OPS_EMBEDDING_TABLE_SHARD_LOCKS_H_
#define TF_OPS_EMBEDDING_TABLE_SHARD_LOCKS_H_

#include <array>
#include <cstdint>

#include "tf_ops/embedding/table/hash.h"
#include "tf_ops/embedding/table/rw_lock.h"
#include "tf_ops/embedding/table/shard.h"

namespace taco {
namespace embedding {

class ShardLocks {
 public:
  RwLock& Of(int shard) { return locks_[shard / kShardsPerLock].lock; }
  RwLock& operator[](int number) { return locks_[number].lock; }

 private:
  struct alignas(64) Padded {
    RwLock lock;
  };
  std::array<Padded, kNumLocks> locks_;
};

// Which locks a call wants: bit l stands for lock l.
class LockSet {
 public:
  // Those of shards first ... end - 1.
  static LockSet OfShards(int first, int end) {
    LockSet set;
    for (int s = first; s < end; ++s) set.Add(s);
    return set;
  }
  // Those of the shards of keys (n), where that may be fewer than `most`.
  static LockSet OfKeys(const int64_t* keys, int64_t n, const LockSet& most) {
    if (n >= kNumLocks) return most;
    LockSet set;
    for (int64_t i = 0; i < n; ++i) set.Add(ShardOf(GlobalShardMap(), HashKey(keys[i])));
    return set;
  }

  void Add(int shard) { bits_ |= uint64_t{1} << (shard / kShardsPerLock); }

  // Calls visit(shard) for the shards of each lock.
  template <typename Visit>
  void ForEachShard(const Visit& visit) const {
    ForEach([&](int lock) {
      for (int s = lock * kShardsPerLock; s < (lock + 1) * kShardsPerLock; ++s) visit(s);
    });
  }

  // Calls visit(lock) for each, in ascending order.
  template <typename Visit>
  void ForEach(const Visit& visit) const {
    for (uint64_t left = bits_; left != 0; left &= left - 1) visit(__builtin_ctzll(left));
  }

 private:
  static_assert(kNumLocks <= 64, "a set is a word");
  uint64_t bits_ = 0;
};

// Holds a set of locks. All calls take theirs in ascending order, so there is no cycle.
class ExclusiveLocks {
 public:
  ExclusiveLocks(ShardLocks* locks, const LockSet& set) : locks_(locks), set_(set) {
    set_.ForEach([&](int l) { (*locks_)[l].lock(); });
  }
  ~ExclusiveLocks() {
    set_.ForEach([&](int l) { (*locks_)[l].unlock(); });
  }
  ExclusiveLocks(const ExclusiveLocks&) = delete;
  ExclusiveLocks& operator=(const ExclusiveLocks&) = delete;

 private:
  ShardLocks* const locks_;
  const LockSet set_;
};

class SharedLocks {
 public:
  SharedLocks(ShardLocks* locks, const LockSet& set) : locks_(locks), set_(set) {
    set_.ForEach([&](int l) { (*locks_)[l].lock_shared(); });
  }
  ~SharedLocks() {
    set_.ForEach([&](int l) { (*locks_)[l].unlock_shared(); });
  }
  SharedLocks(const SharedLocks&) = delete;
  SharedLocks& operator=(const SharedLocks&) = delete;

 private:
  ShardLocks* const locks_;
  const LockSet set_;
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_SHARD_LOCKS_H_
