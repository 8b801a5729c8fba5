// Kernels that read rows: TacoTableGather, TacoTableFind.
#include <cstring>

#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tf_ops/embedding/ops/pool_executor.h"
#include "tf_ops/embedding/ops/registration.h"
#include "tf_ops/embedding/ops/table_resource.h"

namespace taco {
namespace ops {
namespace {

using embedding::Table;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// What both kernels do: the table, its keys, and room for the rows.
class LookupKernel : public OpKernel {
 public:
  explicit LookupKernel(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("dim", &dim_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("V", &value_dtype_));
  }

 protected:
  absl::Status Prepare(OpKernelContext* ctx, TablePtr* table, Keys* keys, Tensor** values) const {
    TF_RETURN_IF_ERROR(GetTable(ctx, table));
    TF_RETURN_IF_ERROR(CheckDim(**table, dim_));
    TF_RETURN_IF_ERROR(CheckValueDtype(**table, value_dtype_, "attribute V"));
    TF_RETURN_IF_ERROR(keys->Init(ctx, **table, ctx->input(1)));
    TensorShape shape;
    TF_RETURN_IF_ERROR(RowsShape(**table, ctx->input(1), &shape));
    return ctx->allocate_output(0, shape, values);
  }

  int64_t dim() const { return dim_; }

 private:
  int64_t dim_;
  tensorflow::DataType value_dtype_;
};

class GatherKernel final : public LookupKernel {
 public:
  using LookupKernel::LookupKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr table;
    Keys keys;
    Tensor* values;
    OP_REQUIRES_OK(ctx, Prepare(ctx, &table, &keys, &values));
    PoolExecutor executor(ctx, keys.size());
    table->table()->Lookup(keys.data(), keys.size(), Table::Miss(), values->data(), nullptr,
                           &executor);
  }
};

class FindKernel final : public LookupKernel {
 public:
  using LookupKernel::LookupKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr table;
    Keys keys;
    Tensor* values;
    OP_REQUIRES_OK(ctx, Prepare(ctx, &table, &keys, &values));
    Table::Miss miss;
    Tensor broadcast;
    OP_REQUIRES_OK(ctx, GetMiss(ctx, *table, values->shape(), &broadcast, &miss));
    Tensor* exists;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, ctx->input(1).shape(), &exists));
    PoolExecutor executor(ctx, keys.size());
    table->table()->Lookup(keys.data(), keys.size(), miss, values->data(),
                           static_cast<bool*>(exists->data()), &executor);
  }

 private:
  // `broadcast` holds the row that a scalar default is spread into.
  absl::Status GetMiss(OpKernelContext* ctx, const TableResource& table,
                       const TensorShape& rows_shape, Tensor* broadcast, Table::Miss* miss) const {
    const Tensor& value = ctx->input(2);
    const TensorShape& shape = value.shape();
    if (shape == rows_shape && shape != TensorShape({dim()})) {
      miss->fill = Table::Miss::Fill::kRowEach;
      miss->rows = value.data();
    } else if (shape == TensorShape({0})) {
      miss->fill = Table::Miss::Fill::kInitializer;
    } else if (shape == TensorShape({dim()}) || shape == TensorShape({1, dim()})) {
      miss->fill = Table::Miss::Fill::kOneRow;
      miss->rows = value.data();
    } else if (value.dims() == 0) {
      TF_RETURN_IF_ERROR(ctx->allocate_temp(value.dtype(), TensorShape({dim()}), broadcast));
      const size_t size = tensorflow::DataTypeSize(value.dtype());
      char* row = static_cast<char*>(broadcast->data());
      for (int64_t i = 0; i < dim(); ++i) std::memcpy(row + i * size, value.data(), size);
      miss->fill = Table::Miss::Fill::kOneRow;
      miss->rows = row;
    } else {
      return absl::InvalidArgumentError(absl::StrCat(
          "default_value has shape ", shape.DebugString(), "; for table '", table.name(),
          "' and these keys it must be [0] (the initializer), a scalar, [", dim(), "], [1,", dim(),
          "] or ", rows_shape.DebugString(), "."));
    }
    return absl::OkStatus();
  }
};

}  // namespace

void RegisterLookupKernels() {
  REGISTER_KERNEL_BUILDER(Name("TacoTableGather").Device(tensorflow::DEVICE_CPU), GatherKernel);
  REGISTER_KERNEL_BUILDER(Name("TacoTableFind").Device(tensorflow::DEVICE_CPU), FindKernel);
}

}  // namespace ops
}  // namespace taco
