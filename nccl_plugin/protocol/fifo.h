// A queue of a fixed room, which is a power of two.
#ifndef NCCL_PLUGIN_PROTOCOL_FIFO_H_
#define NCCL_PLUGIN_PROTOCOL_FIFO_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace taco {
namespace harp {

template <typename T>
class Fifo {
 public:
  explicit Fifo(size_t room) : items_(room) {}

  bool empty() const { return first_ == end_; }
  size_t size() const { return end_ - first_; }
  const T& front() const { return items_[first_ & (items_.size() - 1)]; }
  void pop() { ++first_; }
  void push(const T& item) { items_[end_++ & (items_.size() - 1)] = item; }  // where there is room

 private:
  std::vector<T> items_;
  size_t first_ = 0;
  size_t end_ = 0;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_PROTOCOL_FIFO_H_
