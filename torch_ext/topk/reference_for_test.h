// What Compress promises, written so that it can be read rather than run fast.
#ifndef TORCH_EXT_TOPK_REFERENCE_FOR_TEST_H_
#define TORCH_EXT_TOPK_REFERENCE_FOR_TEST_H_

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "torch_ext/base/half.h"
#include "torch_ext/topk/compress.h"

namespace taco {
namespace topk {

using Floats = std::vector<float>;

// By magnitude; what is not finite is above all else and equal among itself.
inline double Rank(float v) {
  return std::isfinite(v) ? std::fabs(static_cast<double>(v))
                          : std::numeric_limits<double>::infinity();
}

// The indices of the `count` largest, among equals the lower index first; ascending.
inline std::vector<int32_t> Largest(const Floats& v, int64_t count) {
  std::vector<int32_t> order(v.size());
  for (size_t i = 0; i < v.size(); ++i) order[i] = static_cast<int32_t>(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return Rank(v[a]) > Rank(v[b]); });
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

inline int64_t NonZeros(const Floats& v) {
  return std::count_if(v.begin(), v.end(), [](float x) { return x != 0.0f; });
}

// A value as it arrives: rounded to `type`, saturated.
inline float AsSent(float v, base::ValueType type) {
  if (type == base::ValueType::kFloat32 || !std::isfinite(v)) return v;
  const bool half = type == base::ValueType::kFloat16;
  const float most = half ? 65504.0f : base::FromBFloat16(0x7F7F);
  const float rounded =
      half ? base::FromFloat16(base::ToFloat16(v)) : base::FromBFloat16(base::ToBFloat16(v));
  return std::min(std::max(rounded, -most), most);
}

// A gradient in storage of `type`, and as the float32 that it stands for.
struct Gradient {
  Gradient(Floats wanted, base::ValueType type) : type(type), values(std::move(wanted)) {
    if (type == base::ValueType::kFloat32) return;
    for (float& v : values) {
      const uint16_t code =
          type == base::ValueType::kFloat16 ? base::ToFloat16(v) : base::ToBFloat16(v);
      codes.push_back(code);
      if (type == base::ValueType::kFloat16) v = base::FromFloat16(code);
      if (type == base::ValueType::kBFloat16) v = base::FromBFloat16(code);
    }
  }
  const void* data() const {
    return type == base::ValueType::kFloat32 ? static_cast<const void*>(values.data())
                                             : static_cast<const void*>(codes.data());
  }
  base::ValueType type;
  Floats values;
  std::vector<uint16_t> codes;
};

// Same bits, or both NaN.
inline bool Same(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || base::BitsOf(a) == base::BitsOf(b);
}

}  // namespace topk
}  // namespace taco

#endif  // TORCH_EXT_TOPK_REFERENCE_FOR_TEST_H_
