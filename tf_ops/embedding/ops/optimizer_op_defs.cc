// Signatures of the fused sparse optimizers.
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tf_ops/embedding/ops/optimizer_attrs.h"
#include "tf_ops/embedding/ops/registration.h"
#include "tf_ops/embedding/ops/shape_fns.h"

namespace taco {
namespace ops {
namespace {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::ShapeHandle;

absl::Status ApplyShape(InferenceContext* c) {
  TF_RETURN_IF_ERROR(HandleShape(c));
  TF_RETURN_IF_ERROR(CheckRowsShape(c, 2));
  ShapeHandle step;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(3), 0, &step));
  ShapeHandle hyper;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(4), 1, &hyper));
  DimensionHandle length;
  return c->WithValue(c->Dim(hyper, 0), kNumHyperparameters, &length);
}

}  // namespace

void DefineOptimizerOps() {
  REGISTER_OP("TacoTableApply")
      .Input("table: resource")
      .Input("keys: K")
      .Input("grads: V")
      .Input("step: int64")
      .Input("hyper: H")
      .Attr("K: {int32, int64}")
      .Attr("V: {float, bfloat16, half}")
      .Attr("H: {float, double}")
      .Attr(
          "optimizer: {'sgd', 'momentum', 'adagrad', 'adam', 'sparse_adam', 'rmsprop', "
          "'adadelta', 'ftrl', 'lamb', 'proximal_gradient_descent', 'proximal_adagrad', "
          "'adagrad_da'}")
      .Attr("nesterov: bool = false")
      .Attr("lr_outside_momentum: bool = false")
      .Attr("amsgrad: bool = false")
      .Attr("centered: bool = false")
      .Attr("has_momentum: bool = false")
      .Attr("decay_in_direction: bool = false")
      .Attr("slot_init: list(float) = []")
      .SetIsStateful()
      .SetShapeFn(ApplyShape)
      .Doc(R"doc(
Takes one optimizer step on the rows of a batch, in one pass over row, slots and gradient.

Absent keys are first inserted at their initial value. Gradients of duplicate keys are summed in
float32. Rows that the batch does not name stay as they are. Fails with InvalidArgument if a
hyperparameter is out of range or shapes disagree, and with FailedPrecondition if the rows hold
another optimizer's slots (see TacoTableSetOptimizer).

table: scalar handle.
keys: any shape.
grads: keys.shape + [dim], float, bfloat16 or half, whatever the table holds.
step: scalar, 1 for the first step; adagrad_da computes with it.
hyper: [9]: learning_rate, beta1 (or momentum), beta2 (or rho), epsilon, weight_decay, l1, l2,
  l2_shrinkage, lr_power. An optimizer ignores those that it has no use for. In double, 1 - beta is
  rounded after the subtraction, as in Keras; in float before, as in TensorFlow's own kernels.
optimizer: the update rule.
nesterov: momentum: Nesterov's.
lr_outside_momentum: momentum: accumulate plain gradients, as tf.compat.v1.train does.
amsgrad: adam: keep the largest second moment.
centered: rmsprop: subtract the mean gradient's square.
has_momentum: rmsprop: keep a momentum slot.
decay_in_direction: lamb: weight_decay * weights is part of the direction, as in LAMB's paper.
slot_init: first value of every element of each slot; [] for zeros.
)doc");

  REGISTER_OP("TacoTableSetOptimizer")
      .Input("table: resource")
      .Attr(
          "optimizer: {'none', 'sgd', 'momentum', 'adagrad', 'adam', 'sparse_adam', 'rmsprop', "
          "'adadelta', 'ftrl', 'lamb', 'proximal_gradient_descent', 'proximal_adagrad', "
          "'adagrad_da'}")
      .Attr("nesterov: bool = false")
      .Attr("lr_outside_momentum: bool = false")
      .Attr("amsgrad: bool = false")
      .Attr("centered: bool = false")
      .Attr("has_momentum: bool = false")
      .Attr("decay_in_direction: bool = false")
      .Attr("slot_init: list(float) = []")
      .Attr("drop_slots: bool = false")
      .SetIsStateful()
      .SetShapeFn(HandleShape)
      .Doc(R"doc(
Lays the rows out for an optimizer: vectors stay, slots are set fresh. Nothing happens if the slots
already fit.

Fails with FailedPrecondition if the rows hold another optimizer's slots and drop_slots is false.

table: scalar handle.
optimizer: as TacoTableApply's; 'none': no slots.
nesterov: as TacoTableApply's.
lr_outside_momentum: as TacoTableApply's.
amsgrad: as TacoTableApply's.
centered: as TacoTableApply's.
has_momentum: as TacoTableApply's.
decay_in_direction: as TacoTableApply's.
slot_init: as TacoTableApply's.
drop_slots: whether another optimizer's slots may be thrown away.
)doc");
}

}  // namespace ops
}  // namespace taco
