// Signatures of the ops on a whole table.
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tf_ops/embedding/ops/registration.h"
#include "tf_ops/embedding/ops/shape_fns.h"

namespace taco {
namespace ops {
namespace {

using tensorflow::shape_inference::ShapeAndType;

// A table is seen as a matrix of unknown height: what gradients and checkpoints ask of a handle.
absl::Status TableShape(InferenceContext* c) {
  int64_t dim;
  tensorflow::DataType dtype;
  TF_RETURN_IF_ERROR(c->GetAttr("dim", &dim));
  TF_RETURN_IF_ERROR(c->GetAttr("value_dtype", &dtype));
  c->set_output(0, c->Scalar());
  c->set_output_handle_shapes_and_types(
      0, {ShapeAndType(c->Matrix(InferenceContext::kUnknownDim, dim), dtype)});
  return absl::OkStatus();
}

absl::Status ReserveShape(InferenceContext* c) {
  TF_RETURN_IF_ERROR(HandleShape(c));
  tensorflow::shape_inference::ShapeHandle unused;
  return c->WithRank(c->input(1), 0, &unused);
}

}  // namespace

void DefineTableOps() {
  REGISTER_OP("TacoTable")
      .Output("table: resource")
      .Attr("container: string = ''")
      .Attr("shared_name: string = ''")
      .Attr("table_name: string = ''")
      .Attr("key_dtype: {int32, int64} = DT_INT64")
      .Attr("value_dtype: {float, bfloat16, half} = DT_FLOAT")
      .Attr("dim: int >= 1")
      .Attr("initializer: string = 'zeros'")
      .Attr("init_size: int >= 0 = 0")
      .SetIsStateful()
      .SetShapeFn(TableShape)
      .Doc(R"doc(
Gives a handle to a dynamic hash table of embedding rows, creating the table the first time.

Every 32- or 64-bit key is legal. The table grows as keys are inserted. Fails with InvalidArgument
if the initializer's text or dim is out of range, or if a table of this name exists with other
attributes.

table: scalar handle.
container: where the resource lives; empty: the default container.
shared_name: the resource's name; empty: the node's name. Handles of one name share one table. With
  TensorFlow's name for anonymous resources each run makes a table that lives as long as its handle.
table_name: what the rows' initial values depend on, with the initializer's seed and the key;
  empty: the resource's name. Give it where they must be the same after tf.saved_model.load, which
  changes shared_name.
key_dtype: dtype of keys.
value_dtype: dtype of rows. Optimizer slots are float32 always.
dim: length of a row, 1 to 4096.
initializer: zeros, constant:c, uniform:low,high, normal:mean,stddev,
  truncated_normal:mean,stddev, glorot_uniform or glorot_normal; `;seed=n` may follow.
init_size: rows expected; sizes the index and nothing else.
)doc");

  REGISTER_OP("TacoTableDestroy")
      .Input("table: resource")
      .Attr("ignore_lookup_error: bool = true")
      .SetIsStateful()
      .SetShapeFn(HandleShape)
      .Doc(R"doc(
Drops a table from its resource manager. Calls under way finish first; then its memory is freed.

table: scalar handle; of no use afterwards.
ignore_lookup_error: whether a table that is gone already is no error (else NotFound).
)doc");

  REGISTER_OP("TacoTableSize")
      .Input("table: resource")
      .Output("size: int64")
      .SetIsStateful()
      .SetShapeFn(HandleToScalarShape)
      .Doc(R"doc(
Counts the rows of a table. Exact when no update is under way.

table: scalar handle.
size: scalar.
)doc");

  REGISTER_OP("TacoTableStats")
      .Input("table: resource")
      .Output("stats: string")
      .SetIsStateful()
      .SetShapeFn(HandleToScalarShape)
      .Doc(R"doc(
Describes a table in JSON. Walks the index: O(rows).

table: scalar handle.
stats: scalar, a JSON object: name, key_dtype, dtype, dim, initializer, optimizer, slots (their
  names), scalars, rows, bytes, payload_bytes, index_bytes, free_rows, load, mean_probe, max_probe,
  growths, shrinks, lookups, hits, hit_rate, inserts, erases, simd. lookups counts the keys, once
  for each time, that TacoTableGather and TacoTableFind were asked for since the table was made
  (clearing it does not reset that), hits those that were there, and hit_rate is their ratio, 0
  before the first.
)doc");

  REGISTER_OP("TacoTableClear")
      .Input("table: resource")
      .SetIsStateful()
      .SetShapeFn(HandleShape)
      .Doc(R"doc(
Erases every row and gives the memory back. Waits for a save under way to end.

table: scalar handle.
)doc");

  REGISTER_OP("TacoTableShrink")
      .Input("table: resource")
      .SetIsStateful()
      .SetShapeFn(HandleShape)
      .Doc(R"doc(
Compacts a table and gives what is free back to the system. Waits for a save under way to end.

table: scalar handle.
)doc");

  REGISTER_OP("TacoTableReserve")
      .Input("table: resource")
      .Input("rows: int64")
      .SetIsStateful()
      .SetShapeFn(ReserveShape)
      .Doc(R"doc(
Makes room in the index for so many rows in all.

table: scalar handle.
rows: scalar, not negative.
)doc");

  REGISTER_OP("TacoVersion")
      .Output("version: string")
      .SetIsStateful()
      .SetShapeFn([](InferenceContext* c) {
        c->set_output(0, c->Scalar());
        return absl::OkStatus();
      })
      .Doc(R"doc(
Says what this library is.

version: scalar, a JSON object: taco (version), tensorflow_built, tensorflow_running, simd (the
  instruction set in use), file_format.
)doc");
}

}  // namespace ops
}  // namespace taco
