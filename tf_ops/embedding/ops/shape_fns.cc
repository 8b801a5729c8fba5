#include "tf_ops/embedding/ops/shape_fns.h"

#include "tensorflow/core/framework/op_kernel.h"

namespace taco {
namespace ops {

using tensorflow::shape_inference::ShapeHandle;

absl::Status HandleShape(InferenceContext* c) {
  ShapeHandle unused;
  return c->WithRank(c->input(0), 0, &unused);
}

absl::Status HandleToScalarShape(InferenceContext* c) {
  c->set_output(0, c->Scalar());
  return HandleShape(c);
}

absl::Status GatherShape(InferenceContext* c) {
  TF_RETURN_IF_ERROR(HandleShape(c));
  int64_t dim;
  TF_RETURN_IF_ERROR(c->GetAttr("dim", &dim));
  ShapeHandle rows;
  TF_RETURN_IF_ERROR(c->Concatenate(c->input(1), c->Vector(dim), &rows));
  c->set_output(0, rows);
  return absl::OkStatus();
}

absl::Status CheckRowsShape(InferenceContext* c, int rows) {
  ShapeHandle at_least_vector;
  TF_RETURN_IF_ERROR(c->WithRankAtLeast(c->input(rows), 1, &at_least_vector));
  if (!c->RankKnown(at_least_vector)) return absl::OkStatus();
  ShapeHandle prefix;
  TF_RETURN_IF_ERROR(c->Subshape(at_least_vector, 0, -1, &prefix));
  return c->Merge(c->input(1), prefix, &prefix);
}

}  // namespace ops
}  // namespace taco
