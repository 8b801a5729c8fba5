// Every optimizer with its flags, and what each should do to one element: in double, from the
// published formulas, one line after the other.
#ifndef TF_OPS_EMBEDDING_TABLE_OPTIMIZER_TEST_UTIL_H_
#define TF_OPS_EMBEDDING_TABLE_OPTIMIZER_TEST_UTIL_H_

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tf_ops/embedding/table/optimizer.h"

namespace taco {
namespace embedding {

struct OptimizerCase {
  OptimizerSpec spec;
  OptimizerStep step;
};

// All kinds but LAMB (which has a test of its own), each with every flag and setting that counts.
inline std::vector<OptimizerCase> AllOptimizerCases() {
  std::vector<OptimizerCase> cases;
  const auto add = [&](OptimizerKind kind, uint32_t flags, float lr, double beta1, double beta2,
                       float slot0 = 0.0f) {
    OptimizerCase c;
    c.spec.kind = kind;
    c.spec.flags = flags;
    c.spec.slot_init[0] = slot0;
    c.step.learning_rate = lr;
    c.step.beta1 = beta1;
    c.step.beta2 = beta2;
    cases.push_back(c);
    c.step.weight_decay = 0.01f;
    cases.push_back(c);
  };
  add(OptimizerKind::kSgd, 0, 0.1f, 0.0, 0.0);
  for (uint32_t flags : {0u, kNesterov, kLrOutsideMomentum, kNesterov | kLrOutsideMomentum}) {
    add(OptimizerKind::kMomentum, flags, 0.05f, 0.9, 0.0);
  }
  add(OptimizerKind::kAdagrad, 0, 0.1f, 0.0, 0.0, 0.1f);
  add(OptimizerKind::kAdam, 0, 0.01f, 0.9, 0.999);
  add(OptimizerKind::kAdam, kAmsgrad, 0.01f, 0.9, 0.99);
  add(OptimizerKind::kSparseAdam, 0, 0.01f, 0.9, 0.999);
  for (uint32_t flags : {0u, kCentered, kHasMomentum, kCentered | kHasMomentum}) {
    add(OptimizerKind::kRmsprop, flags, 0.01f, 0.8, 0.9, 1.0f);
  }
  add(OptimizerKind::kAdadelta, 0, 1.0f, 0.0, 0.95);
  for (float power : {-0.5f, -0.7f, 0.0f}) {
    add(OptimizerKind::kFtrl, 0, 0.1f, 0.0, 0.0, 0.1f);
    for (size_t i = cases.size() - 2; i < cases.size(); ++i) {
      cases[i].step.lr_power = power;
      cases[i].step.l1 = 0.01f;
      cases[i].step.l2 = 0.02f;
      cases[i].step.l2_shrinkage = 0.03f;
    }
  }
  for (float regularization : {0.0f, 0.02f}) {
    const size_t first = cases.size();
    add(OptimizerKind::kProximalGradientDescent, 0, 0.1f, 0.0, 0.0);
    add(OptimizerKind::kProximalAdagrad, 0, 0.1f, 0.0, 0.0, 0.1f);
    add(OptimizerKind::kAdagradDa, 0, 0.1f, 0.0, 0.0);
    for (size_t i = first; i < cases.size(); ++i) {
      cases[i].step.l1 = regularization;
      cases[i].step.l2 = 3.0f * regularization;
      if (cases[i].spec.kind == OptimizerKind::kAdagradDa) cases[i].spec.slot_init[1] = 0.1f;
    }
  }
  return cases;
}

inline std::string CaseName(const OptimizerCase& c) {
  return c.spec.Name() + (c.step.weight_decay != 0.0f ? " with decay" : "") + ", power " +
         std::to_string(c.step.lr_power) + ", l1 " + std::to_string(c.step.l1);
}

// One element's state in the model.
struct ModelElement {
  double w = 0.0;
  double s[3] = {0.0, 0.0, 0.0};
  int64_t last = 0;  // SparseAdam
};

inline void ModelMomentum(const OptimizerCase& c, double g, ModelElement* e) {
  const double lr = c.step.learning_rate, mu = c.step.beta1;
  const bool nesterov = (c.spec.flags & kNesterov) != 0;
  if (c.spec.flags & kLrOutsideMomentum) {
    e->s[0] = mu * e->s[0] + g;
    e->w -= nesterov ? lr * (g + mu * e->s[0]) : lr * e->s[0];
  } else {
    e->s[0] = mu * e->s[0] - lr * g;
    e->w += nesterov ? mu * e->s[0] - lr * g : e->s[0];
  }
}

inline void ModelAdam(const OptimizerCase& c, double g, ModelElement* e) {
  const double b1 = c.step.beta1, b2 = c.step.beta2;
  const double t = static_cast<double>(c.step.step);
  double since = 1.0;
  if (c.spec.kind == OptimizerKind::kSparseAdam && e->last > 0) since = t - e->last;
  e->last = c.step.step;
  e->s[0] = std::pow(b1, since) * e->s[0] + (1.0 - b1) * g;
  e->s[1] = std::pow(b2, since) * e->s[1] + (1.0 - b2) * g * g;
  double v = e->s[1];
  if (c.spec.flags & kAmsgrad) v = e->s[2] = std::max(e->s[2], v);
  const double m_hat = e->s[0] / (1.0 - std::pow(b1, t));
  const double correction = std::sqrt(1.0 - std::pow(b2, t));
  e->w -= c.step.learning_rate * m_hat * correction / (std::sqrt(v) + c.step.epsilon);
}

inline void ModelRmsprop(const OptimizerCase& c, double g, ModelElement* e) {
  const double rho = c.step.beta2;
  const bool momentum = (c.spec.flags & kHasMomentum) != 0;
  e->s[0] = rho * e->s[0] + (1.0 - rho) * g * g;
  double variance = e->s[0];
  if (c.spec.flags & kCentered) {
    double& mean = e->s[momentum ? 2 : 1];
    mean = rho * mean + (1.0 - rho) * g;
    variance -= mean * mean;
  }
  double change = c.step.learning_rate * g / std::sqrt(variance + c.step.epsilon);
  if (momentum) change = e->s[1] = c.step.beta1 * e->s[1] + change;
  e->w -= change;
}

inline void ModelAdadelta(const OptimizerCase& c, double g, ModelElement* e) {
  const double rho = c.step.beta2, eps = c.step.epsilon;
  e->s[0] = rho * e->s[0] + (1.0 - rho) * g * g;
  const double change = std::sqrt(e->s[1] + eps) / std::sqrt(e->s[0] + eps) * g;
  e->s[1] = rho * e->s[1] + (1.0 - rho) * change * change;
  e->w -= c.step.learning_rate * change;
}

inline void ModelFtrl(const OptimizerCase& c, double g, ModelElement* e) {
  const double lr = c.step.learning_rate, power = -c.step.lr_power, l1 = c.step.l1;
  const double before = std::pow(e->s[0], power);
  e->s[0] += g * g;
  const double after = std::pow(e->s[0], power);
  e->s[1] += g + 2.0 * c.step.l2_shrinkage * e->w - (after - before) / lr * e->w;
  const double sign = e->s[1] > 0.0 ? 1.0 : -1.0;
  e->w = std::abs(e->s[1]) <= l1 ? 0.0 : (sign * l1 - e->s[1]) / (after / lr + 2.0 * c.step.l2);
}

// What l1 leaves of x: nothing within the threshold.
inline double ModelShrink(double x, double threshold) {
  if (std::abs(x) <= threshold) return 0.0;
  return x > 0.0 ? x - threshold : x + threshold;
}

inline void ModelProximal(const OptimizerCase& c, double g, double rate, ModelElement* e) {
  e->w = ModelShrink(e->w - rate * g, rate * c.step.l1) / (1.0 + rate * c.step.l2);
}

inline void ModelAdagradDa(const OptimizerCase& c, double g, ModelElement* e) {
  const double t = static_cast<double>(c.step.step), lr = c.step.learning_rate;
  e->s[0] += g;
  e->s[1] += g * g;
  const double root = std::sqrt(e->s[1] + c.step.epsilon);
  e->w = -lr * ModelShrink(e->s[0], c.step.l1 * t) / (c.step.l2 * t * lr + root);
}

inline void ModelUpdate(const OptimizerCase& c, double g, ModelElement* e) {
  const double lr = c.step.learning_rate;
  e->w -= lr * c.step.weight_decay * e->w;
  switch (c.spec.kind) {
    case OptimizerKind::kSgd:
      e->w -= lr * g;
      break;
    case OptimizerKind::kMomentum:
      return ModelMomentum(c, g, e);
    case OptimizerKind::kAdagrad:
      e->s[0] += g * g;
      e->w -= lr * g / std::sqrt(e->s[0] + c.step.epsilon);
      break;
    case OptimizerKind::kAdam:
    case OptimizerKind::kSparseAdam:
      return ModelAdam(c, g, e);
    case OptimizerKind::kRmsprop:
      return ModelRmsprop(c, g, e);
    case OptimizerKind::kAdadelta:
      return ModelAdadelta(c, g, e);
    case OptimizerKind::kFtrl:
      return ModelFtrl(c, g, e);
    case OptimizerKind::kProximalGradientDescent:
      return ModelProximal(c, g, lr, e);
    case OptimizerKind::kProximalAdagrad:
      e->s[0] += g * g;
      return ModelProximal(c, g, lr / std::sqrt(e->s[0] + c.step.epsilon), e);
    case OptimizerKind::kAdagradDa:
      return ModelAdagradDa(c, g, e);
    case OptimizerKind::kNone:
    case OptimizerKind::kLamb:
      break;
  }
}

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_OPTIMIZER_TEST_UTIL_H_
