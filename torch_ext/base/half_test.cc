#include "torch_ext/base/half.h"

#include <cmath>
#include <limits>
#include <random>

#include "gtest/gtest.h"

namespace taco {
namespace base {
namespace {

// The nearest of all finite values of a 16-bit type, ties to the even code: slow and obvious.
template <class Decode>
uint16_t Nearest(float value, uint16_t largest, const Decode& decode) {
  uint16_t low = 0, high = largest;
  const double wanted = std::fabs(static_cast<double>(value));
  while (high - low > 1) {
    const uint16_t middle = static_cast<uint16_t>((low + high) / 2);
    (static_cast<double>(decode(middle)) <= wanted ? low : high) = middle;
  }
  const double below = wanted - static_cast<double>(decode(low));
  const double above = static_cast<double>(decode(high)) - wanted;
  const uint16_t chosen = below < above || (below == above && low % 2 == 0) ? low : high;
  return static_cast<uint16_t>(chosen | (std::signbit(value) ? 0x8000 : 0));
}

TEST(HalfTest, EveryFloat16SurvivesTheWayThereAndBack) {
  for (uint32_t code = 0; code < 65536; ++code) {
    const uint16_t half = static_cast<uint16_t>(code);
    const float value = FromFloat16(half);
    if (std::isnan(value)) {
      EXPECT_TRUE((code & 0x7C00) == 0x7C00 && (code & 0x3FF) != 0);
      EXPECT_TRUE(std::isnan(FromFloat16(ToFloat16(value))));
    } else {
      EXPECT_EQ(ToFloat16(value), half);
    }
  }
}

TEST(HalfTest, EveryBFloat16SurvivesTheWayThereAndBack) {
  for (uint32_t code = 0; code < 65536; ++code) {
    const uint16_t half = static_cast<uint16_t>(code);
    const float value = FromBFloat16(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(FromBFloat16(ToBFloat16(value))));
    } else {
      EXPECT_EQ(ToBFloat16(value), half);
    }
  }
}

TEST(HalfTest, RoundsToNearestTiesToEven) {
  std::mt19937 random(1);
  for (int i = 0; i < 200000; ++i) {
    const float value = FloatOf(static_cast<uint32_t>(random()));
    if (!std::isfinite(value)) continue;
    if (std::fabs(value) <= 65504.0f) {
      EXPECT_EQ(ToFloat16(value), Nearest(value, 0x7BFF, FromFloat16)) << value;
    }
    if (std::fabs(value) < FromBFloat16(0x7F7F)) {
      EXPECT_EQ(ToBFloat16(value), Nearest(value, 0x7F7F, FromBFloat16)) << value;
    }
  }
  // Halfway between two codes, on either side of an even one.
  for (uint16_t code : {0x3C00, 0x3C01, 0x0001, 0x03FF, 0x7BFE}) {
    const float tie = 0.5f * (FromFloat16(code) + FromFloat16(static_cast<uint16_t>(code + 1)));
    EXPECT_EQ(ToFloat16(tie), code % 2 == 0 ? code : code + 1);
  }
}

TEST(HalfTest, WhatIsTooLargeBecomesInfinity) {
  EXPECT_EQ(ToFloat16(65519.996f), 0x7BFF);
  EXPECT_EQ(ToFloat16(65520.0f), 0x7C00);
  EXPECT_EQ(ToFloat16(-1e30f), 0xFC00);
  EXPECT_EQ(ToBFloat16(std::numeric_limits<float>::max()), 0x7F80);
}

}  // namespace
}  // namespace base
}  // namespace taco
