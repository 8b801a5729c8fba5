// An object that a forked child does not share with its parent.
//
// At the time of a fork another thread may be within the object: it does not go on in the child, so
// that a mutex which it holds is never let go of, and what it was about to write stays half done.
// The child therefore gets an object of its own, and leaves the parent's as it is.
#ifndef NCCL_PLUGIN_IO_PER_PROCESS_H_
#define NCCL_PLUGIN_IO_PER_PROCESS_H_

#include <unistd.h>

#include <atomic>
#include <memory>
#include <utility>

namespace taco {
namespace harp {

// For a global that is there before the program runs. What it makes is never destroyed: threads may
// outlive static destructors.
template <typename T>
class PerProcess {
 public:
  // `make` gives a std::unique_ptr<T>. A system call.
  template <typename Make>
  T& Get(const Make& make) {
    const pid_t process = getpid();
    Mine* mine = mine_.load(std::memory_order_acquire);
    while (mine == nullptr || mine->process != process) {
      auto made = std::make_unique<Mine>(Mine{process, make()});
      if (mine_.compare_exchange_strong(mine, made.get(), std::memory_order_acq_rel)) {
        mine = made.release();
      }
    }
    return *mine->object;
  }
  T& Get() {
    return Get([] { return std::make_unique<T>(); });
  }

 private:
  struct Mine {
    pid_t process;
    std::unique_ptr<T> object;
  };
  std::atomic<Mine*> mine_{nullptr};
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_PER_PROCESS_H_
