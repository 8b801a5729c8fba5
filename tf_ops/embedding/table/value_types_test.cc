// bfloat16 and float16 <-> float32: exact, to nearest even, alike on every instruction set.
#include <xmmintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "tf_ops/embedding/table/simd_levels_for_test.h"

namespace taco {
namespace embedding {
namespace {

float FromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// What 16 bits mean, by the definition of the format.
double Meaning(uint16_t half, int mantissa_bits) {
  const int exponent_bits = 15 - mantissa_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (half & 0x7FFF) >> mantissa_bits;
  const double mantissa = half & ((1 << mantissa_bits) - 1);
  const double sign = half & 0x8000 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * INFINITY;
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

struct Format {
  ValueType type;
  int mantissa_bits;
};
constexpr Format kFormats[] = {{ValueType::kBFloat16, 7}, {ValueType::kFloat16, 10}};

std::vector<uint16_t> AllHalves() {
  std::vector<uint16_t> halves(65536);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  return halves;
}

// Floats over the whole range, and those at, between and just beside neighbouring halves.
std::vector<float> ManyFloats() {
  std::vector<float> floats;
  for (uint64_t bits = 0; bits <= 0xFFFFFFFFu; bits += 4093) {
    floats.push_back(FromBits(static_cast<uint32_t>(bits)));
  }
  for (uint32_t half = 0; half < 65536; ++half) {
    for (uint32_t low : {0u, 1u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {  // bfloat16's ties
      floats.push_back(FromBits(half << 16 | low));
    }
    const double here = Meaning(static_cast<uint16_t>(half), 10);
    const double next = Meaning(static_cast<uint16_t>(half + 1), 10);
    const float tie = static_cast<float>((here + next) / 2);  // exact
    for (float value : {tie, std::nextafter(tie, INFINITY), std::nextafter(tie, -INFINITY)}) {
      floats.push_back(value);
    }
  }
  for (float value : {65504.0f, 65519.996f, 65520.0f, 65536.0f, 1e30f}) floats.push_back(value);
  return floats;
}

TEST(ValueTypesTest, LoadsEveryHalfExactly) {
  const std::vector<uint16_t> halves = AllHalves();
  std::vector<float> floats(halves.size());
  for (const SimdLevelForTest& level : SimdLevelsForTest()) {
    for (const Format& format : kFormats) {
      level.load(format.type)(halves.data(), floats.data(), static_cast<int>(halves.size()));
      for (size_t i = 0; i < halves.size(); ++i) {
        const double meaning = Meaning(halves[i], format.mantissa_bits);
        if (std::isnan(meaning)) {
          ASSERT_TRUE(std::isnan(floats[i])) << level.name << " " << i;
        } else {
          ASSERT_EQ(floats[i], meaning) << level.name << " " << i;
          ASSERT_EQ(std::signbit(floats[i]), std::signbit(meaning)) << level.name << " " << i;
        }
      }
    }
  }
}

TEST(ValueTypesTest, StoresTheNearestAndOfTwoTheEvenOne) {
  const std::vector<float> floats = ManyFloats();
  std::vector<uint16_t> halves(floats.size());
  for (const SimdLevelForTest& level : SimdLevelsForTest()) {
    for (const Format& format : kFormats) {
      level.store(format.type, floats.data(), halves.data(), static_cast<int>(floats.size()));
      for (size_t i = 0; i < floats.size(); ++i) {
        const double value = floats[i];
        const uint16_t half = halves[i];
        if (std::isnan(value)) {
          ASSERT_TRUE(std::isnan(Meaning(half, format.mantissa_bits)));
          continue;
        }
        ASSERT_EQ(std::signbit(value), (half & 0x8000) != 0);
        // Infinity stands for the next number after the largest, as in IEEE 754's rounding.
        const uint16_t magnitude = half & 0x7FFF;
        const double largest = std::ldexp(2.0, format.type == ValueType::kFloat16 ? 15 : 127);
        const auto distance = [&](int other) {
          double meaning = Meaning(static_cast<uint16_t>(other), format.mantissa_bits);
          if (std::isinf(meaning)) meaning = largest;
          return std::abs(std::min(std::abs(value), 2 * largest) - meaning);
        };
        const bool infinite = std::isinf(Meaning(magnitude, format.mantissa_bits));
        if (magnitude > 0) {
          const double below = distance(magnitude - 1);
          ASSERT_TRUE(distance(magnitude) < below ||
                      (distance(magnitude) == below && magnitude % 2 == 0))
              << level.name << " " << value;
        }
        if (!infinite) {
          const double above = distance(magnitude + 1);
          ASSERT_TRUE(distance(magnitude) < above ||
                      (distance(magnitude) == above && magnitude % 2 == 0))
              << level.name << " " << value;
        }
      }
    }
  }
}

// NaN payloads, signs of zeros and all, and also where TensorFlow has denormals flushed to zero.
TEST(ValueTypesTest, EveryInstructionSetGivesTheSameBits) {
  const std::vector<float> floats = ManyFloats();
  const std::vector<uint16_t> halves = AllHalves();
  const auto levels = SimdLevelsForTest();
  for (const Format& format : kFormats) {
    std::vector<uint16_t> stored(floats.size()), stored_here(floats.size());
    std::vector<float> loaded(halves.size()), loaded_here(halves.size());
    levels[0].store(format.type, floats.data(), stored.data(), static_cast<int>(floats.size()));
    levels[0].load(format.type)(halves.data(), loaded.data(), static_cast<int>(halves.size()));
    for (const SimdLevelForTest& level : levels) {
      for (bool flush : {false, true}) {
        const unsigned saved = _mm_getcsr();
        if (flush) _mm_setcsr(saved | 0x8040);  // FTZ and DAZ
        level.store(format.type, floats.data(), stored_here.data(),
                    static_cast<int>(floats.size()));
        level.load(format.type)(halves.data(), loaded_here.data(), static_cast<int>(halves.size()));
        _mm_setcsr(saved);
        ASSERT_EQ(stored_here, stored) << level.name << " flushing " << flush;
        ASSERT_EQ(std::memcmp(loaded_here.data(), loaded.data(), 4 * loaded.size()), 0)
            << level.name << " flushing " << flush;
      }
    }
  }
}

}  // namespace
}  // namespace embedding
}  // namespace taco
