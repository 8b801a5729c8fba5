// How elements are ordered: by magnitude, as an integer key.
//
// The bits of |v| as an integer rise with |v|. Infinities and NaNs share the highest key: a
// gradient that is not finite must be seen by whoever receives it, so it goes first. Zero has key 0
// and is never sent.
#ifndef TORCH_EXT_TOPK_MAGNITUDE_H_
#define TORCH_EXT_TOPK_MAGNITUDE_H_

#include <algorithm>
#include <cstdint>

#include "torch_ext/base/half.h"
#include "torch_ext/base/value_type.h"

namespace taco {
namespace topk {

inline constexpr uint32_t kInfinityKey = 0x7F800000u;

inline uint32_t KeyOf(float value) {
  return std::min(base::BitsOf(value) & 0x7FFFFFFFu, kInfinityKey);
}

// What is sent for `value`. Finite values that a 16-bit type would round to infinity saturate: the
// rest of them stays in the residual and goes in later steps.
inline uint16_t EncodeFloat16(float value) {
  const uint16_t half = base::ToFloat16(value);
  return (half & 0x7FFFu) == 0x7C00u && KeyOf(value) < kInfinityKey
             ? static_cast<uint16_t>((half & 0x8000u) | 0x7BFFu)
             : half;
}
inline uint16_t EncodeBFloat16(float value) {
  const uint16_t half = base::ToBFloat16(value);
  return (half & 0x7FFFu) == 0x7F80u && KeyOf(value) < kInfinityKey
             ? static_cast<uint16_t>((half & 0x8000u) | 0x7F7Fu)
             : half;
}

// Writes element i of an array of `type`.
inline void EncodeTo(void* values, base::ValueType type, int64_t i, float value) {
  switch (type) {
    case base::ValueType::kFloat32:
      static_cast<float*>(values)[i] = value;
      return;
    case base::ValueType::kFloat16:
      static_cast<uint16_t*>(values)[i] = EncodeFloat16(value);
      return;
    case base::ValueType::kBFloat16:
      static_cast<uint16_t*>(values)[i] = EncodeBFloat16(value);
      return;
  }
}

// What stays in the residual when `value` is sent: 0, or what rounding or saturation took. What is
// not finite leaves 0.
inline float RestOf(float value, base::ValueType type) {
  if (type == base::ValueType::kFloat32 || KeyOf(value) == kInfinityKey) return 0.0f;
  return type == base::ValueType::kFloat16 ? value - base::FromFloat16(EncodeFloat16(value))
                                           : value - base::FromBFloat16(EncodeBFloat16(value));
}

}  // namespace topk
}  // namespace taco

#endif  // TORCH_EXT_TOPK_MAGNITUDE_H_
