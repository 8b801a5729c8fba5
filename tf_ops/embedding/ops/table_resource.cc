#include "tf_ops/embedding/ops/table_resource.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/resource_mgr.h"

namespace taco {
namespace ops {

using tensorflow::DataType;
using tensorflow::DataTypeString;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

absl::Status ToValueType(DataType dtype, embedding::ValueType* type) {
  switch (dtype) {
    case tensorflow::DT_FLOAT:
      *type = embedding::ValueType::kFloat32;
      return absl::OkStatus();
    case tensorflow::DT_BFLOAT16:
      *type = embedding::ValueType::kBFloat16;
      return absl::OkStatus();
    case tensorflow::DT_HALF:
      *type = embedding::ValueType::kFloat16;
      return absl::OkStatus();
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("a table holds float, bfloat16 or half values, not ", DataTypeString(dtype),
                       "; cast to one of them."));
  }
}

DataType ToDataType(embedding::ValueType type) {
  switch (type) {
    case embedding::ValueType::kBFloat16:
      return tensorflow::DT_BFLOAT16;
    case embedding::ValueType::kFloat16:
      return tensorflow::DT_HALF;
    case embedding::ValueType::kFloat32:
      break;
  }
  return tensorflow::DT_FLOAT;
}

TableResource::TableResource(std::unique_ptr<embedding::Table> table, DataType key_dtype)
    : table_(std::move(table)), key_dtype_(key_dtype) {}

std::string TableResource::DebugString() const {
  return absl::StrCat("TACO table '", name(), "': ", table_->size(), " rows of ", dim(), " ",
                      DataTypeString(value_dtype()), " by ", DataTypeString(key_dtype_),
                      " key, optimizer ", table_->optimizer().Name());
}

int64_t TableResource::MemoryUsed() const { return table_->Stats().bytes; }

absl::Status GetTable(OpKernelContext* ctx, const Tensor& handle, TablePtr* table) {
  if (handle.NumElements() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("a table handle must be one resource, but the input has shape ",
                     handle.shape().DebugString(), "."));
  }
  const tensorflow::ResourceHandle& resource = handle.flat<tensorflow::ResourceHandle>()(0);
  const absl::Status status = tensorflow::LookupResource(ctx, resource, table);
  if (status.ok()) return status;
  return absl::Status(
      status.code(),
      absl::StrCat("no TACO table behind the handle '", resource.name(),
                   "': it was destroyed, it belongs to another session or device, or the handle "
                   "is of another kind of resource. Make a handle with TacoTable. (",
                   status.message(), ")"));
}

absl::Status GetTable(OpKernelContext* ctx, TablePtr* table, int index) {
  return GetTable(ctx, ctx->input(index), table);
}

absl::Status Keys::Init(OpKernelContext* ctx, const TableResource& table, const Tensor& keys) {
  TF_RETURN_IF_ERROR(CheckKeyDtype(table, keys.dtype()));
  size_ = keys.NumElements();
  if (keys.dtype() == tensorflow::DT_INT64) {
    data_ = static_cast<const int64_t*>(keys.data());
    return absl::OkStatus();
  }
  TF_RETURN_IF_ERROR(ctx->allocate_temp(tensorflow::DT_INT64, TensorShape({size_}), &widened_));
  const int32_t* from = static_cast<const int32_t*>(keys.data());
  int64_t* to = static_cast<int64_t*>(widened_.data());
  for (int64_t i = 0; i < size_; ++i) to[i] = from[i];
  data_ = to;
  return absl::OkStatus();
}

absl::Status RowsShape(const TableResource& table, const Tensor& keys, TensorShape* shape) {
  *shape = keys.shape();
  absl::Status status = shape->AddDimWithStatus(table.dim());
  if (status.ok()) return status;
  return absl::InvalidArgumentError(
      absl::StrCat(keys.NumElements(), " keys of table '", table.name(), "' with dim ", table.dim(),
                   " are more values than a tensor holds; use smaller batches."));
}

absl::Status CheckRows(const TableResource& table, const Tensor& keys, const Tensor& rows,
                       const char* input) {
  TF_RETURN_IF_ERROR(CheckValueDtype(table, rows.dtype(), input));
  return CheckRowsAnyDtype(table, keys, rows, input);
}

absl::Status CheckRowsAnyDtype(const TableResource& table, const Tensor& keys, const Tensor& rows,
                               const char* input) {
  TensorShape expected;
  TF_RETURN_IF_ERROR(RowsShape(table, keys, &expected));
  if (rows.shape() == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      input, " has shape ", rows.shape().DebugString(), ", but table '", table.name(), "' needs ",
      expected.DebugString(), ": one row of dim ", table.dim(), " for each of keys ",
      keys.shape().DebugString(), ". Reshape ", input, " or keys."));
}

absl::Status CheckValueDtype(const TableResource& table, DataType dtype, const char* what) {
  if (dtype == table.value_dtype()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, " is ", DataTypeString(dtype), ", but table '", table.name(), "' holds ",
                   DataTypeString(table.value_dtype()), " values; cast to that."));
}

absl::Status CheckKeyDtype(const TableResource& table, DataType dtype) {
  if (dtype == table.key_dtype()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("keys are ", DataTypeString(dtype), ", but table '", table.name(), "' has ",
                   DataTypeString(table.key_dtype()), " keys; cast to that."));
}

absl::Status CheckDim(const TableResource& table, int64_t dim) {
  if (dim == table.dim()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("attribute dim is ", dim, ", but table '",
                                                 table.name(), "' has dim ", table.dim(), "."));
}

}  // namespace ops
}  // namespace taco
