// Kernels on a whole table: TacoTable, TacoTableDestroy, Size, Stats, Clear, Shrink, Reserve.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tf_ops/embedding/ops/build_info.h"
#include "tf_ops/embedding/ops/pool_executor.h"
#include "tf_ops/embedding/ops/registration.h"
#include "tf_ops/embedding/ops/status_adapter.h"
#include "tf_ops/embedding/ops/table_resource.h"
#include "tf_ops/embedding/table/json_object.h"
#include "tf_ops/embedding/table/manifest.h"

namespace taco {
namespace ops {
namespace {

using embedding::InitializerSpec;
using embedding::JsonObject;
using embedding::Manifest;
using embedding::TableOptions;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

bool SameInitializer(const InitializerSpec& a, const InitializerSpec& b) {
  return a.kind == b.kind && a.a == b.a && a.b == b.b && a.seed == b.seed;
}

class TableKernel final : public OpKernel {
 public:
  explicit TableKernel(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("key_dtype", &key_dtype_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("value_dtype", &value_dtype_));
    OP_REQUIRES_OK(ctx, ToValueType(value_dtype_, &options_.value_type));
    int64_t dim;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("dim", &dim));
    OP_REQUIRES(ctx, dim >= 1 && dim <= embedding::Table::kMaxDim,
                absl::InvalidArgumentError(absl::StrCat("dim is ", dim, "; it must be 1 to ",
                                                        embedding::Table::kMaxDim, ".")));
    options_.dim = static_cast<int>(dim);
    std::string initializer;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("initializer", &initializer));
    OP_REQUIRES_OK(ctx, ToTensorFlow(InitializerSpec::Parse(initializer, options_.dim,
                                                            &options_.initializer)));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("init_size", &options_.init_size));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("table_name", &options_.name));
  }

  void Compute(OpKernelContext* ctx) override {
    OP_REQUIRES_OK(ctx, InitContainer(ctx->resource_manager()));
    tensorflow::ResourceHandle handle;
    OP_REQUIRES_OK(ctx, container_.name() == tensorflow::ResourceHandle::ANONYMOUS_NAME
                            ? MakeAnonymous(ctx, &handle)
                            : MakeNamed(ctx, &handle));
    Tensor* output;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, {}, &output));
    output->scalar<tensorflow::ResourceHandle>()() = handle;
  }

  bool IsExpensive() override { return false; }

 private:
  absl::Status InitContainer(tensorflow::ResourceMgr* manager) {
    absl::MutexLock lock(&mu_);
    if (container_.resource_manager() != nullptr) return absl::OkStatus();
    TF_RETURN_IF_ERROR(container_.Init(manager, def(), /*use_node_name_as_default=*/true));
    if (options_.name.empty()) options_.name = container_.name();
    return absl::OkStatus();
  }

  // The table is looked up every time: it may have been destroyed, or its container reset.
  absl::Status MakeNamed(OpKernelContext* ctx, tensorflow::ResourceHandle* handle) const {
    TableResource* found = nullptr;
    TF_RETURN_IF_ERROR(container_.resource_manager()->LookupOrCreate<TableResource>(
        container_.container(), container_.name(), &found,
        [this](TableResource** created) { return Create(created); }));
    const TablePtr table(found);
    TF_RETURN_IF_ERROR(CheckSame(*table));
    *handle = tensorflow::MakeResourceHandle<TableResource>(ctx, container_.container(),
                                                            container_.name(), HandleData());
    return absl::OkStatus();
  }

  // A table of its own, known to nobody but its handle and gone with the last copy of it.
  absl::Status MakeAnonymous(OpKernelContext* ctx, tensorflow::ResourceHandle* handle) const {
    TableResource* created = nullptr;
    TF_RETURN_IF_ERROR(Create(&created));
    *handle = tensorflow::ResourceHandle::MakeRefCountingHandle(created, ctx->device()->name(),
                                                                HandleData());
    return absl::OkStatus();
  }

  // What a table looks like to gradients and checkpoints: a matrix of unknown height.
  std::vector<tensorflow::DtypeAndPartialTensorShape> HandleData() const {
    return {{value_dtype_, tensorflow::PartialTensorShape({-1, options_.dim})}};
  }

  absl::Status Create(TableResource** created) const {
    std::unique_ptr<embedding::Table> table;
    TF_RETURN_IF_ERROR(ToTensorFlow(embedding::Table::Create(options_, &table)));
    *created = new TableResource(std::move(table), key_dtype_);
    return absl::OkStatus();
  }

  absl::Status CheckSame(const TableResource& table) const {
    const TableOptions& there = table.options();
    const char* differs = there.dim != options_.dim                 ? "dim"
                          : there.value_type != options_.value_type ? "value_dtype"
                          : table.key_dtype() != key_dtype_         ? "key_dtype"
                          : there.name != options_.name             ? "table_name"
                          : SameInitializer(there.initializer, options_.initializer)
                              ? nullptr
                              : "initializer";
    if (differs == nullptr) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("a table with shared_name '", container_.name(), "' exists and has another ",
                     differs, " (it is a ", table.DebugString(),
                     "). Use the same attributes to share it, or another ", "shared_name."));
  }

  tensorflow::DataType key_dtype_;
  tensorflow::DataType value_dtype_;
  absl::Mutex mu_;
  TableOptions options_;                 // name: complete after InitContainer
  tensorflow::ContainerInfo container_;  // fixed after InitContainer
};

class DestroyKernel final : public OpKernel {
 public:
  explicit DestroyKernel(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("ignore_lookup_error", &ignore_lookup_error_));
  }

  void Compute(OpKernelContext* ctx) override {
    tensorflow::ResourceHandle handle;
    OP_REQUIRES_OK(ctx, tensorflow::HandleFromInput(ctx, 0, &handle));
    const absl::Status status = tensorflow::DeleteResource(ctx, handle);
    if (ignore_lookup_error_ && absl::IsNotFound(status)) return;
    OP_REQUIRES_OK(ctx, status);
  }

 private:
  bool ignore_lookup_error_;
};

class SizeKernel final : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr table;
    OP_REQUIRES_OK(ctx, GetTable(ctx, &table));
    Tensor* size;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, {}, &size));
    size->scalar<int64_t>()() = table->table()->size();
  }

  bool IsExpensive() override { return false; }
};

std::string StatsJson(const TableResource& resource) {
  const embedding::Table& table = *resource.table();
  const embedding::TableStats stats = table.Stats();
  const embedding::OptimizerSpec optimizer = table.optimizer();
  std::vector<std::string> slots;
  for (int i = 0; i < optimizer.num_slots(); ++i) slots.push_back(optimizer.SlotName(i));
  return JsonObject()
      .Add("name", resource.name())
      .Add("key_dtype", tensorflow::DataTypeString(resource.key_dtype()))
      .Add("dtype", tensorflow::DataTypeString(resource.value_dtype()))
      .Add("dim", static_cast<int64_t>(resource.dim()))
      .Add("optimizer", optimizer.Name())
      .Add("slots", slots)
      .Add("scalars", static_cast<int64_t>(optimizer.num_scalars()))
      .Add("rows", stats.rows)
      .Add("bytes", stats.bytes)
      .Add("payload_bytes", stats.payload_bytes)
      .Add("index_bytes", stats.index_bytes)
      .Add("free_rows", stats.free_rows)
      .Add("load", stats.load)
      .Add("mean_probe", stats.mean_probe)
      .Add("max_probe", stats.max_probe)
      .Add("growths", stats.growths)
      .Add("shrinks", stats.shrinks)
      .Add("lookups", stats.lookups)
      .Add("hits", stats.hits)
      .Add("hit_rate", stats.hit_rate)
      .Add("inserts", stats.inserts)
      .Add("erases", stats.erases)
      .Add("simd", std::string(embedding::SimdLevel()))
      .str();
}

class StatsKernel final : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr table;
    OP_REQUIRES_OK(ctx, GetTable(ctx, &table));
    Tensor* stats;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, {}, &stats));
    stats->scalar<tensorflow::tstring>()() = StatsJson(*table);
  }
};

class ClearKernel final : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr table;
    OP_REQUIRES_OK(ctx, GetTable(ctx, &table));
    OP_REQUIRES_OK(ctx, ToTensorFlow(table->table()->Clear()));
  }
};

class ShrinkKernel final : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr table;
    OP_REQUIRES_OK(ctx, GetTable(ctx, &table));
    PoolExecutor executor(ctx, table->table()->size());
    OP_REQUIRES_OK(ctx, ToTensorFlow(table->table()->Shrink(&executor)));
  }
};

class ReserveKernel final : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    TablePtr table;
    OP_REQUIRES_OK(ctx, GetTable(ctx, &table));
    int64_t rows;
    OP_REQUIRES_OK(ctx, GetScalar<int64_t>(ctx, 1, "rows", &rows));
    OP_REQUIRES(
        ctx, rows >= 0,
        absl::InvalidArgumentError(absl::StrCat("rows is ", rows, "; it must not be negative.")));
    table->table()->Reserve(rows);
  }
};

class VersionKernel final : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    Tensor* version;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, {}, &version));
    version->scalar<tensorflow::tstring>()() =
        JsonObject()
            .Add("taco", std::string(kTacoVersion))
            .Add("tensorflow_built", std::string(kTensorFlowBuilt))
            .Add("tensorflow_running", TensorFlowRunning())
            .Add("simd", std::string(embedding::SimdLevel()))
            .Add("file_format", Manifest::kFormat)
            .str();
  }
};

}  // namespace

void RegisterTableKernels() {
  using tensorflow::DEVICE_CPU;
  REGISTER_KERNEL_BUILDER(Name("TacoTable").Device(DEVICE_CPU), TableKernel);
  REGISTER_KERNEL_BUILDER(Name("TacoTableDestroy").Device(DEVICE_CPU), DestroyKernel);
  REGISTER_KERNEL_BUILDER(Name("TacoTableSize").Device(DEVICE_CPU), SizeKernel);
  REGISTER_KERNEL_BUILDER(Name("TacoTableStats").Device(DEVICE_CPU), StatsKernel);
  REGISTER_KERNEL_BUILDER(Name("TacoTableClear").Device(DEVICE_CPU), ClearKernel);
  REGISTER_KERNEL_BUILDER(Name("TacoTableShrink").Device(DEVICE_CPU), ShrinkKernel);
  REGISTER_KERNEL_BUILDER(Name("TacoTableReserve").Device(DEVICE_CPU), ReserveKernel);
  REGISTER_KERNEL_BUILDER(Name("TacoVersion").Device(DEVICE_CPU), VersionKernel);
}

}  // namespace ops
}  // namespace taco
