#include "torch_ext/topk/histogram.h"

namespace taco {
namespace topk {

void Histogram::Merge(const Histogram& other) {
  for (int i = 0; i < kBins; ++i) counts_[i] += other.counts_[i];
}

uint32_t Histogram::CutFor(int64_t low, int64_t wanted, int64_t high) const {
  int64_t above = counts_[kBins - 1];  // what is not finite
  uint32_t best = 0;
  int64_t best_distance = 0;
  for (int bin = kBins - 2; bin > 0 && above <= high; --bin) {
    const int64_t distance = above > wanted ? above - wanted : wanted - above;
    if (above >= low && (best == 0 || distance < best_distance)) {
      best = (static_cast<uint32_t>(bin + 1) << kShift) - 1;
      best_distance = distance;
    }
    above += counts_[bin];
  }
  return best;
}

uint32_t Histogram::ThresholdFor(double rank) const {
  double above = 0.0;
  // Bin 0 holds zeros, and beside them only denormals: whoever needs those takes all there is.
  for (int bin = kBins - 2; bin > 0; --bin) {
    const double count = counts_[bin];
    if (above + count < rank || count == 0.0) {
      above += count;
      continue;
    }
    const double part = (rank - above) / count;  // of the bin, from its upper edge
    const double upper = static_cast<double>(static_cast<uint32_t>(bin + 1) << kShift);
    const double width = static_cast<double>(1u << kShift);
    return static_cast<uint32_t>(upper - part * width);
  }
  return 1;
}

}  // namespace topk
}  // namespace taco
