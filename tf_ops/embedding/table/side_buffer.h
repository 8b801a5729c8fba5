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

#include "tf_ops/embedding/table/row_layout.h"

namespace taco {
namespace embedding {

// Packs a row behind those that `rows` holds.
inline void AppendRow(const RowHeader& header, const uint8_t* body, size_t body_bytes,
                      std::vector<uint8_t>* rows) {
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(&header);
  rows->insert(rows->end(), bytes, bytes + sizeof(header));
  rows->insert(rows->end(), body, body + body_bytes);
}

class SideBuffer {
 public:
  explicit SideBuffer(size_t limit) : limit_(limit) {}

  // A row is always taken whole: the buffer may exceed its limit by one row.
  void Push(const RowHeader& header, const uint8_t* body, size_t body_bytes) {
    std::unique_lock<std::mutex> lock(mu_);
    room_.wait(lock, [this] { return abandoned_ || bytes_.size() < limit_; });
    if (abandoned_) return;
    AppendRow(header, body, body_bytes, &bytes_);
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
