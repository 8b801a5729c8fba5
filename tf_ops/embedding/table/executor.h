// Executor: the threads that a batch call may use. The core owns none.
#ifndef TF_OPS_EMBEDDING_TABLE_EXECUTOR_H_
#define TF_OPS_EMBEDDING_TABLE_EXECUTOR_H_

#include <cstdint>
#include <functional>

namespace taco {
namespace embedding {

class Executor {
 public:
  virtual ~Executor() = default;

  // How many tasks may run at once, the caller's thread included. At least 1.
  virtual int parallelism() const = 0;

  // Runs task(0) ... task(count - 1), each once, in any order and on any thread, and returns when
  // all have returned. The caller's thread may take part, in these tasks and in nothing else. Tasks
  // never wait for one another. The caller may hold locks that other threads wait for, so Run must
  // come to an end without them.
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

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_EXECUTOR_H_
