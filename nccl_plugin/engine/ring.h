// A queue between two threads, one of which puts in and one takes out: no lock, no wait.
//
// Each side has a cache line of its own, with its position and what it saw last of the other's, so
// that the lines go to and fro once for many elements and not once for each.
#ifndef NCCL_PLUGIN_ENGINE_RING_H_
#define NCCL_PLUGIN_ENGINE_RING_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace taco {
namespace harp {

inline constexpr size_t kCacheLine = 64;

template <typename T, size_t kSlots>
class Ring {
 public:
  // By the one thread that puts in. False: it is full.
  bool Push(const T& value) {
    const uint64_t at = in_.position.load(std::memory_order_relaxed);
    if (at - in_.seen == kSlots) {
      in_.seen = out_.position.load(std::memory_order_acquire);
      if (at - in_.seen == kSlots) return false;
    }
    slots_[at % kSlots].value = value;
    in_.position.store(at + 1, std::memory_order_release);
    return true;
  }

  // By the one thread that takes out. False: it is empty.
  bool Pop(T* value) {
    const uint64_t at = out_.position.load(std::memory_order_relaxed);
    if (at == out_.seen) {
      out_.seen = in_.position.load(std::memory_order_acquire);
      if (at == out_.seen) return false;
    }
    *value = slots_[at % kSlots].value;
    out_.position.store(at + 1, std::memory_order_release);
    return true;
  }

  // By a thread that knows that nobody else is at it.
  bool empty() const {
    return in_.position.load(std::memory_order_acquire) ==
           out_.position.load(std::memory_order_acquire);
  }

 private:
  struct alignas(kCacheLine) Side {
    std::atomic<uint64_t> position{0};
    uint64_t seen = 0;  // of the other side's position
  };
  struct alignas(kCacheLine) Slot {
    T value;
  };
  static_assert(sizeof(Side) == kCacheLine && sizeof(Slot) % kCacheLine == 0,
                "no line is written by both sides");

  Side in_, out_;
  std::array<Slot, kSlots> slots_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ENGINE_RING_H_
