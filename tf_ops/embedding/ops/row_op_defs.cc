// Signatures of the ops on rows: lookup, update, export.
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tf_ops/embedding/ops/registration.h"
#include "tf_ops/embedding/ops/shape_fns.h"

namespace taco {
namespace ops {
namespace {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::ShapeHandle;

absl::Status FindShape(InferenceContext* c) {
  c->set_output(1, c->input(1));
  return GatherShape(c);
}

absl::Status UpsertShape(InferenceContext* c) {
  TF_RETURN_IF_ERROR(HandleShape(c));
  return CheckRowsShape(c, 2);
}

absl::Status AccumShape(InferenceContext* c) {
  TF_RETURN_IF_ERROR(UpsertShape(c));
  ShapeHandle unused;
  return c->Merge(c->input(1), c->input(3), &unused);
}

absl::Status ExportKeysShape(InferenceContext* c) {
  TF_RETURN_IF_ERROR(HandleShape(c));
  c->set_output(0, c->Vector(InferenceContext::kUnknownDim));
  return absl::OkStatus();
}

absl::Status ExportShape(InferenceContext* c) {
  TF_RETURN_IF_ERROR(HandleShape(c));
  int64_t dim;
  TF_RETURN_IF_ERROR(c->GetAttr("dim", &dim));
  const DimensionHandle rows = c->UnknownDim();
  c->set_output(0, c->Vector(rows));
  c->set_output(1, c->Matrix(rows, c->MakeDim(dim)));
  return absl::OkStatus();
}

absl::Status ExportSlotsShape(InferenceContext* c) {
  TF_RETURN_IF_ERROR(ExportShape(c));
  const DimensionHandle rows = c->Dim(c->output(0), 0);
  const DimensionHandle dim = c->Dim(c->output(1), 1);
  c->set_output(2, c->MakeShape({rows, c->UnknownDim(), dim}));
  c->set_output(3, c->Matrix(rows, c->UnknownDim()));
  c->set_output(4, c->Vector(rows));
  c->set_output(5, c->Vector(rows));
  return absl::OkStatus();
}

}  // namespace

void DefineRowOps() {
  REGISTER_OP("TacoTableGather")
      .Input("table: resource")
      .Input("keys: K")
      .Output("values: V")
      .Attr("K: {int32, int64}")
      .Attr("V: {float, bfloat16, half} = DT_FLOAT")
      .Attr("dim: int >= 1")
      .SetIsStateful()
      .SetShapeFn(GatherShape)
      .Doc(R"doc(
Looks rows up. An absent key gives its initial value, and is not inserted.

Fails with InvalidArgument if K, V or dim is not the table's.

table: scalar handle.
keys: any shape.
values: keys.shape + [dim].
dim: the table's.
)doc");

  REGISTER_OP("TacoTableFind")
      .Input("table: resource")
      .Input("keys: K")
      .Input("default_value: V")
      .Output("values: V")
      .Output("exists: bool")
      .Attr("K: {int32, int64}")
      .Attr("V: {float, bfloat16, half}")
      .Attr("dim: int >= 1")
      .SetIsStateful()
      .SetShapeFn(FindShape)
      .Doc(R"doc(
Looks rows up, with the caller's default for absent keys. Nothing is inserted.

Fails with InvalidArgument if K, V or dim is not the table's, or default_value has another shape.

table: scalar handle.
keys: any shape.
default_value: [0]: the table's initializer; scalar, [dim] or [1, dim]: the same for every absent
  key; keys.shape + [dim]: one for each key.
values: keys.shape + [dim].
exists: keys.shape: whether the key was there.
dim: the table's.
)doc");

  REGISTER_OP("TacoTableUpsert")
      .Input("table: resource")
      .Input("keys: K")
      .Input("values: V")
      .Attr("K: {int32, int64}")
      .Attr("V: {float, bfloat16, half}")
      .SetIsStateful()
      .SetShapeFn(UpsertShape)
      .Doc(R"doc(
Sets rows, inserting absent keys. Optimizer slots of present rows stay. Of duplicate keys the last
one counts.

table: scalar handle.
keys: any shape.
values: keys.shape + [dim].
)doc");

  REGISTER_OP("TacoTableAccum")
      .Input("table: resource")
      .Input("keys: K")
      .Input("values_or_deltas: V")
      .Input("exists: bool")
      .Attr("K: {int32, int64}")
      .Attr("V: {float, bfloat16, half}")
      .SetIsStateful()
      .SetShapeFn(AccumShape)
      .Doc(R"doc(
Adds deltas to rows that the caller found present, and inserts rows that it found absent. Where the
table has changed since the caller looked, the row is left alone.

table: scalar handle.
keys: any shape.
values_or_deltas: keys.shape + [dim]: a delta where exists, else a value.
exists: keys.shape: what TacoTableFind said.
)doc");

  REGISTER_OP("TacoTableRemove")
      .Input("table: resource")
      .Input("keys: K")
      .Output("erased: int64")
      .Attr("K: {int32, int64}")
      .SetIsStateful()
      .SetShapeFn(HandleToScalarShape)
      .Doc(R"doc(
Erases rows. Absent keys are ignored.

table: scalar handle.
keys: any shape.
erased: scalar: how many rows went.
)doc");

  REGISTER_OP("TacoTableExportKeys")
      .Input("table: resource")
      .Output("keys: K")
      .Attr("K: {int32, int64} = DT_INT64")
      .SetIsStateful()
      .SetShapeFn(ExportKeysShape)
      .Doc(R"doc(
Gives the keys of all rows that there are at one moment, in no particular order.

table: scalar handle.
keys: [n].
)doc");

  REGISTER_OP("TacoTableExport")
      .Input("table: resource")
      .Output("keys: K")
      .Output("values: V")
      .Attr("K: {int32, int64} = DT_INT64")
      .Attr("V: {float, bfloat16, half} = DT_FLOAT")
      .Attr("dim: int >= 1")
      .SetIsStateful()
      .SetShapeFn(ExportShape)
      .Doc(R"doc(
Gives all rows as they are at one moment, in no particular order.

table: scalar handle.
keys: [n].
values: [n, dim].
dim: the table's.
)doc");

  REGISTER_OP("TacoTableExportSlots")
      .Input("table: resource")
      .Output("keys: K")
      .Output("values: V")
      .Output("slots: float")
      .Output("scalars: float")
      .Output("freq: int64")
      .Output("step: int64")
      .Attr("K: {int32, int64} = DT_INT64")
      .Attr("V: {float, bfloat16, half} = DT_FLOAT")
      .Attr("dim: int >= 1")
      .SetIsStateful()
      .SetShapeFn(ExportSlotsShape)
      .Doc(R"doc(
Gives all rows with their optimizer state as they are at one moment, in no particular order.

table: scalar handle.
keys: [n].
values: [n, dim].
slots: [n, number of slots, dim], in the order that TacoTableStats names them.
scalars: [n, number of scalars].
freq: [n]: updates that the row has seen.
step: [n]: step of its last update, low 32 bits.
dim: the table's.
)doc");
}

}  // namespace ops
}  // namespace taco
