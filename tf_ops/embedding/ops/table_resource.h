// TableResource: a table in TensorFlow's resource manager. Kernels reach it by a handle. START HERE
// for the op kernels: each is GetTable, then Keys and the checks below, then one call of the core.
#ifndef TF_OPS_EMBEDDING_OPS_TABLE_RESOURCE_H_
#define TF_OPS_EMBEDDING_OPS_TABLE_RESOURCE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_base.h"
#include "tf_ops/embedding/table/table.h"

namespace taco {
namespace ops {

// float32, bfloat16 or float16; InvalidArgument for others.
absl::Status ToValueType(tensorflow::DataType dtype, embedding::ValueType* type);
tensorflow::DataType ToDataType(embedding::ValueType type);

class TableResource final : public tensorflow::ResourceBase {
 public:
  TableResource(std::unique_ptr<embedding::Table> table, tensorflow::DataType key_dtype);

  std::string DebugString() const override;
  int64_t MemoryUsed() const override;

  embedding::Table* table() const { return table_.get(); }  // thread-safe, never null
  tensorflow::DataType key_dtype() const { return key_dtype_; }
  tensorflow::DataType value_dtype() const { return ToDataType(options().value_type); }
  const embedding::TableOptions& options() const { return table_->options(); }
  const std::string& name() const { return table_->options().name; }
  int dim() const { return table_->options().dim; }

 private:
  const std::unique_ptr<embedding::Table> table_;
  const tensorflow::DataType key_dtype_;
};

using TablePtr = tensorflow::core::RefCountPtr<TableResource>;

// The table of the handle in input `index`, or (a list input) in `handle`.
absl::Status GetTable(tensorflow::OpKernelContext* ctx, TablePtr* table, int index = 0);
absl::Status GetTable(tensorflow::OpKernelContext* ctx, const tensorflow::Tensor& handle,
                      TablePtr* table);

// The keys of one call as the core wants them. int64 keys are used where they lie.
class Keys {
 public:
  // InvalidArgument if the dtype is not the table's. `keys` must outlive this.
  absl::Status Init(tensorflow::OpKernelContext* ctx, const TableResource& table,
                    const tensorflow::Tensor& keys);

  const int64_t* data() const { return data_; }
  int64_t size() const { return size_; }

 private:
  const int64_t* data_ = nullptr;
  int64_t size_ = 0;
  tensorflow::Tensor widened_;
};

// keys.shape + [dim]; InvalidArgument if that has more elements than an int64 counts.
absl::Status RowsShape(const TableResource& table, const tensorflow::Tensor& keys,
                       tensorflow::TensorShape* shape);

// InvalidArgument, naming the input, unless `rows` has shape keys.shape + [dim], and (CheckRows)
// the table's value dtype.
absl::Status CheckRowsAnyDtype(const TableResource& table, const tensorflow::Tensor& keys,
                               const tensorflow::Tensor& rows, const char* input);
absl::Status CheckRows(const TableResource& table, const tensorflow::Tensor& keys,
                       const tensorflow::Tensor& rows, const char* input);

// InvalidArgument unless `dtype` is the table's value dtype, or key dtype.
absl::Status CheckValueDtype(const TableResource& table, tensorflow::DataType dtype,
                             const char* what);
absl::Status CheckKeyDtype(const TableResource& table, tensorflow::DataType dtype);

// InvalidArgument unless the op's attribute dim is the table's.
absl::Status CheckDim(const TableResource& table, int64_t dim);

// The value of a scalar input.
template <typename T>
absl::Status GetScalar(tensorflow::OpKernelContext* ctx, int index, const char* input, T* value) {
  const tensorflow::Tensor& tensor = ctx->input(index);
  if (tensor.dims() != 0) {
    return absl::InvalidArgumentError(std::string(input) + " must be a scalar, but has shape " +
                                      tensor.shape().DebugString() + ".");
  }
  *value = tensor.scalar<T>()();
  return absl::OkStatus();
}

}  // namespace ops
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_OPS_TABLE_RESOURCE_H_
