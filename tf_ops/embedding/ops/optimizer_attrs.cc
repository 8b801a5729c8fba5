#include "tf_ops/embedding/ops/optimizer_attrs.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tf_ops/embedding/ops/table_resource.h"

namespace taco {
namespace ops {
namespace {

using embedding::OptimizerKind;

struct Kind {
  const char* name;
  OptimizerKind kind;
  uint32_t flags;  // those that it has
};

constexpr Kind kKinds[] = {
    {"none", OptimizerKind::kNone, 0},
    {"sgd", OptimizerKind::kSgd, 0},
    {"momentum", OptimizerKind::kMomentum, embedding::kNesterov | embedding::kLrOutsideMomentum},
    {"adagrad", OptimizerKind::kAdagrad, 0},
    {"adam", OptimizerKind::kAdam, embedding::kAmsgrad},
    {"sparse_adam", OptimizerKind::kSparseAdam, 0},
    {"rmsprop", OptimizerKind::kRmsprop, embedding::kCentered | embedding::kHasMomentum},
    {"adadelta", OptimizerKind::kAdadelta, 0},
    {"ftrl", OptimizerKind::kFtrl, 0},
    {"lamb", OptimizerKind::kLamb, embedding::kDecayInDirection},
    {"proximal_gradient_descent", OptimizerKind::kProximalGradientDescent, 0},
    {"proximal_adagrad", OptimizerKind::kProximalAdagrad, 0},
    {"adagrad_da", OptimizerKind::kAdagradDa, 0},
};

struct Flag {
  const char* name;
  uint32_t bit;
};

constexpr Flag kFlags[] = {
    {"nesterov", embedding::kNesterov},
    {"lr_outside_momentum", embedding::kLrOutsideMomentum},
    {"amsgrad", embedding::kAmsgrad},
    {"centered", embedding::kCentered},
    {"has_momentum", embedding::kHasMomentum},
    {"decay_in_direction", embedding::kDecayInDirection},
};

const Kind* FindKind(const std::string& name) {
  for (const Kind& kind : kKinds) {
    if (name == kind.name) return &kind;
  }
  return nullptr;
}

absl::Status GetSlotInit(tensorflow::OpKernelConstruction* ctx, const std::string& optimizer,
                         embedding::OptimizerSpec* spec) {
  std::vector<float> slot_init;
  TF_RETURN_IF_ERROR(ctx->GetAttr("slot_init", &slot_init));
  if (slot_init.size() > static_cast<size_t>(spec->num_slots())) {
    return absl::InvalidArgumentError(
        absl::StrCat("slot_init has ", slot_init.size(), " values, but optimizer '", optimizer,
                     "' has ", spec->num_slots(), " slots; give one value a slot, or none."));
  }
  for (size_t i = 0; i < slot_init.size(); ++i) {
    if (!std::isfinite(slot_init[i])) {
      return absl::InvalidArgumentError(
          absl::StrCat("slot_init[", i, "] is ", slot_init[i], "; it must be finite."));
    }
    spec->slot_init[i] = slot_init[i];
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status GetOptimizer(tensorflow::OpKernelConstruction* ctx, embedding::OptimizerSpec* spec) {
  std::string name;
  TF_RETURN_IF_ERROR(ctx->GetAttr("optimizer", &name));
  const Kind* kind = FindKind(name);
  if (kind == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("unknown optimizer '", name, "'."));
  }
  *spec = embedding::OptimizerSpec();
  spec->kind = kind->kind;
  for (const Flag& flag : kFlags) {
    bool on;
    TF_RETURN_IF_ERROR(ctx->GetAttr(flag.name, &on));
    if (!on) continue;
    if ((kind->flags & flag.bit) == 0) {
      return absl::InvalidArgumentError(absl::StrCat("optimizer '", name, "' has no option '",
                                                     flag.name, "'; leave it at false."));
    }
    spec->flags |= flag.bit;
  }
  return GetSlotInit(ctx, name, spec);
}

absl::Status GetStep(tensorflow::OpKernelContext* ctx, int step_index, int hyper_index,
                     embedding::OptimizerStep* step) {
  TF_RETURN_IF_ERROR(GetScalar<int64_t>(ctx, step_index, "step", &step->step));
  const tensorflow::Tensor& hyper = ctx->input(hyper_index);
  if (hyper.dims() != 1 || hyper.NumElements() != kNumHyperparameters) {
    return absl::InvalidArgumentError(absl::StrCat(
        "hyper must have shape [", kNumHyperparameters,
        "]: learning_rate, beta1, beta2, epsilon, weight_decay, l1, l2, l2_shrinkage, lr_power; "
        "it has shape ",
        hyper.shape().DebugString(), "."));
  }
  double values[kNumHyperparameters];
  for (int64_t i = 0; i < kNumHyperparameters; ++i) {
    values[i] = hyper.dtype() == tensorflow::DT_DOUBLE ? static_cast<const double*>(hyper.data())[i]
                                                       : static_cast<const float*>(hyper.data())[i];
  }
  step->learning_rate = static_cast<float>(values[0]);
  step->beta1 = values[1];
  step->beta2 = values[2];
  step->epsilon = static_cast<float>(values[3]);
  step->weight_decay = static_cast<float>(values[4]);
  step->l1 = static_cast<float>(values[5]);
  step->l2 = static_cast<float>(values[6]);
  step->l2_shrinkage = static_cast<float>(values[7]);
  step->lr_power = static_cast<float>(values[8]);
  return absl::OkStatus();
}

}  // namespace ops
}  // namespace taco
