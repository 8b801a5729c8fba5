// A vector of floats of the width that the instruction set has: 4, 8 or 16.
//
// Included only by sources that are compiled once per instruction set. Each operation is one
// IEEE operation a lane, so that code over sixteen lanes at a time gives the same bits whatever
// vectors the sixteen are cut into.
#ifndef TORCH_EXT_BASE_LANES_H_
#define TORCH_EXT_BASE_LANES_H_

#include <immintrin.h>

#include <cstdint>

#include "torch_ext/base/half.h"

#ifndef TACO_SIMD_NAMESPACE
#error "compile with -DTACO_SIMD_NAMESPACE=v2, v3 or v4"
#endif

namespace taco {
namespace base {
namespace TACO_SIMD_NAMESPACE {

#if defined(__AVX512F__)

struct Lanes {
  static constexpr int kWidth = 16;
  __m512 v;

  static Lanes Zero() { return {_mm512_setzero_ps()}; }
  static Lanes All(float x) { return {_mm512_set1_ps(x)}; }
  static Lanes Load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Lanes LoadBFloat16(const uint16_t* p) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
  }
  static Lanes LoadFloat16(const uint16_t* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  void Store(float* p) const { _mm512_storeu_ps(p, v); }
  void StoreBFloat16(uint16_t* p) const {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i upper = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_srli_epi32(
        _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i quiet = _mm512_or_si512(upper, _mm512_set1_epi32(0x40));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, nan, quiet)));
  }
  void StoreFloat16(uint16_t* p) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }

  // Splits off what is at least `threshold` (bits of a positive float) in magnitude: it becomes 0,
  // and its bit of the result 1.
  uint32_t TakeLarge(uint32_t threshold) {
    const __m512i magnitude =
        _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7FFFFFFF));
    const __mmask16 large =
        _mm512_cmpge_epu32_mask(magnitude, _mm512_set1_epi32(static_cast<int>(threshold)));
    v = _mm512_maskz_mov_ps(static_cast<__mmask16>(~large), v);
    return large;
  }
};
inline Lanes operator+(Lanes a, Lanes b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {_mm512_mul_ps(a.v, b.v)}; }

#elif defined(__AVX2__)

struct Lanes {
  static constexpr int kWidth = 8;
  __m256 v;

  static Lanes Zero() { return {_mm256_setzero_ps()}; }
  static Lanes All(float x) { return {_mm256_set1_ps(x)}; }
  static Lanes Load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Lanes LoadBFloat16(const uint16_t* p) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16))};
  }
  static Lanes LoadFloat16(const uint16_t* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  void Store(float* p) const { _mm256_storeu_ps(p, v); }
  void StoreBFloat16(uint16_t* p) const {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i upper = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_srli_epi32(
        _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd), 16);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    const __m256i chosen = _mm256_blendv_epi8(rounded, quiet, nan);
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(p),
        _mm_packus_epi32(_mm256_castsi256_si128(chosen), _mm256_extracti128_si256(chosen, 1)));
  }
  void StoreFloat16(uint16_t* p) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }

  uint32_t TakeLarge(uint32_t threshold) {
    // The sign bit is gone and the threshold at least 1: a signed comparison serves.
    const __m256i magnitude =
        _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7FFFFFFF));
    const __m256 large = _mm256_castsi256_ps(
        _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(static_cast<int>(threshold - 1))));
    v = _mm256_andnot_ps(large, v);
    return static_cast<uint32_t>(_mm256_movemask_ps(large));
  }
};
inline Lanes operator+(Lanes a, Lanes b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {_mm256_mul_ps(a.v, b.v)}; }

#else

struct Lanes {
  static constexpr int kWidth = 4;
  __m128 v;

  static Lanes Zero() { return {_mm_setzero_ps()}; }
  static Lanes All(float x) { return {_mm_set1_ps(x)}; }
  static Lanes Load(const float* p) { return {_mm_loadu_ps(p)}; }
  static Lanes LoadBFloat16(const uint16_t* p) {
    const __m128i half = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return {_mm_castsi128_ps(_mm_slli_epi32(_mm_cvtepu16_epi32(half), 16))};
  }
  static Lanes LoadFloat16(const uint16_t* p) {
    return {
        _mm_setr_ps(FromFloat16(p[0]), FromFloat16(p[1]), FromFloat16(p[2]), FromFloat16(p[3]))};
  }
  void Store(float* p) const { _mm_storeu_ps(p, v); }
  void StoreBFloat16(uint16_t* p) const {
    float each[kWidth];
    Store(each);
    for (int i = 0; i < kWidth; ++i) p[i] = ToBFloat16(each[i]);
  }
  void StoreFloat16(uint16_t* p) const {
    float each[kWidth];
    Store(each);
    for (int i = 0; i < kWidth; ++i) p[i] = ToFloat16(each[i]);
  }

  uint32_t TakeLarge(uint32_t threshold) {
    const __m128i magnitude = _mm_and_si128(_mm_castps_si128(v), _mm_set1_epi32(0x7FFFFFFF));
    const __m128 large = _mm_castsi128_ps(
        _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(static_cast<int>(threshold - 1))));
    v = _mm_andnot_ps(large, v);
    return static_cast<uint32_t>(_mm_movemask_ps(large));
  }
};
inline Lanes operator+(Lanes a, Lanes b) { return {_mm_add_ps(a.v, b.v)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {_mm_mul_ps(a.v, b.v)}; }

#endif

}  // namespace TACO_SIMD_NAMESPACE
}  // namespace base
}  // namespace taco

#endif  // TORCH_EXT_BASE_LANES_H_
