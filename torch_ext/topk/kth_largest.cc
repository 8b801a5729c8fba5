#include "torch_ext/topk/kth_largest.h"

#include <algorithm>
#include <array>
#include <mutex>

#include "torch_ext/topk/magnitude.h"

namespace taco {
namespace topk {
namespace {

constexpr int kBins = 2048;
constexpr int64_t kWorthThreads = 1 << 16;

using Counts = std::array<int64_t, kBins>;

// Counts digits (`bits` bits from `shift` on) of the keys whose bits above those equal `prefix`'s.
Counts CountDigits(const float* values, int64_t count, int shift, int bits, uint32_t prefix,
                   base::Executor* executor) {
  Counts total{};
  std::mutex mutex;
  const int64_t tasks = count < kWorthThreads ? 1 : executor->parallelism();
  const uint32_t mask = (1u << bits) - 1;
  base::RunRanges(executor, count, tasks, [&](int64_t, int64_t begin, int64_t end) {
    Counts counts{};
    for (int64_t i = begin; i < end; ++i) {
      const uint32_t key = KeyOf(values[i]);
      if (((key ^ prefix) >> shift) <= mask) ++counts[(key >> shift) & mask];
    }
    const std::lock_guard<std::mutex> lock(mutex);
    for (int bin = 0; bin < kBins; ++bin) total[bin] += counts[bin];
  });
  return total;
}

}  // namespace

KthLargest FindKthLargest(const float* values, int64_t count, int64_t k, base::Executor* executor) {
  uint32_t prefix = 0;
  int64_t rank = k;  // among the keys that share the prefix
  constexpr struct {
    int shift, bits;
  } kDigits[] = {{20, 11}, {10, 10}, {0, 10}};
  for (const auto& digit : kDigits) {
    const Counts counts = CountDigits(values, count, digit.shift, digit.bits, prefix, executor);
    int bin = kBins - 1;
    while (bin > 0 && counts[bin] < rank) rank -= counts[bin--];
    prefix |= static_cast<uint32_t>(bin) << digit.shift;
  }
  return {prefix, rank};
}

}  // namespace topk
}  // namespace taco
