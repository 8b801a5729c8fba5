// A histogram of magnitudes: 128 bins an octave, by exponent and the first seven mantissa bits.
//
// It says where the threshold for a rank lies: inside a bin the keys are taken to be spread evenly.
// The bins are that narrow (0.6% of the value) because error feedback makes the distribution steep
// where it matters: what was above the last threshold is gone, so that the residual ends there, and
// one step's gradient carries only a little of it across. Sixteen bins an octave were tried: every
// tenth step missed. Zeros and what is not finite are left out.
#ifndef TORCH_EXT_TOPK_HISTOGRAM_H_
#define TORCH_EXT_TOPK_HISTOGRAM_H_

#include <cstdint>

#include "torch_ext/topk/magnitude.h"

namespace taco {
namespace topk {

class Histogram {
 public:
  void Add(uint32_t key, uint32_t weight) { counts_[key >> kShift] += weight; }
  void Merge(const Histogram& other);

  // A key such that at least `low` and at most `high` elements are above it, as near to `wanted` as
  // the edges of bins allow. 0 if there is none: too many are in one bin. Counts what Add was told,
  // so take it seriously only above the threshold of a pass, from where on that is exact.
  uint32_t CutFor(int64_t low, int64_t wanted, int64_t high) const;

  // The key that about `rank` elements reach. 1, which every non-zero element reaches, if there are
  // fewer.
  uint32_t ThresholdFor(double rank) const;

 private:
  static constexpr int kShift = 16;
  static constexpr int kBins = (kInfinityKey >> kShift) + 1;  // the last: what is not finite

  // 32 bits each: a histogram holds at most 2^31 elements.
  uint32_t counts_[kBins] = {};
};

}  // namespace topk
}  // namespace taco

#endif  // TORCH_EXT_TOPK_HISTOGRAM_H_
