#include "tf_ops/embedding/table/optimizer_kernels.h"

#include <cmath>

#include "tf_ops/embedding/table/optimizer_rules.h"
#include "tf_ops/embedding/table/value_types.h"

namespace taco {
namespace embedding {
namespace TACO_SIMD_NAMESPACE {
namespace {

// w -= w * wd * lr, Keras's decoupled decay, rounded as it rounds.
inline void Decay(float* __restrict w, int n, const StepConstants& k) {
  const float wd = k.h.weight_decay;
  const float lr = k.h.learning_rate;
  if (wd == 0.0f) return;
  for (int i = 0; i < n; ++i) w[i] -= w[i] * wd * lr;
}

template <class Rule>
inline void ApplyRule(const Rule& rule, float* __restrict w, const float* __restrict g,
                      float* __restrict slots, size_t dim, int n) {
  float* __restrict a = slots;
  if constexpr (Rule::kSlots == 0) {
    for (int i = 0; i < n; ++i) rule(w[i], g[i]);
  } else if constexpr (Rule::kSlots == 1) {
    for (int i = 0; i < n; ++i) rule(w[i], g[i], a[i]);
  } else if constexpr (Rule::kSlots == 2) {
    float* __restrict b = slots + dim;
    for (int i = 0; i < n; ++i) rule(w[i], g[i], a[i], b[i]);
  } else {
    float* __restrict b = slots + dim;
    float* __restrict c = slots + 2 * dim;
    for (int i = 0; i < n; ++i) rule(w[i], g[i], a[i], b[i], c[i]);
  }
}

template <class Rule, class Value>
void UpdateRow(void* vector, float* slots, const float* grad, int dim, const StepConstants& k) {
  const size_t width = static_cast<size_t>(dim);
  const Rule rule(k, slots + Rule::kSlots * width);
  UpdateBlocks<Value>(vector, dim, [&](float* w, int at, int n) {
    Decay(w, n, k);
    ApplyRule(rule, w, grad + at, Rule::kSlots == 0 ? slots : slots + at, width, n);
  });
}

template <class Value>
void UpdateFtrl(void* vector, float* slots, const float* grad, int dim, const StepConstants& k) {
  if (k.h.lr_power == -0.5f) {
    UpdateRow<SqrtFtrl, Value>(vector, slots, grad, dim, k);
  } else {
    UpdateRow<PowerFtrl, Value>(vector, slots, grad, dim, k);
  }
}

template <class Value>
UpdateRowFn SelectMomentum(uint32_t flags) {
  const bool nesterov = (flags & kNesterov) != 0;
  if (flags & kLrOutsideMomentum) {
    return nesterov ? UpdateRow<Tf1NesterovMomentum, Value> : UpdateRow<Tf1Momentum, Value>;
  }
  return nesterov ? UpdateRow<NesterovMomentum, Value> : UpdateRow<PlainMomentum, Value>;
}

template <class Value>
UpdateRowFn SelectRmsprop(uint32_t flags) {
  const bool centered = (flags & kCentered) != 0;
  if (flags & kHasMomentum) {
    return centered ? UpdateRow<CenteredMomentumRmsprop, Value> : UpdateRow<MomentumRmsprop, Value>;
  }
  return centered ? UpdateRow<CenteredRmsprop, Value> : UpdateRow<PlainRmsprop, Value>;
}

template <class Value>
UpdateRowFn SelectUpdateRow(const OptimizerSpec& spec) {
  switch (spec.kind) {
    case OptimizerKind::kSgd:
      return UpdateRow<Sgd, Value>;
    case OptimizerKind::kMomentum:
      return SelectMomentum<Value>(spec.flags);
    case OptimizerKind::kAdagrad:
      return UpdateRow<Adagrad, Value>;
    case OptimizerKind::kAdam:
      return spec.flags & kAmsgrad ? UpdateRow<AmsgradAdam, Value> : UpdateRow<Adam, Value>;
    case OptimizerKind::kSparseAdam:
      return UpdateRow<SparseAdam, Value>;
    case OptimizerKind::kRmsprop:
      return SelectRmsprop<Value>(spec.flags);
    case OptimizerKind::kAdadelta:
      return UpdateRow<Adadelta, Value>;
    case OptimizerKind::kFtrl:
      return UpdateFtrl<Value>;
    case OptimizerKind::kProximalGradientDescent:
      return UpdateRow<ProximalGradientDescent, Value>;
    case OptimizerKind::kProximalAdagrad:
      return UpdateRow<ProximalAdagrad, Value>;
    case OptimizerKind::kAdagradDa:
      return UpdateRow<AdagradDa, Value>;
    case OptimizerKind::kNone:
    case OptimizerKind::kLamb:
      break;
  }
  return nullptr;
}

// Sums of squares go into eight partial sums, element i into sum i % 8, which are added in order at
// the end: wide enough for vectors, and the same bits whatever their width.
constexpr int kLanes = 8;

inline void AddSquares(const float* __restrict x, int n, double* __restrict lanes) {
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const double value = x[i + lane];
      lanes[lane] += value * value;
    }
  }
  for (int lane = 0; i + lane < n; ++lane) {
    const double value = x[i + lane];
    lanes[lane] += value * value;
  }
}

inline double Total(const double* lanes) {
  double sum = 0.0;
  for (int lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
  return sum;
}

template <class Value>
void LambDirection(void* vector, float* slots, const float* grad, int dim, const StepConstants& k,
                   float* update, double* weight_sq, double* update_sq) {
  const float c1 = k.one_minus_beta1, c2 = k.one_minus_beta2, eps = k.h.epsilon;
  const float m_divisor = k.m_divisor, v_divisor = k.v_divisor, decay = k.direction_decay;
  double weight_lanes[kLanes] = {};
  double update_lanes[kLanes] = {};
  UpdateBlocks<Value>(vector, dim, [&](float* w, int at, int n) {
    const float* __restrict g = grad + at;
    float* __restrict m = slots + at;
    float* __restrict v = slots + static_cast<size_t>(dim) + at;
    float* __restrict direction = update + at;
    Decay(w, n, k);
    for (int i = 0; i < n; ++i) {
      m[i] += (g[i] - m[i]) * c1;
      v[i] += (g[i] * g[i] - v[i]) * c2;
      direction[i] = m[i] / m_divisor / (std::sqrt(v[i] / v_divisor) + eps) + decay * w[i];
    }
    AddSquares(w, n, weight_lanes);
    AddSquares(direction, n, update_lanes);
  });
  *weight_sq += Total(weight_lanes);
  *update_sq += Total(update_lanes);
}

template <class Value>
void AddScaled(void* vector, const float* delta, float scale, int dim) {
  UpdateBlocks<Value>(vector, dim, [&](float* __restrict w, int at, int n) {
    const float* __restrict d = delta + at;
    for (int i = 0; i < n; ++i) w[i] += scale * d[i];
  });
}

template <class Value>
void LoadAdd(const void* in, float* __restrict out, int dim) {
  if constexpr (std::is_same_v<Value, Float32>) {
    const float* __restrict values = static_cast<const float*>(in);
    for (int i = 0; i < dim; ++i) out[i] += values[i];
  } else {
    alignas(64) float block[kBlock];
    for (int at = 0; at < dim; at += kBlock) {
      const int n = dim - at < kBlock ? dim - at : kBlock;
      Value::Load(static_cast<const uint16_t*>(in) + at, block, n);
      for (int i = 0; i < n; ++i) out[at + i] += block[i];
    }
  }
}

}  // namespace

// Calls `select` with the type that `type` stands for.
#define TACO_WITH_VALUE_TYPE(type, select) \
  switch (type) {                          \
    case ValueType::kBFloat16: {           \
      using Value = BFloat16;              \
      return select;                       \
    }                                      \
    case ValueType::kFloat16: {            \
      using Value = Float16;               \
      return select;                       \
    }                                      \
    case ValueType::kFloat32:              \
      break;                               \
  }                                        \
  using Value = Float32;                   \
  return select

UpdateRowFn UpdateRowKernel(const OptimizerSpec& spec, ValueType type) {
  TACO_WITH_VALUE_TYPE(type, SelectUpdateRow<Value>(spec));
}
LambDirectionFn LambDirectionKernel(ValueType type) {
  TACO_WITH_VALUE_TYPE(type, LambDirection<Value>);
}
AddScaledFn AddScaledKernel(ValueType type) { TACO_WITH_VALUE_TYPE(type, AddScaled<Value>); }
LoadFn LoadKernel(ValueType type) { TACO_WITH_VALUE_TYPE(type, Value::Load); }
LoadFn LoadAddKernel(ValueType type) { TACO_WITH_VALUE_TYPE(type, LoadAdd<Value>); }
void StoreKernel(ValueType type, const float* in, void* out, int dim) {
  TACO_WITH_VALUE_TYPE(type, Value::Store(in, out, dim));
}

#undef TACO_WITH_VALUE_TYPE

}  // namespace TACO_SIMD_NAMESPACE
}  // namespace embedding
}  // namespace taco
