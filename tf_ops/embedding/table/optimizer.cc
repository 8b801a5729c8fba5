#include "tf_ops/embedding/table/optimizer.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "tf_ops/embedding/table/optimizer_kernels.h"
#include "tf_ops/embedding/table/simd.h"

namespace taco {
namespace embedding {
namespace {

bool IsAdamFamily(OptimizerKind kind) {
  return kind == OptimizerKind::kAdam || kind == OptimizerKind::kSparseAdam ||
         kind == OptimizerKind::kLamb;
}

bool IsRegularized(OptimizerKind kind) {
  return kind == OptimizerKind::kFtrl || kind == OptimizerKind::kProximalGradientDescent ||
         kind == OptimizerKind::kProximalAdagrad || kind == OptimizerKind::kAdagradDa;
}

// The flags that add slots to a row of this kind.
uint32_t SlotFlags(OptimizerKind kind) {
  if (kind == OptimizerKind::kAdam) return kAmsgrad;
  if (kind == OptimizerKind::kRmsprop) return kCentered | kHasMomentum;
  return 0;
}

Status CheckBeta(const OptimizerSpec& spec, const char* name, double beta) {
  const bool adam = IsAdamFamily(spec.kind);
  // Rounded: float32(0.99999999) is 1, whose bias correction would divide by zero.
  const float rounded = static_cast<float>(beta);
  if (beta >= 0.0 && (adam ? rounded < 1.0f : rounded <= 1.0f)) return OkStatus();
  return InvalidArgument(spec.Name() + " got " + name + " = " + std::to_string(beta) +
                         ", which must lie in [0, 1" + (adam ? ")." : "]."));
}

// FTRL divides by it; TensorFlow's ProximalAdagrad takes no other.
Status CheckPositiveRate(const OptimizerSpec& spec, const OptimizerStep& step) {
  if (step.learning_rate > 0.0f) return OkStatus();
  return InvalidArgument(spec.Name() +
                         " got learning_rate = " + std::to_string(step.learning_rate) +
                         ", which must be positive. (A warm-up schedule may start from a small "
                         "value, but not from 0.)");
}

Status CheckNotNegative(const OptimizerSpec& spec, const char* name, float value) {
  if (value >= 0.0f) return OkStatus();
  return InvalidArgument(spec.Name() + " got " + name + " = " + std::to_string(value) +
                         ", which may not be negative.");
}

// What the optimizers with l1 and l2 want of a step.
Status CheckRegularization(const OptimizerSpec& spec, const OptimizerStep& step) {
  const bool ftrl = spec.kind == OptimizerKind::kFtrl;
  if (ftrl || spec.kind == OptimizerKind::kProximalAdagrad) {
    TACO_EMBEDDING_RETURN_IF_ERROR(CheckPositiveRate(spec, step));
  }
  TACO_EMBEDDING_RETURN_IF_ERROR(CheckNotNegative(spec, "l1", step.l1));
  TACO_EMBEDDING_RETURN_IF_ERROR(CheckNotNegative(spec, "l2", step.l2));
  if (!ftrl) return OkStatus();
  TACO_EMBEDDING_RETURN_IF_ERROR(CheckNotNegative(spec, "l2_shrinkage", step.l2_shrinkage));
  if (step.lr_power > 0.0f) {
    return InvalidArgument("FTRL got learning_rate_power = " + std::to_string(step.lr_power) +
                           ", which must be 0 or less.");
  }
  return OkStatus();
}

}  // namespace

int OptimizerSpec::num_slots() const {
  switch (kind) {
    case OptimizerKind::kNone:
    case OptimizerKind::kSgd:
    case OptimizerKind::kProximalGradientDescent:
      return 0;
    case OptimizerKind::kMomentum:
    case OptimizerKind::kAdagrad:
    case OptimizerKind::kProximalAdagrad:
      return 1;
    case OptimizerKind::kAdam:
      return flags & kAmsgrad ? 3 : 2;
    case OptimizerKind::kRmsprop:
      return 1 + (flags & kHasMomentum ? 1 : 0) + (flags & kCentered ? 1 : 0);
    case OptimizerKind::kSparseAdam:
    case OptimizerKind::kAdadelta:
    case OptimizerKind::kFtrl:
    case OptimizerKind::kLamb:
    case OptimizerKind::kAdagradDa:
      return 2;
  }
  return 0;
}

int OptimizerSpec::num_scalars() const { return kind == OptimizerKind::kSparseAdam ? 1 : 0; }

bool OptimizerSpec::SameSlots(const OptimizerSpec& other) const {
  if (num_slots() + num_scalars() == 0) return other.num_slots() + other.num_scalars() == 0;
  return kind == other.kind && ((flags ^ other.flags) & SlotFlags(kind)) == 0;
}

std::string OptimizerSpec::Name() const {
  const char* name = "none";
  std::string details;
  const auto add = [&](uint32_t flag, const char* word) {
    if (flags & flag) details += (details.empty() ? "" : ", ") + std::string(word);
  };
  switch (kind) {
    case OptimizerKind::kNone:
      break;
    case OptimizerKind::kSgd:
      name = "SGD";
      break;
    case OptimizerKind::kMomentum:
      name = "Momentum";
      add(kNesterov, "nesterov");
      add(kLrOutsideMomentum, "lr outside");
      break;
    case OptimizerKind::kAdagrad:
      name = "Adagrad";
      break;
    case OptimizerKind::kAdam:
      name = "Adam";
      add(kAmsgrad, "amsgrad");
      break;
    case OptimizerKind::kSparseAdam:
      name = "SparseAdam";
      break;
    case OptimizerKind::kRmsprop:
      name = "RMSprop";
      add(kHasMomentum, "momentum");
      add(kCentered, "centered");
      break;
    case OptimizerKind::kAdadelta:
      name = "Adadelta";
      break;
    case OptimizerKind::kFtrl:
      name = "FTRL";
      break;
    case OptimizerKind::kLamb:
      name = "LAMB";
      break;
    case OptimizerKind::kProximalGradientDescent:
      name = "ProximalGradientDescent";
      break;
    case OptimizerKind::kProximalAdagrad:
      name = "ProximalAdagrad";
      break;
    case OptimizerKind::kAdagradDa:
      name = "AdagradDA";
      break;
  }
  return details.empty() ? name : name + ("(" + details + ")");
}

const char* OptimizerSpec::SlotName(int slot) const {
  if (slot < 0 || slot >= num_slots()) return "";
  switch (kind) {
    case OptimizerKind::kNone:
    case OptimizerKind::kSgd:
    case OptimizerKind::kProximalGradientDescent:
      return "";
    case OptimizerKind::kMomentum:
      return "momentum";
    case OptimizerKind::kAdagrad:
    case OptimizerKind::kProximalAdagrad:
      return "accumulator";
    case OptimizerKind::kAdam:
    case OptimizerKind::kSparseAdam:
    case OptimizerKind::kLamb:
      return slot == 0 ? "m" : slot == 1 ? "v" : "vhat";
    case OptimizerKind::kRmsprop:
      if (slot == 0) return "velocity";
      return slot == 1 && (flags & kHasMomentum) ? "momentum" : "average_gradient";
    case OptimizerKind::kAdadelta:
      return slot == 0 ? "accumulated_grad" : "accumulated_delta_var";
    case OptimizerKind::kFtrl:
      return slot == 0 ? "accumulator" : "linear";
    case OptimizerKind::kAdagradDa:
      return slot == 0 ? "gradient_accumulator" : "gradient_squared_accumulator";
  }
  return "";
}

Status ValidateStep(const OptimizerSpec& spec, const OptimizerStep& step) {
  if (step.step < 1) {
    return InvalidArgument(spec.Name() + " got step = " + std::to_string(step.step) +
                           "; steps count from 1 (Keras: iterations + 1; AdagradDA: "
                           "global_step + 1).");
  }
  const struct {
    const char* name;
    double value;
  } values[] = {
      {"learning_rate", step.learning_rate},
      {"beta1", step.beta1},
      {"beta2", step.beta2},
      {"epsilon", step.epsilon},
      {"weight_decay", step.weight_decay},
      {"l1", step.l1},
      {"l2", step.l2},
      {"l2_shrinkage", step.l2_shrinkage},
      {"lr_power", step.lr_power},
  };
  for (const auto& field : values) {
    if (std::isfinite(field.value)) continue;
    return InvalidArgument(spec.Name() + " got " + field.name + " = " +
                           std::to_string(field.value) + ", which must be a finite number.");
  }
  const bool adam = IsAdamFamily(spec.kind);
  const bool rmsprop = spec.kind == OptimizerKind::kRmsprop;
  if (adam) {
    TACO_EMBEDDING_RETURN_IF_ERROR(CheckBeta(spec, "beta1", step.beta1));
    TACO_EMBEDDING_RETURN_IF_ERROR(CheckBeta(spec, "beta2", step.beta2));
  }
  if (spec.kind == OptimizerKind::kMomentum || (rmsprop && (spec.flags & kHasMomentum))) {
    TACO_EMBEDDING_RETURN_IF_ERROR(CheckBeta(spec, "momentum (beta1)", step.beta1));
  }
  if (rmsprop || spec.kind == OptimizerKind::kAdadelta) {
    TACO_EMBEDDING_RETURN_IF_ERROR(CheckBeta(spec, "rho (beta2)", step.beta2));
  }
  if (IsRegularized(spec.kind)) return CheckRegularization(spec, step);
  return OkStatus();
}

StepConstants PrepareStep(const OptimizerSpec& spec, const OptimizerStep& step) {
  StepConstants k;
  k.h = step;
  k.beta1 = static_cast<float>(step.beta1);
  k.beta2 = static_cast<float>(step.beta2);
  k.one_minus_beta1 = static_cast<float>(1.0 - step.beta1);
  k.one_minus_beta2 = static_cast<float>(1.0 - step.beta2);
  if (IsAdamFamily(spec.kind)) {
    const uint64_t t = static_cast<uint64_t>(step.step);
    k.m_divisor = 1.0f - static_cast<float>(IntegerPower(k.beta1, t));
    k.v_divisor = 1.0f - static_cast<float>(IntegerPower(k.beta2, t));
    k.alpha = step.learning_rate * std::sqrt(k.v_divisor) / k.m_divisor;
  }
  if (spec.kind == OptimizerKind::kLamb && (spec.flags & kDecayInDirection)) {
    k.direction_decay = step.weight_decay;
    k.h.weight_decay = 0.0f;
  }
  return k;
}

void InitializeSlots(const OptimizerSpec& spec, int dim, float* slots) {
  for (int slot = 0; slot < spec.num_slots(); ++slot) {
    slots = std::fill_n(slots, dim, spec.slot_init[slot]);
  }
  std::fill_n(slots, spec.num_scalars(), 0.0f);
}

UpdateRowFn GetUpdateRow(const OptimizerSpec& spec, ValueType type) {
  switch (ActiveSimd()) {
    case Simd::kAvx512:
      return v4::UpdateRowKernel(spec, type);
    case Simd::kAvx2:
      return v3::UpdateRowKernel(spec, type);
    case Simd::kBaseline:
      break;
  }
  return v2::UpdateRowKernel(spec, type);
}

// The others differ in the name alone.
#define TACO_DISPATCH(kernel)  \
  switch (ActiveSimd()) {      \
    case Simd::kAvx512:        \
      return v4::kernel(type); \
    case Simd::kAvx2:          \
      return v3::kernel(type); \
    case Simd::kBaseline:      \
      break;                   \
  }                            \
  return v2::kernel(type)

LambDirectionFn GetLambDirection(ValueType type) { TACO_DISPATCH(LambDirectionKernel); }
AddScaledFn GetAddScaled(ValueType type) { TACO_DISPATCH(AddScaledKernel); }
LoadFn GetLoad(ValueType type) { TACO_DISPATCH(LoadKernel); }
LoadFn GetLoadAdd(ValueType type) { TACO_DISPATCH(LoadAddKernel); }

#undef TACO_DISPATCH

const char* SimdLevel() {
  switch (ActiveSimd()) {
    case Simd::kAvx512:
      return "avx512";
    case Simd::kAvx2:
      return "avx2";
    case Simd::kBaseline:
      break;
  }
  return "baseline";
}

}  // namespace embedding
}  // namespace taco
