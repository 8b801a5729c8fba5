// Between torch and the cores: threads, types, errors.
#ifndef TORCH_EXT_BINDINGS_ADAPTER_H_
#define TORCH_EXT_BINDINGS_ADAPTER_H_

#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>

#include "torch_ext/base/executor.h"
#include "torch_ext/base/status.h"
#include "torch_ext/base/value_type.h"

namespace taco {
namespace bindings {

// PyTorch's intra-op threads: torch.set_num_threads counts.
class TorchExecutor final : public base::Executor {
 public:
  int parallelism() const override { return at::in_parallel_region() ? 1 : at::get_num_threads(); }
  void Run(int64_t count, const std::function<void(int64_t)>& task) override {
    // at::parallel_for hands out all work beforehand: a thread that another program slows would
    // keep the others waiting. So it only starts the threads, which then take task after task.
    std::atomic<int64_t> next{0};
    const int64_t threads = std::min<int64_t>(parallelism(), count);
    at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
      for (int64_t i; (i = next.fetch_add(1)) < count;) task(i);
    });
  }
};

// Raises what a core says, with the op's name before it.
inline void ThrowIfError(const char* op, const base::Status& status) {
  TORCH_CHECK(status.ok(), "taco::", op, ": ", status.message(), ".");
}

// The core's name of a gradient's dtype. Raises for any but float32, float16 and bfloat16.
base::ValueType ValueTypeOf(const char* op, const char* what, at::ScalarType type);

// Raises unless the tensor is on the CPU, strided and contiguous.
void CheckPlain(const char* op, const char* what, const at::Tensor& tensor);

// Raises unless the tensor is also of this dtype.
void CheckPlain(const char* op, const char* what, const at::Tensor& tensor, at::ScalarType type);

}  // namespace bindings
}  // namespace taco

#endif  // TORCH_EXT_BINDINGS_ADAPTER_H_
