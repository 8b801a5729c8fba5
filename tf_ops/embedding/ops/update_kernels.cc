// Kernels that change rows: TacoTableUpsert, TacoTableAccum, TacoTableRemove.
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tf_ops/embedding/ops/pool_executor.h"
#include "tf_ops/embedding/ops/registration.h"
#include "tf_ops/embedding/ops/status_adapter.h"
#include "tf_ops/embedding/ops/table_resource.h"

namespace taco {
namespace ops {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class UpsertKernel final : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr table;
    OP_REQUIRES_OK(ctx, GetTable(ctx, &table));
    Keys keys;
    OP_REQUIRES_OK(ctx, keys.Init(ctx, *table, ctx->input(1)));
    const Tensor& values = ctx->input(2);
    OP_REQUIRES_OK(ctx, CheckRows(*table, ctx->input(1), values, "values"));
    PoolExecutor executor(ctx, keys.size());
    OP_REQUIRES_OK(ctx, ToTensorFlow(table->table()->Upsert(keys.data(), keys.size(), values.data(),
                                                            &executor)));
  }
};

class AccumKernel final : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr table;
    OP_REQUIRES_OK(ctx, GetTable(ctx, &table));
    Keys keys;
    OP_REQUIRES_OK(ctx, keys.Init(ctx, *table, ctx->input(1)));
    const Tensor& rows = ctx->input(2);
    OP_REQUIRES_OK(ctx, CheckRows(*table, ctx->input(1), rows, "values_or_deltas"));
    const Tensor& exists = ctx->input(3);
    OP_REQUIRES(ctx, exists.shape() == ctx->input(1).shape(),
                absl::InvalidArgumentError(absl::StrCat(
                    "exists has shape ", exists.shape().DebugString(), ", but keys have ",
                    ctx->input(1).shape().DebugString(), "; give one for each key.")));
    PoolExecutor executor(ctx, keys.size());
    OP_REQUIRES_OK(ctx, ToTensorFlow(table->table()->Accumulate(
                            keys.data(), keys.size(), rows.data(),
                            static_cast<const bool*>(exists.data()), &executor)));
  }
};

class RemoveKernel final : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr table;
    OP_REQUIRES_OK(ctx, GetTable(ctx, &table));
    Keys keys;
    OP_REQUIRES_OK(ctx, keys.Init(ctx, *table, ctx->input(1)));
    Tensor* erased;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, {}, &erased));
    PoolExecutor executor(ctx, keys.size());
    OP_REQUIRES_OK(ctx, ToTensorFlow(table->table()->Erase(keys.data(), keys.size(), &executor,
                                                           &erased->scalar<int64_t>()())));
  }
};

}  // namespace

void RegisterUpdateKernels() {
  REGISTER_KERNEL_BUILDER(Name("TacoTableUpsert").Device(tensorflow::DEVICE_CPU), UpsertKernel);
  REGISTER_KERNEL_BUILDER(Name("TacoTableAccum").Device(tensorflow::DEVICE_CPU), AccumKernel);
  REGISTER_KERNEL_BUILDER(Name("TacoTableRemove").Device(tensorflow::DEVICE_CPU), RemoveKernel);
}

}  // namespace ops
}  // namespace taco
