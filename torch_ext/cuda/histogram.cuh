// Ranks from histograms, by one block: topk/histogram.cc and topk/kth_largest.cc in parallel. Each
// thread has a range of bins, from the top; sums of counts are exact, and so independent of how.
#ifndef TORCH_EXT_CUDA_HISTOGRAM_CUH_
#define TORCH_EXT_CUDA_HISTOGRAM_CUH_

#include "torch_ext/cuda/topk.cuh"

namespace taco {
namespace cuda {

// Counts into global memory; neighbours of one bin together, as whole tensors may be of one value.
struct Tally {
  uint32_t* counts;
  uint32_t bin = 0;
  uint32_t count = 0;

  void Add(uint32_t key, uint32_t weight) {
    const uint32_t next = key >> kShift;
    if (next != bin) {
      Flush();
      bin = next;
    }
    count += weight;
  }
  void Flush() {
    // Bin 0 (zeros, some denormals) is never read.
    if (count > 0 && bin > 0) AtomicAdd(counts + bin, count);
    count = 0;
  }
};

// Shared memory for the functions below.
struct Scratch {
  double sums[kThreads];
  int64_t distances[kThreads];
  int bins[kThreads];
};

// The bins of thread t, of those from `highest` down to `lowest`: from `from` down to `to`.
struct Bins {
  int from, to;
};
inline Bins BinsOf(int t, int highest, int lowest) {
  const int each = (highest - lowest) / kThreads + 1;
  const int from = highest - t * each;
  return {from, std::max(from - each + 1, lowest)};
}

// above (kThreads,), in shared memory: how many are in the bins of threads up to and with each.
inline void SumFromTop(const uint32_t* counts, int highest, int lowest, double* above) {
  EachThread([&](int t) {
    const Bins bins = BinsOf(t, highest, lowest);
    double sum = 0.0;
    for (int bin = bins.from; bin >= bins.to; --bin) sum += counts[bin];
    above[t] = sum;
  });
  BlockScan(above);
}

// The bin in which the counts from the top reach a rank > 0, and how many are above it.
struct Crossing {
  int bin;  // -1: nowhere
  double above;
};
inline Crossing FindCrossing(const uint32_t* counts, int highest, int lowest, double rank,
                             Scratch* scratch) {
  __shared__ Crossing found;
  double* const sums = scratch->sums;
  SumFromTop(counts, highest, lowest, sums);
  EachThread([&](int t) {
    if (t == 0 && !(sums[kThreads - 1] >= rank)) found = {-1, 0.0};
    double above = Before(sums, t);
    if (!(above < rank && sums[t] >= rank)) return;  // one thread goes on
    int bin = BinsOf(t, highest, lowest).from;
    for (; above + counts[bin] < rank; --bin) above += counts[bin];
    found = {bin, above};
  });
  return found;
}

// As Histogram::ThresholdFor.
inline uint32_t ThresholdFor(const uint32_t* counts, double rank, Scratch* scratch) {
  const Crossing crossing = FindCrossing(counts, kBins - 2, 1, rank, scratch);
  if (crossing.bin < 0) return 1;
  const double part = (rank - crossing.above) / counts[crossing.bin];
  const double upper = static_cast<double>(static_cast<uint32_t>(crossing.bin + 1) << kShift);
  const double width = static_cast<double>(1u << kShift);
  return static_cast<uint32_t>(upper - part * width);
}

// As Histogram::CutFor.
inline uint32_t CutFor(const uint32_t* counts, int64_t low, int64_t wanted, int64_t high,
                       Scratch* scratch) {
  double* const sums = scratch->sums;
  int64_t* const distances = scratch->distances;
  int* const bins = scratch->bins;  // 0: none
  SumFromTop(counts, kBins - 2, 1, sums);
  EachThread([&](int t) {
    const Bins mine = BinsOf(t, kBins - 2, 1);
    int64_t above = static_cast<int64_t>(Before(sums, t)) + counts[kBins - 1];
    bins[t] = 0;
    for (int bin = mine.from; bin >= mine.to && above <= high; --bin) {
      const int64_t distance = above > wanted ? above - wanted : wanted - above;
      if (above >= low && (bins[t] == 0 || distance < distances[t])) {
        bins[t] = bin;
        distances[t] = distance;
      }
      above += counts[bin];
    }
  });
  // The nearest, and of two that are as near the higher bin.
  for (int width = kThreads / 2; width > 0; width /= 2) {
    EachThread([&](int t) {
      const int other = t + width;
      if (t >= width || bins[other] == 0) return;
      const bool nearer = distances[other] < distances[t] ||
                          (distances[other] == distances[t] && bins[other] > bins[t]);
      if (bins[t] != 0 && !nearer) return;
      bins[t] = bins[other];
      distances[t] = distances[other];
    });
  }
  return bins[0] == 0 ? 0 : (static_cast<uint32_t>(bins[0] + 1) << kShift) - 1;
}

}  // namespace cuda
}  // namespace taco

#endif  // TORCH_EXT_CUDA_HISTOGRAM_CUH_
