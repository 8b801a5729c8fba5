// Signatures of the ops that save and restore tables.
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tf_ops/embedding/ops/registration.h"
#include "tf_ops/embedding/ops/shape_fns.h"

namespace taco {
namespace ops {
namespace {

using tensorflow::shape_inference::ShapeHandle;

absl::Status SaveShape(InferenceContext* c) {
  int64_t tables;
  TF_RETURN_IF_ERROR(c->GetAttr("N", &tables));
  ShapeHandle unused;
  for (int64_t i = 0; i < tables; ++i) {
    TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 0, &unused));
  }
  TF_RETURN_IF_ERROR(c->WithRank(c->input(tables), 0, &unused));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(tables + 1), 1, &unused));
  c->set_output(0, c->Vector(tables));
  return absl::OkStatus();
}

absl::Status RestoreShape(InferenceContext* c) {
  TF_RETURN_IF_ERROR(HandleShape(c));
  ShapeHandle unused;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 0, &unused));
  return c->WithRank(c->input(2), 0, &unused);
}

}  // namespace

void DefineFileOps() {
  REGISTER_OP("TacoTablesSave")
      .Input("tables: N * resource")
      .Input("prefix: string")
      .Input("keep: string")
      .Output("manifests: string")
      .Attr("N: int >= 0")
      .Attr("delete_orphans: bool = true")
      .SetIsStateful()
      .SetShapeFn(SaveShape)
      .Doc(R"doc(
Saves tables as they are at one moment, while training goes on. No update is split by it, neither
within a table nor across them.

File i is prefix + the suffix in manifests[i]. A suffix is never used twice and looks like that of
a TensorFlow checkpoint's shard, so that TensorFlow's checkpoint managers delete the file with the
checkpoint. Each is written under a temporary name, synced, and renamed after all are complete: a
save that fails or is killed leaves earlier files as they were. Errors name the file. Fails with
InvalidArgument if prefix is empty or a table is named twice.

tables: scalar handles.
prefix: scalar: folder and start of the files' names; a missing folder is made.
keep: [m]: suffixes that the checkpoint now at prefix names: not to be deleted as orphans.
manifests: [N]: JSON objects for TacoTableRestore: format, suffix, rows, digest, bytes, table.
delete_orphans: whether to delete, in the end, table files of this prefix that are neither this
  save's nor in keep: what interrupted saves have left. Switch it off where several processes save
  to one prefix.
)doc");

  REGISTER_OP("TacoTableRestore")
      .Input("table: resource")
      .Input("prefix: string")
      .Input("manifest: string")
      .Attr("vectors_only: bool = false")
      .Attr("merge: bool = false")
      .SetIsStateful()
      .SetShapeFn(RestoreShape)
      .Doc(R"doc(
Replaces all rows of a table by those of a file, with slots, frequencies and steps.

The whole file is verified first (checksums, rows, digest, agreement with the manifest and with the
table); until then the table is not touched. Errors name the file: DataLoss if it is corrupt or not
the one that the manifest describes, NotFound if there is none, InvalidArgument if its dim or dtype
is not the table's, FailedPrecondition if it holds another optimizer's slots than the table.

table: scalar handle.
prefix: scalar, as given to TacoTablesSave, or where the files have been moved to.
manifest: scalar, from TacoTablesSave.
vectors_only: whether to leave the file's slots out and set them fresh.
merge: whether to keep the rows whose keys the file does not hold.
)doc");

  REGISTER_OP("TacoTableFileInfo")
      .Input("filename: string")
      .Output("info: string")
      .SetIsStateful()
      .SetShapeFn(HandleToScalarShape)
      .Doc(R"doc(
Reads the header of a table's file. The rows are not verified.

filename: scalar.
info: scalar, a JSON object: file, bytes, table, rows, dim, dtype, optimizer, slots, scalars,
  initializer, seed.
)doc");
}

}  // namespace ops
}  // namespace taco
