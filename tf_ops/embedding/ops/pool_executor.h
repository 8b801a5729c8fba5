// PoolExecutor: TensorFlow's intra-op threads, lent to one call of the core.
#ifndef TF_OPS_EMBEDDING_OPS_POOL_EXECUTOR_H_
#define TF_OPS_EMBEDDING_OPS_POOL_EXECUTOR_H_

#include <cstdint>
#include <functional>

#include "tf_ops/embedding/table/executor.h"

namespace tensorflow {
class OpKernelContext;
}  // namespace tensorflow

namespace taco {
namespace ops {

// The calling thread always works too, and takes over every task that no pool thread has begun.
// So Run returns even if the pool never gets to it: it is safe on a thread of that same pool, and
// however busy the pool is. Not shared between calls; lives as long as the kernel's Compute.
class PoolExecutor final : public embedding::Executor {
 public:
  // Batches of fewer rows than this stay on the calling thread: waking another costs more.
  static constexpr int64_t kMinParallelRows = 1024;

  PoolExecutor(tensorflow::OpKernelContext* ctx, int64_t rows);

  int parallelism() const override { return parallelism_; }
  void Run(int64_t count, const std::function<void(int64_t)>& task) override;

 private:
  tensorflow::OpKernelContext* const ctx_;
  int parallelism_;
};

}  // namespace ops
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_OPS_POOL_EXECUTOR_H_
