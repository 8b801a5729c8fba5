// From an op's attributes and inputs to the core's OptimizerSpec and OptimizerStep.
#ifndef TF_OPS_EMBEDDING_OPS_OPTIMIZER_ATTRS_H_
#define TF_OPS_EMBEDDING_OPS_OPTIMIZER_ATTRS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "tf_ops/embedding/table/optimizer.h"

namespace tensorflow {
class OpKernelConstruction;
class OpKernelContext;
}  // namespace tensorflow

namespace taco {
namespace ops {

// Length of the input `hyper`: every field of OptimizerStep but step, in the order of the struct.
inline constexpr int64_t kNumHyperparameters = 9;

// InvalidArgument: an unknown name, a flag that the optimizer does not have, or a slot_init that
// is not finite or has more values than the optimizer has slots.
absl::Status GetOptimizer(tensorflow::OpKernelConstruction* ctx, embedding::OptimizerSpec* spec);

// Reads the inputs `step` and `hyper`; ranges are checked by the core.
absl::Status GetStep(tensorflow::OpKernelContext* ctx, int step_index, int hyper_index,
                     embedding::OptimizerStep* step);

}  // namespace ops
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_OPS_OPTIMIZER_ATTRS_H_
