// What each optimizer does to one element: a weight, its gradient and its slots.
//
// A rule is built once per row, from the step's constants and the row's scalars, and then called
// for every element. The loops around the calls are what the compiler vectorises: a rule has no
// branch that depends on an element and, but for FTRL with an unusual power, calls no function.
// Formulas: keras.optimizers (Keras 3) and, where a name says Tf1, tf.compat.v1.train.
//
// Included only by optimizer_kernels.cc, which is compiled once per instruction set.
#ifndef TF_OPS_EMBEDDING_TABLE_OPTIMIZER_RULES_H_
#define TF_OPS_EMBEDDING_TABLE_OPTIMIZER_RULES_H_

#include <cmath>
#include <cstdint>
#include <cstring>

#include "tf_ops/embedding/table/optimizer_kernels.h"

namespace taco {
namespace embedding {
namespace TACO_SIMD_NAMESPACE {

struct Sgd {
  static constexpr int kSlots = 0;
  explicit Sgd(const StepConstants& k, float*) : lr(k.h.learning_rate) {}
  void operator()(float& w, float g) const { w -= g * lr; }
  float lr;
};

struct Momentum {
  static constexpr int kSlots = 1;
  explicit Momentum(const StepConstants& k, float*) : lr(k.h.learning_rate), mu(k.beta1) {}
  float lr, mu;
};
struct PlainMomentum : Momentum {
  using Momentum::Momentum;
  void operator()(float& w, float g, float& m) const {
    m = m * mu - g * lr;
    w += m;
  }
};
struct NesterovMomentum : Momentum {
  using Momentum::Momentum;
  void operator()(float& w, float g, float& m) const {
    m = m * mu - g * lr;
    w += m * mu - g * lr;
  }
};
struct Tf1Momentum : Momentum {
  using Momentum::Momentum;
  void operator()(float& w, float g, float& a) const {
    a = a * mu + g;
    w -= a * lr;
  }
};
struct Tf1NesterovMomentum : Momentum {
  using Momentum::Momentum;
  void operator()(float& w, float g, float& a) const {
    a = a * mu + g;
    w -= g * lr + a * mu * lr;
  }
};

struct Adagrad {
  static constexpr int kSlots = 1;
  explicit Adagrad(const StepConstants& k, float*) : lr(k.h.learning_rate), eps(k.h.epsilon) {}
  void operator()(float& w, float g, float& sum) const {
    sum += g * g;
    w -= lr * g / std::sqrt(sum + eps);
  }
  float lr, eps;
};

struct Adam {
  static constexpr int kSlots = 2;
  explicit Adam(const StepConstants& k, float*)
      : alpha(k.alpha), c1(k.one_minus_beta1), c2(k.one_minus_beta2), eps(k.h.epsilon) {}
  void operator()(float& w, float g, float& m, float& v) const {
    m += (g - m) * c1;
    v += (g * g - v) * c2;
    w -= m * alpha / (std::sqrt(v) + eps);
  }
  float alpha, c1, c2, eps;
};

struct AmsgradAdam : Adam {
  static constexpr int kSlots = 3;
  using Adam::Adam;
  void operator()(float& w, float g, float& m, float& v, float& vhat) const {
    m += (g - m) * c1;
    v += (g * g - v) * c2;
    vhat = vhat > v ? vhat : v;
    w -= m * alpha / (std::sqrt(vhat) + eps);
  }
};

// The row's scalar holds the step of its last update. A step that is not after it (a second call
// within one step, a counter that was reset) counts as the next one.
struct SparseAdam : Adam {
  explicit SparseAdam(const StepConstants& k, float* scalars) : Adam(k, scalars) {
    const uint32_t now = static_cast<uint32_t>(k.h.step);
    uint32_t last;
    std::memcpy(&last, scalars, sizeof last);
    std::memcpy(scalars, &now, sizeof now);
    const int32_t since = static_cast<int32_t>(now - last);
    const uint64_t delta = last == 0 || since < 1 ? 1 : static_cast<uint64_t>(since);
    decay1 = static_cast<float>(IntegerPower(k.h.beta1, delta));
    decay2 = static_cast<float>(IntegerPower(k.h.beta2, delta));
  }
  void operator()(float& w, float g, float& m, float& v) const {
    m = decay1 * m + c1 * g;
    v = decay2 * v + c2 * (g * g);
    w -= m * alpha / (std::sqrt(v) + eps);
  }
  float decay1, decay2;
};

struct Rmsprop {
  explicit Rmsprop(const StepConstants& k, float*)
      : lr(k.h.learning_rate),
        mu(k.beta1),
        rho(k.beta2),
        one_minus_rho(k.one_minus_beta2),
        eps(k.h.epsilon) {}
  // Folds g into the average of squares, and gives the increment.
  float Increment(float g, float& v) const {
    v = rho * v + one_minus_rho * (g * g);
    return lr * g / std::sqrt(v + eps);
  }
  float CenteredIncrement(float g, float& v, float& mean) const {
    v = rho * v + one_minus_rho * (g * g);
    mean = rho * mean + one_minus_rho * g;
    return lr * g / std::sqrt(v - mean * mean + eps);
  }
  float lr, mu, rho, one_minus_rho, eps;
};
struct PlainRmsprop : Rmsprop {
  static constexpr int kSlots = 1;
  using Rmsprop::Rmsprop;
  void operator()(float& w, float g, float& v) const { w -= Increment(g, v); }
};
struct CenteredRmsprop : Rmsprop {
  static constexpr int kSlots = 2;
  using Rmsprop::Rmsprop;
  void operator()(float& w, float g, float& v, float& mean) const {
    w -= CenteredIncrement(g, v, mean);
  }
};
struct MomentumRmsprop : Rmsprop {
  static constexpr int kSlots = 2;
  using Rmsprop::Rmsprop;
  void operator()(float& w, float g, float& v, float& m) const {
    m = mu * m + Increment(g, v);
    w -= m;
  }
};
struct CenteredMomentumRmsprop : Rmsprop {
  static constexpr int kSlots = 3;
  using Rmsprop::Rmsprop;
  void operator()(float& w, float g, float& v, float& m, float& mean) const {
    m = mu * m + CenteredIncrement(g, v, mean);
    w -= m;
  }
};

struct Adadelta {
  static constexpr int kSlots = 2;
  explicit Adadelta(const StepConstants& k, float*)
      : lr(k.h.learning_rate), rho(k.beta2), one_minus_rho(k.one_minus_beta2), eps(k.h.epsilon) {}
  void operator()(float& w, float g, float& grads, float& updates) const {
    grads = rho * grads + one_minus_rho * (g * g);
    const float update = std::sqrt(updates + eps) * g / std::sqrt(grads + eps);
    updates = rho * updates + one_minus_rho * (update * update);
    w -= lr * update;
  }
  float lr, rho, one_minus_rho, eps;
};

struct Ftrl {
  static constexpr int kSlots = 2;
  explicit Ftrl(const StepConstants& k, float*)
      : lr(k.h.learning_rate),
        power(-k.h.lr_power),
        l1(k.h.l1),
        two_l2(2.0f * k.h.l2),
        two_shrinkage(2.0f * k.h.l2_shrinkage) {}
  // new_power, old_power: the accumulator to the power of -lr_power, after and before.
  void Solve(float& w, float g, float& linear, float new_power, float old_power) const {
    const float shrunk = g + two_shrinkage * w;
    linear += shrunk - (new_power - old_power) / lr * w;
    const float quadratic = new_power / lr + two_l2;
    const float clipped = linear < -l1 ? -l1 : (linear > l1 ? l1 : linear);
    const float solution = (clipped - linear) / quadratic;
    w = clipped == linear ? 0.0f : solution;
  }
  float lr, power, l1, two_l2, two_shrinkage;
};
struct SqrtFtrl : Ftrl {
  using Ftrl::Ftrl;
  void operator()(float& w, float g, float& sum, float& linear) const {
    const float new_sum = sum + g * g;
    Solve(w, g, linear, std::sqrt(new_sum), std::sqrt(sum));
    sum = new_sum;
  }
};
struct PowerFtrl : Ftrl {
  using Ftrl::Ftrl;
  void operator()(float& w, float g, float& sum, float& linear) const {
    const float new_sum = sum + g * g;
    Solve(w, g, linear, std::pow(new_sum, power), std::pow(sum, power));
    sum = new_sum;
  }
};

// sign(x) max(|x| - threshold, 0): what l1 leaves of x. A NaN stays a NaN.
inline float Shrink(float x, float threshold) {
  const float left = std::abs(x) - threshold;
  return std::copysign(left < 0.0f ? 0.0f : left, x);
}

// A step of gradient descent, then towards 0: FOBOS, "Efficient Learning using Forward-Backward
// Splitting" (Duchi and Singer, 2009).
struct Proximal {
  explicit Proximal(const StepConstants& k, float*)
      : lr(k.h.learning_rate), l1(k.h.l1), l2(k.h.l2), eps(k.h.epsilon) {}
  void Step(float& w, float g, float rate) const {
    w = Shrink(w - g * rate, rate * l1) / (1.0f + l2 * rate);
  }
  float lr, l1, l2, eps;
};
struct ProximalGradientDescent : Proximal {
  static constexpr int kSlots = 0;
  using Proximal::Proximal;
  void operator()(float& w, float g) const { Step(w, g, lr); }
};
struct ProximalAdagrad : Proximal {
  static constexpr int kSlots = 1;
  using Proximal::Proximal;
  void operator()(float& w, float g, float& sum) const {
    sum += g * g;
    Step(w, g, lr / std::sqrt(sum + eps));
  }
};

// Dual averaging: the weights that minimise the sum of all linearised losses and regularisers up to
// the step. "Adaptive Subgradient Methods" (Duchi, Hazan and Singer, 2011).
struct AdagradDa {
  static constexpr int kSlots = 2;
  explicit AdagradDa(const StepConstants& k, float*)
      : steps(static_cast<float>(k.h.step)),
        steps_lr(steps * k.h.learning_rate),
        l1(k.h.l1),
        l2(k.h.l2),
        eps(k.h.epsilon) {}
  void operator()(float& w, float g, float& sum, float& squares) const {
    sum += g;
    squares += g * g;
    w = -Shrink(sum / steps, l1) / (l2 + std::sqrt(squares + eps) / steps_lr);
  }
  float steps, steps_lr, l1, l2, eps;
};

}  // namespace TACO_SIMD_NAMESPACE
}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_OPTIMIZER_RULES_H_
