// Executor: the threads that a call may use. The cores own none.
#ifndef TORCH_EXT_BASE_EXECUTOR_H_
#define TORCH_EXT_BASE_EXECUTOR_H_

#include <cstdint>
#include <functional>

namespace taco {
namespace base {

class Executor {
 public:
  virtual ~Executor() = default;

  // How many tasks may run at once, the caller's thread included. At least 1.
  virtual int parallelism() const = 0;

  // Runs task(0) ... task(count - 1), each once, in any order and on any thread, and returns when
  // all have returned. The caller's thread may take part. Tasks never wait for one another.
  virtual void Run(int64_t count, const std::function<void(int64_t)>& task) = 0;
};

// Everything on the calling thread. Stateless; safe to share.
class InlineExecutor final : public Executor {
 public:
  int parallelism() const override { return 1; }
  void Run(int64_t count, const std::function<void(int64_t)>& task) override {
    for (int64_t i = 0; i < count; ++i) task(i);
  }
};

// Runs body(begin, end) over [0, count) cut into `tasks` ranges of nearly equal length. body is
// told the range's number too: body(task, begin, end).
template <class Body>
void RunRanges(Executor* executor, int64_t count, int64_t tasks, const Body& body) {
  executor->Run(tasks, [&](int64_t task) {
    // 128 bits: count may be near 2^63, as tensors of zero-sized elements allow.
    const auto edge = [&](int64_t i) {
      return static_cast<int64_t>(static_cast<__int128>(count) * i / tasks);
    };
    body(task, edge(task), edge(task + 1));
  });
}

}  // namespace base
}  // namespace taco

#endif  // TORCH_EXT_BASE_EXECUTOR_H_
