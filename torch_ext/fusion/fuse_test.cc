#include "torch_ext/fusion/fuse.h"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "torch_ext/base/half.h"
#include "torch_ext/base/simd.h"
#include "torch_ext/base/threads_for_test.h"
#include "torch_ext/fusion/kernels.h"

namespace taco {
namespace fusion {
namespace {

using base::ValueType;
using Bytes = std::vector<uint8_t>;
using Kind = Element::Kind;

constexpr ValueType kTypes[] = {ValueType::kFloat32, ValueType::kFloat16, ValueType::kBFloat16};

Element ElementOf(ValueType type) {
  const Kind kinds[] = {Kind::kFloat32, Kind::kFloat16, Kind::kBFloat16};
  const int index = static_cast<int>(type);
  return {kinds[index], static_cast<int>(base::SizeOf(type)), index};
}
constexpr Element kFloat64 = {Kind::kFloat64, 8, 10};
constexpr Element kInt32 = {Kind::kOther, 4, 11};

float Read(const Bytes& bytes, ValueType type, int64_t i) {
  uint32_t code = 0;
  std::memcpy(&code, bytes.data() + i * base::SizeOf(type), base::SizeOf(type));
  if (type == ValueType::kFloat32) return base::FloatOf(code);
  return type == ValueType::kFloat16 ? base::FromFloat16(static_cast<uint16_t>(code))
                                     : base::FromBFloat16(static_cast<uint16_t>(code));
}

void Write(Bytes* bytes, ValueType type, int64_t i, float value) {
  uint32_t code = base::BitsOf(value);
  if (type == ValueType::kFloat16) code = base::ToFloat16(value);
  if (type == ValueType::kBFloat16) code = base::ToBFloat16(value);
  std::memcpy(bytes->data() + i * base::SizeOf(type), &code, base::SizeOf(type));
}

// Any bits at all: denormals, infinities, NaNs among them.
Bytes Noise(int64_t bytes) {
  std::mt19937 random(static_cast<unsigned>(bytes));
  Bytes made(bytes);
  for (uint8_t& byte : made) byte = static_cast<uint8_t>(random());
  return made;
}

TEST(FusionKernelsTest, LevelsAgreeWithOneAnotherAndWithOneElementAtATime) {
  std::vector<decltype(&v2::CastKernel)> levels = {v2::CastKernel};
  if (base::CpuSimd() >= base::Simd::kAvx2) levels.push_back(v3::CastKernel);
  if (base::CpuSimd() >= base::Simd::kAvx512) levels.push_back(v4::CastKernel);
  for (const auto level : levels) {
    for (const ValueType from : kTypes) {
      for (const ValueType to : kTypes) {
        for (const float scale : {1.0f, 0.37f}) {
          for (const int n : {1, 7, 8, 16, 33, 70000}) {
            const Bytes in = Noise(n * base::SizeOf(from));
            Bytes out(n * base::SizeOf(to));
            level(from, to)(in.data(), out.data(), n, scale);
            Bytes wanted(out.size());
            for (int i = 0; i < n; ++i) Write(&wanted, to, i, Read(in, from, i) * scale);
            for (int i = 0; i < n; ++i) {
              const float a = Read(out, to, i), b = Read(wanted, to, i);
              ASSERT_TRUE((std::isnan(a) && std::isnan(b)) || base::BitsOf(a) == base::BitsOf(b))
                  << a << " " << b;
            }
          }
        }
      }
    }
  }
}

TEST(FuseTest, ThereAndBackWithEveryPairOfTypesAndAnyThreads) {
  for (const int threads : {1, 3}) {
    base::ThreadsForTest executor(threads);
    for (const ValueType buffer_type : kTypes) {
      std::vector<Bytes> tensors;
      std::vector<Segment> segments;
      std::vector<float> wanted;
      std::mt19937 random(1);
      for (const int count : {0, 1, 100, 70001, 3, 200000}) {
        const ValueType type = kTypes[tensors.size() % 3];
        tensors.emplace_back(count * base::SizeOf(type));
        for (int i = 0; i < count; ++i) {
          const float value = static_cast<float>(static_cast<int>(random() % 255) - 127);
          Write(&tensors.back(), type, i, value);
          wanted.push_back(value * 0.5f);
        }
        segments.push_back({tensors.back().data(), count, ElementOf(type)});
      }
      const int64_t total = static_cast<int64_t>(wanted.size());
      Bytes buffer((total + 2) * base::SizeOf(buffer_type), 0xAB);
      const Segment whole{buffer.data(), total + 2, ElementOf(buffer_type)};
      const int64_t num = static_cast<int64_t>(segments.size());
      ASSERT_TRUE(Fuse(segments.data(), num, 0.5f, &executor, whole).ok());
      for (int64_t i = 0; i < total; ++i) ASSERT_EQ(Read(buffer, buffer_type, i), wanted[i]);
      for (size_t i = total * base::SizeOf(buffer_type); i < buffer.size(); ++i) {
        EXPECT_EQ(buffer[i], 0xAB);
      }
      const std::vector<Bytes> before = tensors;
      for (Bytes& tensor : tensors) std::fill(tensor.begin(), tensor.end(), 0);
      ASSERT_TRUE(Unfuse(whole, 2.0f, &executor, segments.data(), num).ok());
      EXPECT_EQ(tensors, before);
    }
  }
}

TEST(FuseTest, OtherTypesAreCopied) {
  base::InlineExecutor executor;
  for (const Element element : {kFloat64, kInt32}) {
    Bytes a = Noise(3 * element.size), b = Noise(5 * element.size), buffer(8 * element.size);
    const Segment segments[] = {{a.data(), 3, element}, {b.data(), 5, element}};
    ASSERT_TRUE(Fuse(segments, 2, 1.0f, &executor, {buffer.data(), 8, element}).ok());
    Bytes wanted = a;
    wanted.insert(wanted.end(), b.begin(), b.end());
    EXPECT_EQ(buffer, wanted);
  }
  double value = 3.0, out = 0.0;
  const Segment segment{&value, 1, kFloat64};
  ASSERT_TRUE(Fuse(&segment, 1, 0.5f, &executor, {&out, 1, kFloat64}).ok());
  EXPECT_EQ(out, 1.5);
}

TEST(FuseTest, RefusesAndWritesNothing) {
  base::InlineExecutor executor;
  int32_t whole = 3, out = 0;
  double real = 0.0;
  const Segment segment{&whole, 1, kInt32};
  const auto refused = [&](const Segment& buffer, float scale, const char* why) {
    const base::Status status = Fuse(&segment, 1, scale, &executor, buffer);
    EXPECT_EQ(status.code(), base::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(why), std::string::npos) << status.message();
  };
  refused({&out, 1, kInt32}, 0.5f, "scale = 1");
  refused({&out, 0, kInt32}, 1.0f, "large enough");
  refused({&real, 1, kFloat64}, 1.0f, "buffer of the tensor's type");
  EXPECT_EQ(out, 0);
}

}  // namespace
}  // namespace fusion
}  // namespace taco
