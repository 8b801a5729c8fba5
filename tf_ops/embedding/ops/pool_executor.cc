#include "tf_ops/embedding/ops/pool_executor.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/lib/core/threadpool.h"

namespace taco {
namespace ops {
namespace {

// Shared with pool threads that may come too late: those find no task left and touch only this.
struct Work {
  explicit Work(int64_t count_in, const std::function<void(int64_t)>* task_in)
      : count(count_in), task(task_in) {}

  const int64_t count;
  const std::function<void(int64_t)>* const task;  // valid while a task is unfinished
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> finished{0};
  std::mutex mu;
  std::condition_variable all_finished;

  void RunTasks() {
    for (;;) {
      const int64_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= count) return;
      (*task)(i);
      if (finished.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
        std::lock_guard<std::mutex> lock(mu);
        all_finished.notify_one();
      }
    }
  }

  // Tasks take tens of microseconds, and so does waking a thread that sleeps: the last task is
  // waited for awake, unless something holds it up.
  void Wait() {
    constexpr auto kAwake = std::chrono::microseconds(100);
    const auto start = std::chrono::steady_clock::now();
    do {
      for (int i = 0; i < 64; ++i) {
        if (finished.load(std::memory_order_acquire) == count) return;
        _mm_pause();
      }
    } while (std::chrono::steady_clock::now() - start < kAwake);
    std::unique_lock<std::mutex> lock(mu);
    all_finished.wait(lock, [&] { return finished.load(std::memory_order_acquire) == count; });
  }
};

}  // namespace

PoolExecutor::PoolExecutor(tensorflow::OpKernelContext* ctx, int64_t rows)
    : ctx_(ctx), parallelism_(1) {
  const auto* threads = ctx->device()->tensorflow_cpu_worker_threads();
  if (threads != nullptr && rows >= kMinParallelRows) {
    parallelism_ = std::max(1, threads->num_threads);
  }
}

void PoolExecutor::Run(int64_t count, const std::function<void(int64_t)>& task) {
  const int64_t helpers = std::min<int64_t>(parallelism_, count) - 1;
  if (helpers <= 0) {
    for (int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  auto work = std::make_shared<Work>(count, &task);
  auto* pool = ctx_->device()->tensorflow_cpu_worker_threads()->workers;
  for (int64_t i = 0; i < helpers; ++i) {
    pool->Schedule([work] { work->RunTasks(); });
  }
  work->RunTasks();
  work->Wait();
}

}  // namespace ops
}  // namespace taco
