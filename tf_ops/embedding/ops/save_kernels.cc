// TacoTablesSave: one consistent cut over any number of tables, streamed to files.
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/platform/path.h"
#include "tf_ops/embedding/ops/checkpoint_files.h"
#include "tf_ops/embedding/ops/registration.h"
#include "tf_ops/embedding/ops/status_adapter.h"
#include "tf_ops/embedding/ops/table_resource.h"
#include "tf_ops/embedding/table/manifest.h"
#include "tf_ops/embedding/table/snapshot.h"
#include "tf_ops/embedding/table/table_file.h"

namespace taco {
namespace ops {
namespace {

using embedding::Snapshot;
using tensorflow::Env;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

// One table on its way into one file.
class TableSaver {
 public:
  TableSaver(Env* env, TablePtr table, const std::string& prefix, std::string suffix)
      : table_(std::move(table)),
        suffix_(std::move(suffix)),
        file_(env, prefix + suffix_),
        writer_(&file_, file_.name()) {}

  embedding::Table* table() const { return table_->table(); }
  const std::string& suffix() const { return suffix_; }
  AtomicFile* file() { return &file_; }

  absl::Status Begin(std::unique_ptr<Snapshot> snapshot) {
    snapshot_ = std::move(snapshot);
    embedding::TableFileInfo info;
    info.table_name = table_->name();
    info.layout = snapshot_->layout();
    info.optimizer = snapshot_->optimizer();
    info.initializer = table_->options().initializer;
    info.rows = rows_ = snapshot_->rows();
    return ToTensorFlow(writer_.Begin(info));
  }

  // Writes some thousand rows; at the end completes the file and lets go of the snapshot.
  absl::Status Step() {
    embedding::RowBatch batch;
    if (snapshot_->Next(&batch)) return ToTensorFlow(writer_.Add(batch.rows, batch.count));
    snapshot_.reset();
    TF_RETURN_IF_ERROR(ToTensorFlow(writer_.Finish()));
    return file_.Close();
  }

  bool done() const { return snapshot_ == nullptr; }

  std::string ManifestJson() const {
    embedding::Manifest manifest;
    manifest.suffix = suffix_;
    manifest.rows = rows_;
    manifest.digest = writer_.digest();
    manifest.bytes = file_.bytes();
    manifest.table = table_->name();
    return manifest.ToJson();
  }

 private:
  const TablePtr table_;
  const std::string suffix_;
  AtomicFile file_;
  embedding::TableFileWriter writer_;
  std::unique_ptr<Snapshot> snapshot_;
  int64_t rows_ = 0;
};

using Savers = std::vector<std::unique_ptr<TableSaver>>;

// All tables take turns: the side buffers of all are drained all the time, so that training waits
// for none of them.
absl::Status WriteAll(const Savers& savers) {
  std::vector<embedding::Table*> tables;
  for (const auto& saver : savers) tables.push_back(saver->table());
  std::vector<std::unique_ptr<Snapshot>> snapshots = embedding::Table::BeginSnapshots(tables);
  for (size_t i = 0; i < savers.size(); ++i) {
    TF_RETURN_IF_ERROR(savers[i]->Begin(std::move(snapshots[i])));
  }
  for (bool more = true; more;) {
    more = false;
    for (const auto& saver : savers) {
      if (saver->done()) continue;
      TF_RETURN_IF_ERROR(saver->Step());
      more = more || !saver->done();
    }
  }
  return absl::OkStatus();
}

absl::Status CommitAll(const Savers& savers) {
  for (size_t i = 0; i < savers.size(); ++i) {
    const absl::Status status = savers[i]->file()->Commit();
    if (status.ok()) continue;
    for (size_t j = 0; j < i; ++j) savers[j]->file()->Delete();
    return status;
  }
  return absl::OkStatus();
}

class SaveKernel final : public OpKernel {
 public:
  explicit SaveKernel(OpKernelConstruction* ctx) : OpKernel(ctx) {
    int64_t tables;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("N", &tables));
    num_tables_ = static_cast<int>(tables);
    OP_REQUIRES_OK(ctx, ctx->GetAttr("delete_orphans", &delete_orphans_));
  }

  void Compute(OpKernelContext* ctx) override {
    std::string prefix;
    std::set<std::string> keep;
    OP_REQUIRES_OK(ctx, GetNames(ctx, &prefix, &keep));
    Savers savers;
    OP_REQUIRES_OK(ctx, OpenAll(ctx, prefix, keep, &savers));
    OP_REQUIRES_OK(ctx, WriteAll(savers));
    OP_REQUIRES_OK(ctx, CommitAll(savers));
    Tensor* manifests;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, {num_tables_}, &manifests));
    for (int i = 0; i < num_tables_; ++i) {
      manifests->vec<tensorflow::tstring>()(i) = savers[i]->ManifestJson();
      keep.insert(savers[i]->suffix());
    }
    if (delete_orphans_) DeleteOrphans(ctx->env(), prefix, keep);
  }

 private:
  absl::Status GetNames(OpKernelContext* ctx, std::string* prefix,
                        std::set<std::string>* keep) const {
    tensorflow::tstring text;
    TF_RETURN_IF_ERROR(GetScalar<tensorflow::tstring>(ctx, num_tables_, "prefix", &text));
    *prefix = text;
    if (tensorflow::io::Basename(*prefix).empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "prefix is '", *prefix, "'; give the folder and the start of the files' names."));
    }
    const Tensor& suffixes = ctx->input(num_tables_ + 1);
    if (suffixes.dims() != 1) {
      return absl::InvalidArgumentError(absl::StrCat("keep must have one dimension, but has shape ",
                                                     suffixes.shape().DebugString(),
                                                     "; pass [] to keep none."));
    }
    for (int64_t i = 0; i < suffixes.NumElements(); ++i) {
      keep->insert(suffixes.vec<tensorflow::tstring>()(i));
    }
    return absl::OkStatus();
  }

  // The files are made before the cut: a folder that cannot be written costs training nothing.
  absl::Status OpenAll(OpKernelContext* ctx, const std::string& prefix, std::set<std::string> taken,
                       Savers* savers) const {
    Env* const env = ctx->env();
    const std::string folder(tensorflow::io::Dirname(prefix));
    if (!folder.empty()) {
      TF_RETURN_IF_ERROR(NameFile(env->RecursivelyCreateDir(folder), "cannot make folder", folder));
    }
    std::set<const embedding::Table*> seen;
    for (int i = 0; i < num_tables_; ++i) {
      TablePtr table;
      TF_RETURN_IF_ERROR(GetTable(ctx, &table, i));
      if (!seen.insert(table->table()).second) {
        return absl::InvalidArgumentError(
            absl::StrCat("table '", table->name(), "' is given twice; name each table once."));
      }
      std::string suffix = NewSuffix(env, prefix, i, taken);
      taken.insert(suffix);
      savers->push_back(
          std::make_unique<TableSaver>(env, std::move(table), prefix, std::move(suffix)));
      TF_RETURN_IF_ERROR(savers->back()->file()->Open());
    }
    return absl::OkStatus();
  }

  int num_tables_;
  bool delete_orphans_;
};

}  // namespace

void RegisterSaveKernels() {
  REGISTER_KERNEL_BUILDER(Name("TacoTablesSave").Device(tensorflow::DEVICE_CPU), SaveKernel);
}

}  // namespace ops
}  // namespace taco
