// Every instruction set gives the bits of the others, and those of one element at a time.

#include "torch_ext/topk/kernels.h"

#include <cmath>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "torch_ext/base/half.h"
#include "torch_ext/base/simd.h"

namespace taco {
namespace topk {
namespace {

using base::ValueType;

struct Level {
  const char* name;
  decltype(&v2::MarkKernel) mark;
  decltype(&v2::MarkResidualKernel) mark_residual;
};

std::vector<Level> Levels() {
  std::vector<Level> levels = {{"v2", v2::MarkKernel, v2::MarkResidualKernel}};
  if (base::CpuSimd() >= base::Simd::kAvx2) {
    levels.push_back({"v3", v3::MarkKernel, v3::MarkResidualKernel});
  }
  if (base::CpuSimd() >= base::Simd::kAvx512) {
    levels.push_back({"v4", v4::MarkKernel, v4::MarkResidualKernel});
  }
  return levels;
}

struct Arrays {
  explicit Arrays(int n) : grad(n), codes(n), residual(n), velocity(n), marks(kBlock / 64, 0) {
    std::mt19937 random(static_cast<unsigned>(n));
    std::normal_distribution<float> normal;
    for (int i = 0; i < n; ++i) {
      grad[i] = i % 97 == 0 ? INFINITY : normal(random);
      codes[i] = static_cast<uint16_t>(random());
      residual[i] = normal(random);
      velocity[i] = normal(random);
    }
  }
  Block block(ValueType type, uint32_t threshold) {
    Block made{};
    made.grad = type == ValueType::kFloat32 ? static_cast<const void*>(grad.data()) : codes.data();
    made.residual = residual.data();
    made.velocity = velocity.data();
    made.marks = marks.data();
    made.scale = 0.3f;
    made.momentum = 0.9f;
    made.threshold = threshold;
    return made;
  }
  std::vector<float> grad;
  std::vector<uint16_t> codes;
  std::vector<float> residual, velocity;
  std::vector<uint64_t> marks;
};

bool Same(const std::vector<float>& a, const std::vector<float>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) != std::isnan(b[i])) return false;
    if (!std::isnan(a[i]) && base::BitsOf(a[i]) != base::BitsOf(b[i])) return false;
  }
  return true;
}

TEST(KernelsTest, LevelsAgreeWithOneAnotherAndWithOneElementAtATime) {
  for (const Level& level : Levels()) {
    for (const auto type : {ValueType::kFloat32, ValueType::kFloat16, ValueType::kBFloat16}) {
      for (const bool with_velocity : {false, true}) {
        for (const int n : {1, 15, 16, 17, 63, 64, 65, 1000, 4095, 4096}) {
          for (const uint32_t threshold : {1u, base::BitsOf(1.5f), 0x7F800000u, 1u << 31}) {
            Arrays got(n), first(n), wanted(n);
            const double sum = level.mark(type, with_velocity)(got.block(type, threshold), n);
            const double first_sum =
                v2::MarkKernel(type, with_velocity)(first.block(type, threshold), n);
            EXPECT_TRUE(sum == first_sum || (std::isnan(sum) && std::isnan(first_sum)));
            for (int i = 0; i < n; ++i) {
              float g = wanted.grad[i];
              if (type == ValueType::kFloat16) g = base::FromFloat16(wanted.codes[i]);
              if (type == ValueType::kBFloat16) g = base::FromBFloat16(wanted.codes[i]);
              float step = g * 0.3f;
              if (with_velocity) {
                const float kept = wanted.velocity[i] * 0.9f;
                step = wanted.velocity[i] = kept + step;
              }
              const float v = wanted.residual[i] = wanted.residual[i] + step;
              const bool large = (base::BitsOf(v) & 0x7FFFFFFFu) >= threshold;
              wanted.marks[i / 64] |= static_cast<uint64_t>(large) << (i % 64);
            }
            ASSERT_EQ(got.marks, wanted.marks) << level.name << " " << n;
            ASSERT_TRUE(Same(got.residual, wanted.residual)) << level.name << " " << n;
            ASSERT_TRUE(Same(got.velocity, wanted.velocity)) << level.name << " " << n;
          }
        }
      }
    }
  }
}

TEST(KernelsTest, TheResidualAloneIsMarkedAndNotChanged) {
  for (const Level& level : Levels()) {
    for (const int n : {1, 17, 64, 4096}) {
      Arrays got(n);
      const std::vector<float> before = got.residual;
      Block block = got.block(ValueType::kFloat32, base::BitsOf(1.0f));
      block.grad = nullptr;
      block.velocity = nullptr;
      const double sum = level.mark_residual()(block, n);
      double wanted = 0.0;
      for (int i = 0; i < n; ++i) {
        const bool large = std::fabs(before[i]) >= 1.0f;
        EXPECT_EQ((got.marks[i / 64] >> (i % 64)) & 1, large ? 1u : 0u);
        if (!large) wanted += static_cast<double>(before[i]) * static_cast<double>(before[i]);
      }
      EXPECT_EQ(got.residual, before);
      EXPECT_NEAR(sum, wanted, 1e-5 * wanted);
    }
  }
}

}  // namespace
}  // namespace topk
}  // namespace taco
