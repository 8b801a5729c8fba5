// TacoTableRestore and TacoTableFileInfo.
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tf_ops/embedding/ops/checkpoint_files.h"
#include "tf_ops/embedding/ops/pool_executor.h"
#include "tf_ops/embedding/ops/registration.h"
#include "tf_ops/embedding/ops/status_adapter.h"
#include "tf_ops/embedding/ops/table_resource.h"
#include "tf_ops/embedding/table/json_object.h"
#include "tf_ops/embedding/table/manifest.h"
#include "tf_ops/embedding/table/table_file.h"

namespace taco {
namespace ops {
namespace {

using embedding::JsonObject;
using embedding::Manifest;
using embedding::OptimizerSpec;
using embedding::RowLayout;
using embedding::TableFileReader;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

bool HasSlots(const OptimizerSpec& spec) { return spec.num_slots() + spec.num_scalars() > 0; }

// What the header of a file says about putting it into a table.
absl::Status CheckFits(const TableResource& table, const embedding::TableFileInfo& info,
                       bool vectors_only, const std::string& file) {
  if (info.layout.dim != table.dim() || info.layout.value_type != table.options().value_type) {
    return absl::InvalidArgumentError(absl::StrCat(
        file, " holds rows of ", info.layout.dim, " ",
        tensorflow::DataTypeString(ToDataType(info.layout.value_type)), ", but table '",
        table.name(), "' has rows of ", table.dim(), " ",
        tensorflow::DataTypeString(table.value_dtype()), "; make a table like the file's."));
  }
  const OptimizerSpec now = table.table()->optimizer();
  if (!vectors_only && HasSlots(info.optimizer) && HasSlots(now) &&
      !now.SameSlots(info.optimizer)) {
    return absl::FailedPreconditionError(
        absl::StrCat(file, " holds slots of ", info.optimizer.Name(), ", but table '", table.name(),
                     "' has slots of ", now.Name(),
                     ". Train with the file's optimizer, or restore with vectors_only."));
  }
  return absl::OkStatus();
}

absl::Status CheckKeysFit(const TableResource& table, const RowLayout& layout, const uint8_t* rows,
                          int64_t count, const std::string& file) {
  if (table.key_dtype() != tensorflow::DT_INT32) return absl::OkStatus();
  for (int64_t i = 0; i < count; ++i, rows += layout.stride) {
    const int64_t key = RowLayout::Header(rows)->key;
    if (key < std::numeric_limits<int32_t>::min() || key > std::numeric_limits<int32_t>::max()) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, " holds the key ", key, ", but table '", table.name(),
                       "' has int32 keys; make a table with int64 keys."));
    }
  }
  return absl::OkStatus();
}

// A file being read: open, then rows batch by batch until *count is 0.
class TableFileStream {
 public:
  explicit TableFileStream(const std::string& name) : name_(name), reader_(&source_, name) {}

  absl::Status Open(tensorflow::Env* env) {
    TF_RETURN_IF_ERROR(source_.Open(env, name_));
    return ToTensorFlow(reader_.Open());
  }
  absl::Status Next(const uint8_t** rows, int64_t* count) {
    return ToTensorFlow(reader_.Next(rows, count));
  }
  const embedding::TableFileInfo& info() const { return reader_.info(); }
  uint32_t digest() const { return reader_.digest(); }
  int64_t bytes() const { return source_.bytes(); }

 private:
  const std::string name_;
  FileSource source_;
  TableFileReader reader_;
};

class RestoreKernel final : public OpKernel {
 public:
  explicit RestoreKernel(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("vectors_only", &vectors_only_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("merge", &merge_));
  }

  void Compute(OpKernelContext* ctx) override {
    TablePtr table;
    OP_REQUIRES_OK(ctx, GetTable(ctx, &table));
    tensorflow::tstring prefix;
    OP_REQUIRES_OK(ctx, GetScalar<tensorflow::tstring>(ctx, 1, "prefix", &prefix));
    tensorflow::tstring json;
    OP_REQUIRES_OK(ctx, GetScalar<tensorflow::tstring>(ctx, 2, "manifest", &json));
    Manifest manifest;
    OP_REQUIRES_OK(ctx, ToTensorFlow(Manifest::FromJson(json, &manifest)));
    const std::string file = std::string(prefix) + manifest.suffix;
    OP_REQUIRES_OK(ctx, Verify(ctx->env(), *table, manifest, file));
    OP_REQUIRES_OK(ctx, Import(ctx, *table, manifest, file));
  }

 private:
  absl::Status Verify(tensorflow::Env* env, const TableResource& table, const Manifest& manifest,
                      const std::string& file) const {
    TableFileStream stream(file);
    TF_RETURN_IF_ERROR(stream.Open(env));
    TF_RETURN_IF_ERROR(CheckFits(table, stream.info(), vectors_only_, file));
    for (;;) {
      const uint8_t* rows;
      int64_t count;
      TF_RETURN_IF_ERROR(stream.Next(&rows, &count));
      if (count == 0) break;
      TF_RETURN_IF_ERROR(CheckKeysFit(table, stream.info().layout, rows, count, file));
    }
    if (stream.digest() != manifest.digest || stream.info().rows != manifest.rows ||
        stream.bytes() != manifest.bytes) {
      return absl::DataLossError(absl::StrFormat(
          "%s is sound in itself, but not the file that the checkpoint was written with: it has "
          "%d rows, %d bytes and digest %08x, where %d, %d and %08x are expected. Restore the "
          "file of the same save.",
          file, stream.info().rows, stream.bytes(), stream.digest(), manifest.rows, manifest.bytes,
          manifest.digest));
    }
    return absl::OkStatus();
  }

  absl::Status Import(OpKernelContext* ctx, const TableResource& table, const Manifest& manifest,
                      const std::string& file) const {
    TableFileStream stream(file);
    TF_RETURN_IF_ERROR(stream.Open(ctx->env()));
    const OptimizerSpec& spec = stream.info().optimizer;
    // A file saved before the first step has no slots: the rows get fresh ones, as they would have.
    const bool vectors_only = vectors_only_ || !HasSlots(spec);
    if (!merge_) TF_RETURN_IF_ERROR(ToTensorFlow(table.table()->Clear()));
    table.table()->Reserve(manifest.rows + (merge_ ? table.table()->size() : 0));
    for (;;) {
      const uint8_t* rows;
      int64_t count;
      absl::Status status = stream.Next(&rows, &count);
      if (!status.ok()) {
        return absl::Status(
            status.code(),
            absl::StrCat("table '", table.name(), "' is restored in part, as ", file,
                         " changed while it was read; restore again: ", status.message()));
      }
      if (count == 0) return absl::OkStatus();
      PoolExecutor executor(ctx, count);
      TF_RETURN_IF_ERROR(ToTensorFlow(
          table.table()->Import(stream.info().layout, spec, rows, count, vectors_only, &executor)));
    }
  }

  bool vectors_only_;
  bool merge_;
};

const char* InitializerName(embedding::InitializerKind kind) {
  switch (kind) {
    case embedding::InitializerKind::kZeros:
      return "zeros";
    case embedding::InitializerKind::kConstant:
      return "constant";
    case embedding::InitializerKind::kUniform:
      return "uniform";
    case embedding::InitializerKind::kNormal:
      return "normal";
    case embedding::InitializerKind::kTruncatedNormal:
      return "truncated_normal";
  }
  return "unknown";
}

std::string InfoJson(const embedding::TableFileInfo& info, const std::string& file, int64_t bytes) {
  std::vector<std::string> slots;
  for (int i = 0; i < info.optimizer.num_slots(); ++i) {
    slots.push_back(info.optimizer.SlotName(i));
  }
  const embedding::InitializerSpec& initializer = info.initializer;
  return JsonObject()
      .Add("file", file)
      .Add("bytes", bytes)
      .Add("table", info.table_name)
      .Add("rows", info.rows)
      .Add("dim", static_cast<int64_t>(info.layout.dim))
      .Add("dtype", tensorflow::DataTypeString(ToDataType(info.layout.value_type)))
      .Add("optimizer", info.optimizer.Name())
      .Add("slots", slots)
      .Add("scalars", static_cast<int64_t>(info.layout.num_scalars))
      .Add("initializer", absl::StrFormat("%s:%.9g,%.9g", InitializerName(initializer.kind),
                                          initializer.a, initializer.b))
      .Add("seed", absl::StrCat(initializer.seed))
      .str();
}

class FileInfoKernel final : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    tensorflow::tstring name;
    OP_REQUIRES_OK(ctx, GetScalar<tensorflow::tstring>(ctx, 0, "filename", &name));
    TableFileStream stream(name);
    OP_REQUIRES_OK(ctx, stream.Open(ctx->env()));
    Tensor* info;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, {}, &info));
    info->scalar<tensorflow::tstring>()() = InfoJson(stream.info(), name, stream.bytes());
  }
};

}  // namespace

void RegisterRestoreKernels() {
  REGISTER_KERNEL_BUILDER(Name("TacoTableRestore").Device(tensorflow::DEVICE_CPU), RestoreKernel);
  REGISTER_KERNEL_BUILDER(Name("TacoTableFileInfo").Device(tensorflow::DEVICE_CPU), FileInfoKernel);
}

}  // namespace ops
}  // namespace taco
