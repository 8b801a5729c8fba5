// The k-th largest is exact; the histogram's threshold is near the rank.

#include <cmath>

#include "gtest/gtest.h"
#include "torch_ext/base/threads_for_test.h"
#include "torch_ext/topk/histogram.h"
#include "torch_ext/topk/kth_largest.h"
#include "torch_ext/topk/reference_for_test.h"

namespace taco {
namespace topk {
namespace {

TEST(KthLargestTest, AgreesWithSorting) {
  std::mt19937 random(1);
  base::ThreadsForTest executor(3);
  for (const int64_t n : {1, 2, 1000, 70000}) {
    for (int kind = 0; kind < 3; ++kind) {
      Floats values(n);
      for (float& v : values) {
        v = kind == 0   ? base::FloatOf(static_cast<uint32_t>(random()))
            : kind == 1 ? static_cast<float>(static_cast<int>(random() % 7) - 3)
                        : 0.0f;
      }
      std::vector<uint32_t> keys;
      for (const float v : values) keys.push_back(KeyOf(v));
      std::sort(keys.rbegin(), keys.rend());
      for (const int64_t k : {int64_t{1}, (n + 1) / 2, n}) {
        const KthLargest found = FindKthLargest(values.data(), n, k, &executor);
        ASSERT_EQ(found.key, keys[k - 1]);
        ASSERT_EQ(found.ties, std::count(keys.begin(), keys.begin() + k, found.key));
      }
    }
  }
}

TEST(HistogramTest, TheThresholdIsNearTheRank) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  Histogram histogram;
  Floats values(200000);
  for (float& v : values) histogram.Add(KeyOf(v = normal(random)), 1);
  for (const int rank : {200, 2000, 20000, 100000}) {
    const uint32_t threshold = histogram.ThresholdFor(rank);
    const auto reached =
        std::count_if(values.begin(), values.end(), [&](float v) { return KeyOf(v) >= threshold; });
    EXPECT_NEAR(static_cast<double>(reached), rank, 0.05 * rank + 3 * std::sqrt(rank));
  }
}

TEST(HistogramTest, ACutIsInTheBandOrThereIsNone) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  Histogram histogram;
  Floats values(50000);
  for (float& v : values) histogram.Add(KeyOf(v = normal(random)), 1);
  const auto above = [&](uint32_t key) {
    return std::count_if(values.begin(), values.end(), [&](float v) { return KeyOf(v) > key; });
  };
  for (const int wanted : {1000, 5000, 20000}) {
    const uint32_t key = histogram.CutFor(wanted * 3 / 4, wanted, wanted * 4 / 3);
    EXPECT_NEAR(static_cast<double>(above(key)), wanted, 0.05 * wanted);
  }
  histogram.Add(KeyOf(1.5f), 1000000);
  EXPECT_EQ(histogram.CutFor(10000, 12000, 16000), 0u);
}

TEST(HistogramTest, WhereThereAreFewerAllButZerosReachIt) {
  Histogram histogram;
  EXPECT_EQ(histogram.ThresholdFor(1.0), 1u);
  histogram.Add(KeyOf(1.0f), 5);
  histogram.Add(KeyOf(0.0f), 100);
  histogram.Add(KeyOf(INFINITY), 100);  // left out
  EXPECT_EQ(histogram.ThresholdFor(6.0), 1u);
  EXPECT_EQ(histogram.ThresholdFor(5.0), KeyOf(1.0f));
}

}  // namespace
}  // namespace topk
}  // namespace taco
