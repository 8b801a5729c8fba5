// Kernels that give the whole table as tensors: TacoTableExportKeys, TacoTableExport,
// TacoTableExportSlots.
#include <cstring>
#include <memory>

#include "tensorflow/core/framework/op_kernel.h"
#include "tf_ops/embedding/ops/registration.h"
#include "tf_ops/embedding/ops/table_resource.h"
#include "tf_ops/embedding/table/snapshot.h"

namespace taco {
namespace ops {
namespace {

using embedding::RowLayout;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// Where the parts of row i go. Null: not wanted.
struct Columns {
  int32_t* keys32 = nullptr;
  int64_t* keys64 = nullptr;
  uint8_t* values = nullptr;
  float* slots = nullptr;
  float* scalars = nullptr;
  int64_t* freq = nullptr;
  int64_t* step = nullptr;
};

void Scatter(const RowLayout& layout, const uint8_t* row, int64_t i, const Columns& columns) {
  const embedding::RowHeader* header = RowLayout::Header(row);
  if (columns.keys32 != nullptr) columns.keys32[i] = static_cast<int32_t>(header->key);
  if (columns.keys64 != nullptr) columns.keys64[i] = header->key;
  if (columns.values == nullptr) return;
  std::memcpy(columns.values + i * layout.vector_bytes, RowLayout::Vector(row),
              layout.vector_bytes);
  if (columns.freq == nullptr) return;
  const size_t slot_floats = static_cast<size_t>(layout.num_slots) * layout.dim;
  const float* slots = layout.Slots(row);
  std::memcpy(columns.slots + i * slot_floats, slots, slot_floats * sizeof(float));
  std::memcpy(columns.scalars + i * layout.num_scalars, slots + slot_floats,
              layout.num_scalars * sizeof(float));
  columns.freq[i] = header->freq;
  columns.step[i] = header->step;
}

class ExportKernel final : public OpKernel {
 public:
  explicit ExportKernel(OpKernelConstruction* ctx)
      : OpKernel(ctx), with_values_(ctx->num_outputs() > 1), with_slots_(ctx->num_outputs() > 2) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("K", &key_dtype_));
    if (!with_values_) return;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("dim", &dim_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("V", &value_dtype_));
  }

  void Compute(OpKernelContext* ctx) override {
    TablePtr table;
    OP_REQUIRES_OK(ctx, GetTable(ctx, &table));
    OP_REQUIRES_OK(ctx, CheckKeyDtype(*table, key_dtype_));
    if (with_values_) {
      OP_REQUIRES_OK(ctx, CheckDim(*table, dim_));
      OP_REQUIRES_OK(ctx, CheckValueDtype(*table, value_dtype_, "attribute V"));
    }
    const std::unique_ptr<embedding::Snapshot> snapshot = table->table()->BeginSnapshot();
    Columns columns;
    OP_REQUIRES_OK(ctx, Allocate(ctx, *snapshot, &columns));
    embedding::RowBatch batch;
    int64_t i = 0;
    while (snapshot->Next(&batch)) {
      const uint8_t* row = batch.rows;
      for (int64_t j = 0; j < batch.count; ++j, ++i, row += snapshot->layout().stride) {
        Scatter(snapshot->layout(), row, i, columns);
      }
    }
  }

 private:
  absl::Status Allocate(OpKernelContext* ctx, const embedding::Snapshot& snapshot,
                        Columns* columns) const {
    const int64_t rows = snapshot.rows();
    const RowLayout& layout = snapshot.layout();
    Tensor* tensor;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, TensorShape({rows}), &tensor));
    if (key_dtype_ == tensorflow::DT_INT32) {
      columns->keys32 = static_cast<int32_t*>(tensor->data());
    } else {
      columns->keys64 = static_cast<int64_t*>(tensor->data());
    }
    if (!with_values_) return absl::OkStatus();
    TF_RETURN_IF_ERROR(ctx->allocate_output(1, TensorShape({rows, dim_}), &tensor));
    columns->values = static_cast<uint8_t*>(tensor->data());
    if (!with_slots_) return absl::OkStatus();
    TF_RETURN_IF_ERROR(
        ctx->allocate_output(2, TensorShape({rows, layout.num_slots, dim_}), &tensor));
    columns->slots = static_cast<float*>(tensor->data());
    TF_RETURN_IF_ERROR(ctx->allocate_output(3, TensorShape({rows, layout.num_scalars}), &tensor));
    columns->scalars = static_cast<float*>(tensor->data());
    TF_RETURN_IF_ERROR(ctx->allocate_output(4, TensorShape({rows}), &tensor));
    columns->freq = static_cast<int64_t*>(tensor->data());
    TF_RETURN_IF_ERROR(ctx->allocate_output(5, TensorShape({rows}), &tensor));
    columns->step = static_cast<int64_t*>(tensor->data());
    return absl::OkStatus();
  }

  const bool with_values_;
  const bool with_slots_;
  int64_t dim_;
  tensorflow::DataType key_dtype_;
  tensorflow::DataType value_dtype_;
};

}  // namespace

void RegisterExportKernels() {
  REGISTER_KERNEL_BUILDER(Name("TacoTableExportKeys").Device(tensorflow::DEVICE_CPU), ExportKernel);
  REGISTER_KERNEL_BUILDER(Name("TacoTableExport").Device(tensorflow::DEVICE_CPU), ExportKernel);
  REGISTER_KERNEL_BUILDER(Name("TacoTableExportSlots").Device(tensorflow::DEVICE_CPU),
                          ExportKernel);
}

}  // namespace ops
}  // namespace taco
