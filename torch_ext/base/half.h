// float16 and bfloat16 to and from float32, one element at a time, in integer arithmetic as far as
// it goes: the same bits on every machine.
//
// Rounding is to nearest, ties to even, as in PyTorch and in the F16C instructions. A NaN stays a
// NaN, made quiet. Also where denormals are flushed: no arithmetic is done on denormal floats.
#ifndef TORCH_EXT_BASE_HALF_H_
#define TORCH_EXT_BASE_HALF_H_

#include <cstdint>
#include <cstring>

namespace taco {
namespace base {

inline uint32_t BitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float FloatOf(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline float FromBFloat16(uint16_t half) { return FloatOf(static_cast<uint32_t>(half) << 16); }

inline uint16_t ToBFloat16(float value) {
  const uint32_t bits = BitsOf(value);
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t nan = (bits >> 16) | 0x0040u;
  return static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? nan : rounded);
}

inline float FromFloat16(uint16_t half) {
  const uint32_t magnitude = half & 0x7FFFu;
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t shifted = magnitude << 13;
  // Normal numbers: rebias the exponent, 15 -> 127. Subnormal ones: value = magnitude * 2^-24,
  // which (2^-14 + value) - 2^-14 gives exactly. Infinity and NaN: exponent all ones.
  const uint32_t normal = shifted + (112u << 23);
  const uint32_t subnormal = BitsOf(FloatOf(shifted + (113u << 23)) - FloatOf(113u << 23));
  const uint32_t special = shifted + (224u << 23);
  const uint32_t quiet = magnitude > 0x7C00u ? 0x00400000u : 0u;
  uint32_t bits = magnitude < 0x0400u ? subnormal : normal;
  bits = magnitude >= 0x7C00u ? special | quiet : bits;
  return FloatOf(bits | sign);
}

inline uint16_t ToFloat16(float value) {
  const uint32_t all = BitsOf(value);
  const uint32_t sign = (all >> 16) & 0x8000u;
  const uint32_t bits = all & 0x7FFFFFFFu;
  // Below 2^-14 the result is subnormal: adding 0.5 leaves a unit of 2^-24 in the last place, so
  // that the addition rounds as wanted.
  const uint32_t subnormal = BitsOf(FloatOf(bits) + 0.5f) - BitsOf(0.5f);
  const uint32_t normal = (bits - (112u << 23) + 0x0FFFu + ((bits >> 13) & 1u)) >> 13;
  const uint32_t nan = 0x7E00u | ((bits >> 13) & 0x03FFu);
  uint32_t half = bits < (113u << 23) ? subnormal : normal;
  half = bits >= 0x477FF000u ? 0x7C00u : half;  // 65520 and more round to infinity
  half = bits > 0x7F800000u ? nan : half;
  return static_cast<uint16_t>(half | sign);
}

}  // namespace base
}  // namespace taco

#endif  // TORCH_EXT_BASE_HALF_H_
