#include "tf_ops/embedding/table/initializer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tf_ops/embedding/table/initializer_kernels.h"
#include "tf_ops/embedding/table/simd.h"

namespace taco {
namespace embedding {
namespace {

InitializerSpec Spec(const std::string& text, int dim = 16) {
  InitializerSpec spec;
  const Status status = InitializerSpec::Parse(text, dim, &spec);
  EXPECT_TRUE(status.ok()) << status.message();
  return spec;
}

std::vector<float> Row(const InitializerSpec& spec, int64_t key, int dim, uint64_t table_id = 7) {
  std::vector<float> row(dim);
  InitializeVector(spec, table_id, key, ValueType::kFloat32, dim, row.data());
  return row;
}

// `keys` rows, one behind the other; keys around 0, so negative ones too.
std::vector<float> Rows(const InitializerSpec& spec, int keys, int dim) {
  std::vector<float> values;
  for (int key = 0; key < keys; ++key) {
    const std::vector<float> row = Row(spec, key - keys / 2, dim);
    values.insert(values.end(), row.begin(), row.end());
  }
  return values;
}

double NormalCdf(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }

// The largest distance between the values' distribution and `cdf`, times the root of their number:
// above 1.95 once in a thousand draws (Kolmogorov). The draws here are fixed, so a test that
// passes keeps passing.
template <class Cdf>
double KolmogorovSmirnov(std::vector<float> values, const Cdf& cdf) {
  std::sort(values.begin(), values.end());
  const double n = static_cast<double>(values.size());
  double distance = 0.0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double p = cdf(values[i]);
    distance = std::max({distance, (i + 1) / n - p, p - i / n});
  }
  return distance * std::sqrt(n);
}

double Mean(const std::vector<float>& values) {
  double sum = 0.0;
  for (float value : values) sum += value;
  return sum / values.size();
}

double Deviation(const std::vector<float>& values) {
  const double mean = Mean(values);
  double sum = 0.0;
  for (float value : values) sum += (value - mean) * (value - mean);
  return std::sqrt(sum / values.size());
}

TEST(InitializerTest, ZerosAndConstants) {
  EXPECT_EQ(Row(Spec("zeros"), 3, 5), std::vector<float>(5, 0.0f));
  EXPECT_EQ(Row(Spec("constant:-1.5"), 3, 5), std::vector<float>(5, -1.5f));
}

TEST(InitializerTest, UniformIsUniform) {
  const std::vector<float> values = Rows(Spec("uniform:-0.5,1.5"), 20000, 16);
  EXPECT_NEAR(Mean(values), 0.5, 0.005);
  EXPECT_NEAR(Deviation(values), 2.0 / std::sqrt(12.0), 0.005);
  EXPECT_GE(*std::min_element(values.begin(), values.end()), -0.5f);
  EXPECT_LT(*std::max_element(values.begin(), values.end()), 1.5f);
  EXPECT_LT(KolmogorovSmirnov(values, [](double x) { return (x + 0.5) / 2.0; }), 1.95);
}

TEST(InitializerTest, UniformNeverReachesItsUpperBound) {
  // Two neighbouring floats: half of all numbers round up to the upper one.
  InitializerSpec spec = Spec("uniform:0,1");
  spec.a = 1.0f;
  spec.b = std::nextafter(1.0f, 2.0f);
  for (float value : Row(spec, 1, 4096)) ASSERT_EQ(value, 1.0f);
  spec.b = 1.0f;
  for (float value : Row(spec, 1, 64)) ASSERT_EQ(value, 1.0f);
}

TEST(InitializerTest, NormalIsNormal) {
  const std::vector<float> values = Rows(Spec("normal:2,0.5"), 20000, 16);
  EXPECT_NEAR(Mean(values), 2.0, 0.003);
  EXPECT_NEAR(Deviation(values), 0.5, 0.003);
  EXPECT_LT(KolmogorovSmirnov(values, [](double x) { return NormalCdf((x - 2.0) / 0.5); }), 1.95);
  double fourth = 0.0;
  for (float value : values) fourth += std::pow((value - 2.0) / 0.5, 4);
  EXPECT_NEAR(fourth / values.size(), 3.0, 0.05);
  EXPECT_GT(*std::max_element(values.begin(), values.end()), 2.0 + 4.0 * 0.5);
}

TEST(InitializerTest, TruncatedNormalEndsAtTwoDeviations) {
  const std::vector<float> values = Rows(Spec("truncated_normal:0,1"), 20000, 16);
  const double tail = NormalCdf(-2.0);
  EXPECT_NEAR(Mean(values), 0.0, 0.005);
  EXPECT_NEAR(Deviation(values), 0.87962566, 0.003);
  EXPECT_LE(*std::max_element(values.begin(), values.end()), 2.0f);
  EXPECT_GE(*std::min_element(values.begin(), values.end()), -2.0f);
  EXPECT_LT(KolmogorovSmirnov(values,
                              [&](double x) { return (NormalCdf(x) - tail) / (1.0 - 2.0 * tail); }),
            1.95);
}

TEST(InitializerTest, GlorotHasTheDeviationOfOneRow) {
  EXPECT_FLOAT_EQ(Spec("glorot_uniform", 5).b, 1.0f);
  EXPECT_FLOAT_EQ(Spec("glorot_uniform", 5).a, -1.0f);
  EXPECT_NEAR(Deviation(Rows(Spec("glorot_normal", 7), 20000, 7)), 0.5, 0.003);
  EXPECT_NEAR(Deviation(Rows(Spec("glorot_uniform", 7), 20000, 7)), 0.5, 0.003);
}

// Of pairs that a user's keys make likely: neighbours in a row, in the table, by a high bit.
TEST(InitializerTest, ElementsAndKeysAreIndependent) {
  constexpr int kKeys = 40000, kDim = 8;
  const InitializerSpec spec = Spec("uniform:-1,1");
  const auto correlation = [&](const auto& other_key, int other_element, uint64_t other_table) {
    double sum = 0.0;
    for (int64_t key = 0; key < kKeys; ++key) {
      const std::vector<float> a = Row(spec, key, kDim);
      const std::vector<float> b = Row(spec, other_key(key), kDim, other_table);
      for (int j = 0; j < kDim; ++j) sum += a[j] * b[(j + other_element) % kDim];
    }
    return sum * 3.0 / (kKeys * kDim);  // 1/3: the variance of one
  };
  const double limit = 4.5 / std::sqrt(kKeys * kDim);
  const auto same = [](int64_t key) { return key; };
  EXPECT_NEAR(correlation(same, 1, 7), 0.0, limit);
  EXPECT_NEAR(correlation(same, 3, 7), 0.0, limit);
  EXPECT_NEAR(correlation(same, 0, 8), 0.0, limit);
  EXPECT_NEAR(correlation([](int64_t key) { return key + 1; }, 0, 7), 0.0, limit);
  EXPECT_NEAR(correlation([](int64_t key) { return key ^ (int64_t{1} << 62); }, 0, 7), 0.0, limit);
  EXPECT_NEAR(correlation([](int64_t key) { return -key - 1; }, 0, 7), 0.0, limit);
  EXPECT_NEAR(correlation([](int64_t key) { return key << 32 | 5; }, 2, 7), 0.0, limit);
}

// Every bit of the underlying numbers: the share of ones over keys and over elements.
TEST(InitializerTest, EveryBitIsFair) {
  const InitializerSpec spec = Spec("uniform:0,16777216");  // 24 bits, exactly
  std::vector<int> over_keys(24), over_elements(24);
  for (int n = 0; n < 65536; ++n) {
    const auto one = static_cast<uint32_t>(Row(spec, n, 1)[0]);
    for (int bit = 0; bit < 24; ++bit) over_keys[bit] += one >> bit & 1;
  }
  for (int n = 0; n < 16; ++n) {
    for (float value : Row(spec, -n, 4096)) {
      for (int bit = 0; bit < 24; ++bit)
        over_elements[bit] += static_cast<uint32_t>(value) >> bit & 1;
    }
  }
  for (int bit = 0; bit < 24; ++bit) {  // the deviation is 128
    EXPECT_NEAR(over_keys[bit], 32768, 4 * 128) << bit;
    EXPECT_NEAR(over_elements[bit], 32768, 4 * 128) << bit;
  }
}

TEST(InitializerTest, DependsOnSeedTableAndKeyAlone) {
  const InitializerSpec spec = Spec("uniform:-1,1;seed=5");
  const std::vector<float> row = Row(spec, 123, 64);
  Row(spec, 99, 64);
  EXPECT_EQ(Row(spec, 123, 64), row);
  EXPECT_NE(Row(spec, 124, 64), row);
  EXPECT_NE(Row(spec, 123, 64, 8), row);
  EXPECT_NE(Row(Spec("uniform:-1,1;seed=6"), 123, 64), row);
  // A shorter row is the beginning of a longer one.
  const std::vector<float> longer = Row(spec, 123, 300);
  EXPECT_TRUE(std::equal(row.begin(), row.end(), longer.begin()));
}

TEST(InitializerTest, HalfTypesAreTheRoundedFloats) {
  for (const char* text : {"uniform:-1,1", "normal:0,1", "constant:0.3", "zeros"}) {
    for (int dim : {1, 7, 64, 256, 300, 4096}) {
      const std::vector<float> row = Row(Spec(text), 5, dim);
      std::vector<uint16_t> half(dim + 1, 0xABCD);
      InitializeVector(Spec(text), 7, 5, ValueType::kBFloat16, dim, half.data());
      EXPECT_EQ(half[dim], 0xABCD);
      for (int j = 0; j < dim; ++j) {
        uint32_t bits = static_cast<uint32_t>(half[j]) << 16;
        float value;
        std::memcpy(&value, &bits, sizeof value);
        ASSERT_NEAR(value, row[j], std::abs(row[j]) / 256) << text;
      }
    }
  }
}

TEST(InitializerTest, EveryInstructionSetGivesTheSameBits) {
  for (const char* text : {"zeros", "constant:2", "uniform:-1,1", "normal:0.1,3",
                           "truncated_normal:0,0.05", "glorot_normal"}) {
    for (ValueType type : {ValueType::kFloat32, ValueType::kBFloat16, ValueType::kFloat16}) {
      for (int dim : {1, 2, 3, 7, 8, 15, 16, 17, 31, 64, 70, 257, 4096}) {
        for (uint64_t stream : {uint64_t{0}, uint64_t{0x0123456789ABCDEF}, ~uint64_t{0}}) {
          std::vector<uint8_t> a(4 * dim + 8, 0xA5), b = a, c = a;
          v2::InitializeKernel(Spec(text), stream, type, dim, a.data());
          if (CpuSimd() >= Simd::kAvx2) {
            v3::InitializeKernel(Spec(text), stream, type, dim, b.data());
            ASSERT_EQ(a, b) << text << " " << dim;
          }
          if (CpuSimd() >= Simd::kAvx512) {
            v4::InitializeKernel(Spec(text), stream, type, dim, c.data());
            ASSERT_EQ(a, c) << text << " " << dim;
          }
        }
      }
    }
  }
}

// A promise to every file written: rows that it does not hold start from these values.
TEST(InitializerTest, GivesTheValuesItAlwaysGave) {
  const auto bits = [](const std::vector<float>& row) {
    std::vector<uint32_t> words(row.size());
    std::memcpy(words.data(), row.data(), 4 * row.size());
    return words;
  };
  using Words = std::vector<uint32_t>;
  EXPECT_EQ(bits(Row(Spec("uniform:-0.05,0.05"), 0, 4)),
            (Words{0x3CC01F1A, 0xBCEDE520, 0xBD48AA65, 0x3D2F1791}));
  EXPECT_EQ(bits(Row(Spec("uniform:0,1;seed=42"), -1, 4)),
            (Words{0x3F225FC8, 0x3E823B94, 0x3D7C8BF0, 0x3F37F39E}));
  EXPECT_EQ(bits(Row(Spec("normal:0,1"), INT64_MIN, 4)),
            (Words{0xBF20679C, 0xBF861250, 0x3F8AC576, 0x3FA287FA}));
  EXPECT_EQ(bits(Row(Spec("truncated_normal:1,2;seed=3"), INT64_MAX, 4)),
            (Words{0xBFEAA2F8, 0x3F964694, 0xBE824F9E, 0x3E9C9249}));
}

TEST(InitializerTest, ParsesWhatIsDocumented) {
  EXPECT_EQ(Spec("uniform:-0.05,0.05;seed=18446744073709551615").seed, ~uint64_t{0});
  EXPECT_EQ(Spec("constant:0.5;seed=42").seed, 42u);
  EXPECT_EQ(Spec("normal:1e-3,2").kind, InitializerKind::kNormal);
  EXPECT_EQ(Spec("normal:1e-3,2").a, 1e-3f);
  EXPECT_EQ(Spec("truncated_normal:0,0").b, 0.0f);
  EXPECT_EQ(Spec("glorot_normal;seed=9").seed, 9u);
}

TEST(InitializerTest, RefusesAnythingElseAndSaysWhatIsAllowed) {
  for (const char* text : {"",
                           "zero",
                           "zeros:",
                           "zeros:1",
                           "constant",
                           "constant:",
                           "constant:x",
                           "constant:1,2",
                           "uniform:1",
                           "uniform:1,",
                           "uniform:1,2,3",
                           "uniform:1,0",
                           "uniform:0,1 ",
                           " uniform:0,1",
                           "normal:0,-1",
                           "normal:nan,1",
                           "normal:0,inf",
                           "uniform:-3e38,3e38",
                           "uniform:0,1e39",
                           "glorot_uniform:1",
                           "uniform:0,1;",
                           "uniform:0,1;seed",
                           "uniform:0,1;seed=",
                           "uniform:0,1;seed=-1",
                           "uniform:0,1;seed=18446744073709551616",
                           "uniform:0,1;sead=1",
                           "zeros;seed=1;seed=2"}) {
    InitializerSpec spec;
    spec.seed = 77;
    const Status status = InitializerSpec::Parse(text, 4, &spec);
    EXPECT_EQ(status.ok() ? StatusCode::kOk : status.code(), StatusCode::kInvalidArgument) << text;
    EXPECT_EQ(spec.seed, 77u) << "left alone";
  }
  InitializerSpec spec;
  const std::string message = InitializerSpec::Parse("unifrom:0,1", 4, &spec).message();
  EXPECT_NE(message.find("unifrom:0,1"), std::string::npos);
  EXPECT_NE(message.find("truncated_normal"), std::string::npos);
  EXPECT_FALSE(InitializerSpec::Parse("glorot_normal", 0, &spec).ok());
  spec.kind = static_cast<InitializerKind>(99);
  EXPECT_FALSE(ValidateInitializer(spec).ok());
}

}  // namespace
}  // namespace embedding
}  // namespace taco
