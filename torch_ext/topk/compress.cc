// How a step goes:
//
//   1. One pass with the last step's threshold (the first time: one from a sample). If the count is
//      in the band, that was all. If it is above, the candidates are thinned out, which costs
//      time by the number of candidates and not by n.
//   2. If it is below, or above what the workspace holds: a pass over the residual alone, with a
//      threshold from the histogram that the first pass gathered.
//   3. If that misses too (elements that are nearly all equal, or sparse in a way that the sample
//      does not show): the exact k-th largest by three read passes, then the selection. It cannot
//      miss.
//
// The threshold for the next step aims somewhat below the k-th largest: a few candidates too many
// cost little, and a few too few a pass. In its first hundred steps or so (1 / ratio) the residual
// grows, and the threshold with it: while counts come out too high, half of its last rise is added
// beforehand. Half, because the rise itself declines; and only then, because it is a noisy guide.

#include "torch_ext/topk/compress.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "torch_ext/topk/candidates.h"
#include "torch_ext/topk/emit.h"
#include "torch_ext/topk/kth_largest.h"
#include "torch_ext/topk/magnitude.h"

namespace taco {
namespace topk {
namespace {

constexpr uint32_t kNothing = 1u << 31;  // a threshold that no key reaches

struct Band {
  int64_t k, low, high;
  double aim;  // where thresholds are put: a rank
};

Band MakeBand(int64_t n, int64_t wanted, bool exact) {
  const int64_t k = std::min(wanted, n);
  const double root = std::sqrt(static_cast<double>(k));  // by which counts of chance scatter
  if (exact) return {k, k, k, 1.25 * static_cast<double>(k) + 4.0 * root};
  return {k, k - k / 4, Capacity(n, k, false), 1.0625 * static_cast<double>(k) + root};
}

int64_t Budget(int64_t n, int64_t k) {
  return std::min(n, std::max<int64_t>(k > n / 8 ? n : 8 * k, 65536));
}

float FloatOfKey(uint32_t key) { return base::FloatOf(std::min(key, kInfinityKey)); }

// The threshold in `state`, or 0 if there is none that could be one.
uint32_t KnownThreshold(const State& state) {
  const bool usable = state.threshold > 0.0f && std::isfinite(state.threshold);
  return usable ? KeyOf(state.threshold) : 0;
}

void Pad(int64_t n, int64_t capacity, Packed* packed) {
  for (int64_t i = packed->count; i < capacity; ++i) {
    packed->indices[i] = static_cast<int32_t>(n - 1);
    EncodeTo(packed->values, packed->value_type, i, 0.0f);
  }
}

// One step's decisions.
class Step {
 public:
  Step(const CompressInput& input, const Band& band, base::Executor* executor, State* state,
       Packed* packed)
      : input_(input), band_(band), executor_(executor), state_(state), packed_(packed) {}

  base::Status Allocate() { return candidates_.Allocate(input_.n, Budget(input_.n, band_.k)); }

  void Run() {
    uint32_t threshold = band_.k == 0 ? kNothing : KnownThreshold(*state_);
    const bool first = threshold == 0;
    if (first) threshold = Sample(input_, executor_).ThresholdFor(band_.aim);
    PassResult pass =
        RunPass(input_, true, threshold, packed_->value_type, executor_, &candidates_);
    state_->passes = 1;
    state_->input_sq = pass.small_sq + pass.large_sq;
    if (!Serves(pass, threshold)) {
      state_->misses += first ? 0 : 1;
      PutBack(input_, executor_, candidates_);
      const uint32_t second = pass.histogram.ThresholdFor(band_.aim);
      if (second == threshold) return SelectExactly();
      threshold = second;
      pass = RunPass(input_, false, threshold, packed_->value_type, executor_, &candidates_);
      state_->passes = 2;
      if (!Serves(pass, threshold)) {
        PutBack(input_, executor_, candidates_);
        return SelectExactly();
      }
    }
    const Cut cut = pass.count > band_.high ? ThinOut(pass) : Cut{};
    const Emitted emitted = EmitCandidates(input_, cut, executor_, &candidates_, packed_);
    Finish(emitted.count, pass.small_sq + emitted.rest_sq);
    SetThreshold(pass.histogram.ThresholdFor(band_.aim),
                 static_cast<double>(pass.count) > 1.25 * band_.aim);
  }

 private:
  // Whether what is to be sent is among the candidates.
  bool Serves(const PassResult& pass, uint32_t threshold) const {
    const bool all_there_is = threshold == 1;
    return pass.count <= candidates_.budget && (pass.count >= band_.low || all_there_is);
  }

  // Where to cut candidates that are more than the band.
  Cut ThinOut(const PassResult& pass) {
    if (band_.low < band_.k) {
      const uint32_t key = pass.histogram.CutFor(band_.low, band_.k, band_.high);
      if (key != 0) return {key, 0};
    }
    const KthLargest kth = FindKthLargest(candidates_.values, pass.count, band_.k, executor_);
    return {kth.key, kth.ties};
  }

  void SelectExactly() {
    const KthLargest kth = FindKthLargest(input_.residual, input_.n, band_.k, executor_);
    // Zeros are never sent: then there are fewer than k others.
    const Cut cut{kth.key, kth.key == 0 ? 0 : kth.ties};
    const Emitted emitted = EmitFromResidual(input_, cut, executor_, &candidates_, packed_);
    state_->passes += 5;
    Finish(emitted.count, emitted.rest_sq);
    SetThreshold(std::max<uint32_t>(kth.key, 1), false);
  }

  void Finish(int64_t count, double residual_sq) {
    packed_->count = count;
    state_->sent = count;
    state_->residual_sq = residual_sq;
  }

  // After a gradient that was not finite the old one says more.
  void SetThreshold(uint32_t key, bool rises) {
    if (band_.k == 0 || !std::isfinite(state_->input_sq)) return;
    const float before = state_->fitting;
    const float now = FloatOfKey(key);
    const bool known = before > 0.0f && std::isfinite(before);
    const float rise = known && rises ? std::min(std::max(now / before, 1.0f), 1.5f) : 1.0f;
    state_->fitting = now;
    // Not beyond what is finite: that is no threshold.
    state_->threshold = std::min(now * std::sqrt(rise), std::numeric_limits<float>::max());
  }

  const CompressInput& input_;
  const Band band_;
  base::Executor* const executor_;
  State* const state_;
  Packed* const packed_;
  Candidates candidates_;
};

}  // namespace

int64_t Capacity(int64_t n, int64_t k, bool exact) {
  if (k >= n) return n;
  return exact ? k : std::min(n, k + k / 3);
}

base::Status Compress(const CompressInput& input, int64_t k, bool exact, base::Executor* executor,
                      State* state, Packed* packed) {
  if (input.n < 0 || input.n > INT32_MAX) {
    return base::InvalidArgument("TopK of " + std::to_string(input.n) +
                                 " elements: indices have 31 bits, so that 2147483647 is the most. "
                                 "Split the gradient into smaller buckets");
  }
  if (k < 0 || k > input.n) {
    return base::InvalidArgument("TopK of " + std::to_string(input.n) + " elements with k = " +
                                 std::to_string(k) + ": k must be from 0 to that number");
  }
  Step step(input, MakeBand(input.n, k, exact), executor, state, packed);
  if (base::Status status = step.Allocate(); !status.ok()) return status;
  ++state->steps;
  step.Run();
  Pad(input.n, Capacity(input.n, k, exact), packed);
  return base::OkStatus();
}

}  // namespace topk
}  // namespace taco
