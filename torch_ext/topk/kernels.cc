#include "torch_ext/topk/kernels.h"

#include <cstring>

#include "torch_ext/base/lanes.h"

namespace taco {
namespace topk {
namespace TACO_SIMD_NAMESPACE {
namespace {

using base::ValueType;
using base::TACO_SIMD_NAMESPACE::Lanes;

constexpr int kStep = 16;  // elements at a time, whatever the width of a vector
constexpr int kParts = kStep / Lanes::kWidth;

struct Float32 {
  using Type = float;
  static Lanes Load(const float* p) { return Lanes::Load(p); }
};
struct Float16 {
  using Type = uint16_t;
  static Lanes Load(const uint16_t* p) { return Lanes::LoadFloat16(p); }
};
struct BFloat16 {
  using Type = uint16_t;
  static Lanes Load(const uint16_t* p) { return Lanes::LoadBFloat16(p); }
};

// v = residual: nothing is added.
struct Unchanged {
  struct Type {};
  struct Constants {
    explicit Constants(const Block&) {}
  };
  static Lanes V(const Constants&, const Type*, float* r, float*, int i) {
    return Lanes::Load(r + i);
  }
};

template <class Grad>
struct Plain {
  using Type = typename Grad::Type;
  struct Constants {
    explicit Constants(const Block& block) : scale(Lanes::All(block.scale)) {}
    Lanes scale;
  };
  static Lanes V(const Constants& k, const Type* g, float* r, float*, int i) {
    return Grad::Load(g + i) * k.scale + Lanes::Load(r + i);
  }
};

template <class Grad>
struct Momentum {
  using Type = typename Grad::Type;
  struct Constants {
    explicit Constants(const Block& block)
        : scale(Lanes::All(block.scale)), momentum(Lanes::All(block.momentum)) {}
    Lanes scale, momentum;
  };
  static Lanes V(const Constants& k, const Type* g, float* r, float* u, int i) {
    const Lanes velocity = Lanes::Load(u + i) * k.momentum + Grad::Load(g + i) * k.scale;
    velocity.Store(u + i);
    return Lanes::Load(r + i) + velocity;
  }
};

// Sixteen elements from `i` on. squares: kParts vectors, the sixteen lanes.
template <class Rule>
inline uint32_t Step(const typename Rule::Constants& k, const typename Rule::Type* g, float* r,
                     float* u, int i, uint32_t threshold, Lanes* squares) {
  uint32_t marks = 0;
  for (int part = 0; part < kParts; ++part) {
    const int at = i + part * Lanes::kWidth;
    Lanes v = Rule::V(k, g, r, u, at);
    v.Store(r + at);
    marks |= v.TakeLarge(threshold) << (part * Lanes::kWidth);
    squares[part] = squares[part] + v * v;
  }
  return marks;
}

// The last n % 16 elements, as if zeros followed them: those are never marked.
template <class Rule>
uint32_t Tail(const typename Rule::Constants& k, const typename Rule::Type* g, float* r, float* u,
              int n, uint32_t threshold, Lanes* squares) {
  typename Rule::Type grad[kStep] = {};
  float residual[kStep] = {};
  float velocity[kStep] = {};
  if (g != nullptr) std::memcpy(grad, g, n * sizeof *g);
  if (u != nullptr) std::memcpy(velocity, u, n * sizeof *u);
  std::memcpy(residual, r, n * sizeof *r);
  const uint32_t marks = Step<Rule>(k, grad, residual, velocity, 0, threshold, squares);
  std::memcpy(r, residual, n * sizeof *r);
  if (u != nullptr) std::memcpy(u, velocity, n * sizeof *u);
  return marks;
}

template <class Rule>
double Mark(const Block& block, int n) {
  const typename Rule::Constants k(block);
  const auto* g = static_cast<const typename Rule::Type*>(block.grad);
  float* r = block.residual;
  float* u = block.velocity;
  Lanes squares[kParts];
  for (Lanes& lane : squares) lane = Lanes::Zero();
  int i = 0;
  uint64_t* word = block.marks;
  for (; i + 64 <= n; i += 64) {
    uint64_t marks = 0;
    for (int step = 0; step < 4; ++step) {
      const uint64_t some = Step<Rule>(k, g, r, u, i + step * kStep, block.threshold, squares);
      marks |= some << (step * kStep);
    }
    *word++ = marks;
  }
  if (i < n) {
    uint64_t marks = 0;
    for (int shift = 0; i < n; i += kStep, shift += kStep) {
      const uint64_t some =
          i + kStep <= n ? Step<Rule>(k, g, r, u, i, block.threshold, squares)
                         : Tail<Rule>(k, g == nullptr ? g : g + i, r + i, u == nullptr ? u : u + i,
                                      n - i, block.threshold, squares);
      marks |= some << shift;
    }
    *word++ = marks;
  }
  float lanes[kStep];
  for (int part = 0; part < kParts; ++part) squares[part].Store(lanes + part * Lanes::kWidth);
  double sum = 0.0;
  for (float lane : lanes) sum += static_cast<double>(lane);
  return sum;
}

}  // namespace

MarkFn MarkKernel(ValueType grad, bool with_velocity) {
  switch (grad) {
    case ValueType::kFloat32:
      return with_velocity ? Mark<Momentum<Float32>> : Mark<Plain<Float32>>;
    case ValueType::kFloat16:
      return with_velocity ? Mark<Momentum<Float16>> : Mark<Plain<Float16>>;
    case ValueType::kBFloat16:
      return with_velocity ? Mark<Momentum<BFloat16>> : Mark<Plain<BFloat16>>;
  }
  return nullptr;
}

MarkFn MarkResidualKernel() { return Mark<Unchanged>; }

}  // namespace TACO_SIMD_NAMESPACE
}  // namespace topk
}  // namespace taco
