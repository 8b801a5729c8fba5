#include "torch_ext/fusion/kernels.h"

#include <cstring>

#include "torch_ext/base/lanes.h"

namespace taco {
namespace fusion {
namespace TACO_SIMD_NAMESPACE {
namespace {

using base::ValueType;
using base::TACO_SIMD_NAMESPACE::Lanes;

struct Float32 {
  using Type = float;
  static Lanes Load(const float* p) { return Lanes::Load(p); }
  static void Store(Lanes v, float* p) { v.Store(p); }
};
struct Float16 {
  using Type = uint16_t;
  static Lanes Load(const uint16_t* p) { return Lanes::LoadFloat16(p); }
  static void Store(Lanes v, uint16_t* p) { v.StoreFloat16(p); }
};
struct BFloat16 {
  using Type = uint16_t;
  static Lanes Load(const uint16_t* p) { return Lanes::LoadBFloat16(p); }
  static void Store(Lanes v, uint16_t* p) { v.StoreBFloat16(p); }
};

template <class From, class To>
void Cast(const void* input, void* output, int64_t n, float scale) {
  const auto* in = static_cast<const typename From::Type*>(input);
  auto* out = static_cast<typename To::Type*>(output);
  const Lanes factor = Lanes::All(scale);
  int64_t i = 0;
  for (; i + Lanes::kWidth <= n; i += Lanes::kWidth) {
    To::Store(From::Load(in + i) * factor, out + i);
  }
  if (i == n) return;
  typename From::Type rest[Lanes::kWidth] = {};
  typename To::Type made[Lanes::kWidth];
  std::memcpy(rest, in + i, (n - i) * sizeof *in);
  To::Store(From::Load(rest) * factor, made);
  std::memcpy(out + i, made, (n - i) * sizeof *out);
}

template <class From>
CastFn CastFrom(ValueType to) {
  switch (to) {
    case ValueType::kFloat32:
      return Cast<From, Float32>;
    case ValueType::kFloat16:
      return Cast<From, Float16>;
    case ValueType::kBFloat16:
      return Cast<From, BFloat16>;
  }
  return nullptr;
}

}  // namespace

CastFn CastKernel(ValueType from, ValueType to) {
  switch (from) {
    case ValueType::kFloat32:
      return CastFrom<Float32>(to);
    case ValueType::kFloat16:
      return CastFrom<Float16>(to);
    case ValueType::kBFloat16:
      return CastFrom<BFloat16>(to);
  }
  return nullptr;
}

}  // namespace TACO_SIMD_NAMESPACE
}  // namespace fusion
}  // namespace taco
