// An executor with real threads, for tests of what they share.
#ifndef TORCH_EXT_BASE_THREADS_FOR_TEST_H_
#define TORCH_EXT_BASE_THREADS_FOR_TEST_H_

#include <atomic>
#include <thread>
#include <vector>

#include "torch_ext/base/executor.h"

namespace taco {
namespace base {

class ThreadsForTest final : public Executor {
 public:
  explicit ThreadsForTest(int threads) : threads_(threads) {}

  int parallelism() const override { return threads_; }

  void Run(int64_t count, const std::function<void(int64_t)>& task) override {
    std::atomic<int64_t> next{0};
    const auto work = [&] {
      for (int64_t i; (i = next.fetch_add(1)) < count;) task(i);
    };
    std::vector<std::thread> others;
    for (int i = 1; i < threads_; ++i) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
  }

 private:
  int threads_;
};

}  // namespace base
}  // namespace taco

#endif  // TORCH_EXT_BASE_THREADS_FOR_TEST_H_
