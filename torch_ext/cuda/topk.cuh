// Start here. One step of TopK on a GPU: the algorithm of topk/compress.cc, whose contract
// topk/compress.h states, with the same results but for the last bits of the two sums of squares.
//
// The host launches ten kernels and looks at nothing in between: what is not needed returns at
// once.
//
//   kernel           runs where                   in its last block
//   topk_sample      no threshold is known yet    the threshold from the sample
//   topk_pass        always                       whether that served; if not, another threshold
//   topk_put_back    it did not serve
//   topk_pass        there is another threshold   whether that served
//   topk_put_back    it did not serve
//   topk_digits x 3  candidates are too many,     one digit after the other of the k-th largest
//                    or nothing served
//   topk_count       always                       where in the output each block's part begins
//   topk_emit        always                       count and state
//
// Usually two of them do something that takes time: topk_pass reads the gradient, reads and writes
// the residual, and copies what reaches the threshold to the candidates; topk_emit sends those.
// A block has kBlock elements, as on the CPU: so thresholds come from the same sample.
#ifndef TORCH_EXT_CUDA_TOPK_CUH_
#define TORCH_EXT_CUDA_TOPK_CUH_

#include "torch_ext/cuda/block.cuh"
#include "torch_ext/topk/magnitude.h"

namespace taco {
namespace cuda {

constexpr int kBlock = 4096;              // elements of a block
constexpr int kEach = kBlock / kThreads;  // of a thread: as many as the CPU samples together
constexpr uint32_t kNothing = 1u << 31;   // a threshold that no key reaches
constexpr uint32_t kNotPacked = ~0u;      // the offset of a run for which there was no room
constexpr int kShift = 16;                // of a key, to its bin of the histogram
constexpr int kBins = (topk::kInfinityKey >> kShift) + 1;  // the last: what is not finite
constexpr int kDigits = 2048;
constexpr int kLaunches = 10;

// What the candidates of a block are, or of its elements those that are sent.
struct Run {
  double small_sq;          // sum of squares of those below the threshold
  double large_sq;          // of the others; at the end, of what they leave in the residual
  uint32_t offset;          // where among the candidates the block's begin
  uint32_t count;           // at or above the threshold, packed or not
  uint32_t greater;         // than the cut
  uint32_t equal;           // to it
  uint32_t greater_before;  // the same, of all blocks before
  uint32_t equal_before;
};

enum Stage : uint32_t {
  kServed = 0,
  kSecondPass = 1,  // there is another threshold to try
  kExactly = 2,     // the k-th largest of the whole residual is looked for
};

// What one kernel tells the next. Zero at first.
struct Control {
  uint64_t used[2];  // by pass: elements at or above the threshold
  int64_t rank;      // of the k-th largest among those that share `prefix`
  int64_t ties;      // of the elements equal to the cut, how many are sent
  double input_sq;
  double small_sq;     // of what was not a candidate
  uint32_t threshold;  // of the next pass
  uint32_t first;      // whether it is from a sample
  uint32_t stage;      // a Stage
  uint32_t misplaced;  // whether candidates have to go back into the residual
  uint32_t count;      // of candidates, once they serve
  uint32_t radix;      // whether their k-th largest is looked for
  uint32_t prefix;     // the digits that are known
  uint32_t cut;        // keys above it are sent
  uint32_t sent;
  uint32_t done[kLaunches];
  uint32_t sample[kBins];
  uint32_t histogram[2][kBins];  // by pass
  uint32_t digits[3][kDigits];
};

// The argument of the ten kernels. _topk.py fills it, field by field.
struct TopkStep {
  Control* control;
  double* state;               // (8,): topk::State
  const void* grad;            // (n,)
  float* residual;             // (n,)
  float* velocity;             // (n,), or null
  Run* runs;                   // one a block
  int32_t* candidate_indices;  // (budget,)
  float* candidate_values;     // (budget,)
  int32_t* indices;            // (capacity,), out
  void* values;                // (capacity,), out
  int64_t* count;              // (1,), out
  int64_t n, k, low, high;     // low..high: what may be sent
  int64_t capacity, budget;
  double aim;  // the rank where thresholds are put
  float scale, momentum;
  base::ValueType grad_type, value_type;
  int32_t every;   // of so many threads one samples its elements
  int32_t launch;  // 0, 1, ...
  int32_t round;   // of what is launched more than once
};

// What the next step begins with. After a gradient that was not finite the old one says more.
inline void SetThreshold(const TopkStep& step, double input_sq, uint32_t key, bool rises) {
  if (step.k == 0 || !(input_sq - input_sq == 0.0)) return;
  constexpr float kLargest = 3.402823466e+38f;
  const float before = static_cast<float>(step.state[3]);
  const float now = base::FloatOf(std::min(key, topk::kInfinityKey));
  const bool known = before > 0.0f && before <= kLargest;
  const float rise = known && rises ? std::min(std::max(now / before, 1.0f), 1.5f) : 1.0f;
  step.state[3] = static_cast<double>(now);
  step.state[0] = static_cast<double>(std::min(now * sqrtf(rise), kLargest));
}

}  // namespace cuda
}  // namespace taco

#endif  // TORCH_EXT_CUDA_TOPK_CUH_
