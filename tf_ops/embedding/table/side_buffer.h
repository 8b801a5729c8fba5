// SideBuffer: where writers put rows that a running snapshot still needs, before they change them.
//
// Bounded: a writer that finds it full waits until the snapshot's consumer has taken what is in
// it, or until the snapshot is abandoned.
#ifndef TF_OPS_EMBEDDING_TABLE_SIDE_BUFFER_H_
#define TF_OPS_EMBEDDING_TABLE_SIDE_BUFFER_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace taco {
namespace embedding {

class SideBuffer {
 public:
  explicit SideBuffer(size_t limit) : limit_(limit) {}

  // A row is always taken whole: the buffer may exceed its limit by one row.
  void Push(const uint8_t* row, size_t bytes) {
    std::unique_lock<std::mutex> lock(mu_);
    room_.wait(lock, [this] { return abandoned_ || bytes_.size() < limit_; });
    if (abandoned_) return;
    bytes_.insert(bytes_.end(), row, row + bytes);
  }

  // Exchanges the contents for `taken`, which is cleared first.
  void Take(std::vector<uint8_t>* taken) {
    taken->clear();
    std::lock_guard<std::mutex> lock(mu_);
    taken->swap(bytes_);
    room_.notify_all();
  }

  bool empty() const {
    std::lock_guard<std::mutex> lock(mu_);
    return bytes_.empty();
  }

  void Abandon() {
    std::lock_guard<std::mutex> lock(mu_);
    abandoned_ = true;
    room_.notify_all();
  }

 private:
  const size_t limit_;
  mutable std::mutex mu_;
  std::condition_variable room_;
  std::vector<uint8_t> bytes_;
  bool abandoned_ = false;
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_SIDE_BUFFER_H_
