// Kernels of the fused sparse optimizers: TacoTableApply, TacoTableSetOptimizer.
#include "tensorflow/core/framework/op_kernel.h"
#include "tf_ops/embedding/ops/optimizer_attrs.h"
#include "tf_ops/embedding/ops/pool_executor.h"
#include "tf_ops/embedding/ops/registration.h"
#include "tf_ops/embedding/ops/status_adapter.h"
#include "tf_ops/embedding/ops/table_resource.h"

namespace taco {
namespace ops {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class ApplyKernel final : public OpKernel {
 public:
  explicit ApplyKernel(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, GetOptimizer(ctx, &spec_));
    tensorflow::DataType grad_dtype;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("V", &grad_dtype));
    OP_REQUIRES_OK(ctx, ToValueType(grad_dtype, &grad_type_));
  }

  void Compute(OpKernelContext* ctx) override {
    TablePtr table;
    OP_REQUIRES_OK(ctx, GetTable(ctx, &table));
    Keys keys;
    OP_REQUIRES_OK(ctx, keys.Init(ctx, *table, ctx->input(1)));
    const Tensor& grads = ctx->input(2);
    OP_REQUIRES_OK(ctx, CheckRowsAnyDtype(*table, ctx->input(1), grads, "grads"));
    embedding::OptimizerStep step;
    OP_REQUIRES_OK(ctx, GetStep(ctx, 3, 4, &step));
    // The core keeps a small batch on this thread. But an optimizer's first step may lay all of a
    // large table's rows out anew, however few keys it has.
    PoolExecutor executor(ctx, PoolExecutor::kMinParallelRows);
    OP_REQUIRES_OK(ctx, ToTensorFlow(table->table()->Apply(keys.data(), keys.size(), grad_type_,
                                                           grads.data(), spec_, step, &executor)));
  }

 private:
  embedding::OptimizerSpec spec_;
  embedding::ValueType grad_type_;
};

class SetOptimizerKernel final : public OpKernel {
 public:
  explicit SetOptimizerKernel(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, GetOptimizer(ctx, &spec_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("drop_slots", &drop_slots_));
  }

  void Compute(OpKernelContext* ctx) override {
    TablePtr table;
    OP_REQUIRES_OK(ctx, GetTable(ctx, &table));
    PoolExecutor executor(ctx, table->table()->size());
    OP_REQUIRES_OK(ctx, ToTensorFlow(table->table()->SetOptimizer(spec_, drop_slots_, &executor)));
  }

 private:
  embedding::OptimizerSpec spec_;
  bool drop_slots_;
};

}  // namespace

void RegisterOptimizerKernels() {
  REGISTER_KERNEL_BUILDER(Name("TacoTableApply").Device(tensorflow::DEVICE_CPU), ApplyKernel);
  REGISTER_KERNEL_BUILDER(Name("TacoTableSetOptimizer").Device(tensorflow::DEVICE_CPU),
                          SetOptimizerKernel);
}

}  // namespace ops
}  // namespace taco
