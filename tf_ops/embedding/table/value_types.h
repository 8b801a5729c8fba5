// The three value types of a row as the kernels see them: blocks of float32 in, blocks out.
//
// Included only by sources that are compiled once per instruction set. Rounding is to nearest,
// ties to even; a NaN stays a NaN, made quiet, with its sign and the upper bits of its payload.
// The software path for float16 gives the same bits as the F16C instructions, also where denormals
// are flushed: it does no arithmetic on denormal floats.
#ifndef TF_OPS_EMBEDDING_TABLE_VALUE_TYPES_H_
#define TF_OPS_EMBEDDING_TABLE_VALUE_TYPES_H_

#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#ifndef TACO_SIMD_NAMESPACE
#error "compile with -DTACO_SIMD_NAMESPACE=v2, v3 or v4"
#endif

namespace taco {
namespace embedding {
namespace TACO_SIMD_NAMESPACE {

inline constexpr int kBlock = 256;  // elements converted at a time: 1 KiB of stack

static inline uint32_t BitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
static inline float FloatOf(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

struct Float32 {
  static void Load(const void* in, float* out, int n) {
    std::memcpy(out, in, static_cast<size_t>(n) * 4);
  }
  static void Store(const float* in, void* out, int n) {
    std::memcpy(out, in, static_cast<size_t>(n) * 4);
  }
};

struct BFloat16 {
  static float ToFloat(uint16_t half) { return FloatOf(static_cast<uint32_t>(half) << 16); }
  static uint16_t FromFloat(float value) {
    const uint32_t bits = BitsOf(value);
    const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    const uint32_t nan = (bits >> 16) | 0x0040u;
    return static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? nan : rounded);
  }
  static void Load(const void* in, float* __restrict out, int n) {
    const uint16_t* __restrict half = static_cast<const uint16_t*>(in);
    for (int i = 0; i < n; ++i) out[i] = ToFloat(half[i]);
  }
  static void Store(const float* __restrict in, void* out, int n) {
    uint16_t* __restrict half = static_cast<uint16_t*>(out);
    for (int i = 0; i < n; ++i) half[i] = FromFloat(in[i]);
  }
};

struct Float16 {
  static float ToFloat(uint16_t half) {
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
  static uint16_t FromFloat(float value) {
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
  static void Load(const void* in, float* __restrict out, int n) {
    const uint16_t* __restrict half = static_cast<const uint16_t*>(in);
    int i = 0;
#if defined(__F16C__)
    for (; i + 8 <= n; i += 8) {
      const __m128i eight = _mm_loadu_si128(reinterpret_cast<const __m128i*>(half + i));
      _mm256_storeu_ps(out + i, _mm256_cvtph_ps(eight));
    }
#endif
    for (; i < n; ++i) out[i] = ToFloat(half[i]);
  }
  static void Store(const float* __restrict in, void* out, int n) {
    uint16_t* __restrict half = static_cast<uint16_t*>(out);
    int i = 0;
#if defined(__F16C__)
    for (; i + 8 <= n; i += 8) {
      const __m128i eight = _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(half + i), eight);
    }
#endif
    for (; i < n; ++i) half[i] = FromFloat(in[i]);
  }
};

// Calls body(float* block, int at, int n) for elements [at, at + n) of `vector`, in order, and
// writes back what body leaves in the block. Float32: one block, in place.
template <class Value, class Body>
static inline void UpdateBlocks(void* vector, int dim, const Body& body) {
  if constexpr (std::is_same_v<Value, Float32>) {
    body(static_cast<float*>(vector), 0, dim);
  } else {
    uint16_t* half = static_cast<uint16_t*>(vector);
    alignas(64) float block[kBlock];
    for (int at = 0; at < dim; at += kBlock) {
      const int n = dim - at < kBlock ? dim - at : kBlock;
      Value::Load(half + at, block, n);
      body(static_cast<float*>(block), at, n);
      Value::Store(block, half + at, n);
    }
  }
}

}  // namespace TACO_SIMD_NAMESPACE
}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_VALUE_TYPES_H_
