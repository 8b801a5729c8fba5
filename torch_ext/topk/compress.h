// Start here. TopK by threshold with error feedback: what a rank sends, and what it keeps for
// later.
//
//   v = grad * scale + residual
//   sent      the largest |v|: index (int32, ascending) and value
//   residual  everything else; 0 where v was sent, or what rounding to 16 bits took from it
//
// The threshold is the last step's: gradients change little from one step to the next, so one pass
// over memory (read gradient, read and write residual) adds, selects, packs and gathers what the
// next threshold follows from. compress.cc says what happens where the threshold misses.
//
// Modes. Approximate: between k - k/4 and k + k/3 elements are sent, a single k-th more or less
// being of no use to anyone; exact: k. Either sends all non-zero elements where there are no more
// than that: zeros are never sent. A call sends what is larger before what is smaller, and among
// equals the lower index first.
//
// Not finite. Infinities and NaNs count as the largest and as equals; so at least one of them is
// sent if k > 0, and the receiver sees it. They leave 0 in the residual (and the velocity), also
// those for which k leaves no room: a step that is skipped for them does not spoil the ones after.
//
// Types. Gradients and values are float32, float16 or bfloat16; the residual is float32 always. It
// sums what is too small to be sent, over hundreds of steps: in bfloat16 whatever is below 1/256 of
// the sum would be lost, and that is what it is there to keep. It costs 4 bytes an element.
// 16-bit values are rounded to nearest even; a finite v beyond their range is sent as the largest
// finite value. v - sent is exact, and so nothing is lost, but for such saturated values beyond
// 2^29. Where values round to 0 (float16: |v| < 2^-25) scale the gradients up.
//
// Cost. About 12 bytes of memory traffic an element of float32, and a workspace of 8 bytes for each
// of max(8k, 65536) candidates. Results depend neither on the number of threads nor on the
// instruction set. Two calls may run at once if they share no array and no State.
#ifndef TORCH_EXT_TOPK_COMPRESS_H_
#define TORCH_EXT_TOPK_COMPRESS_H_

#include <cstdint>

#include "torch_ext/base/executor.h"
#include "torch_ext/base/status.h"
#include "torch_ext/base/value_type.h"

namespace taco {
namespace topk {

// What a rank carries from step to step beside the residual.
struct State {
  float threshold = 0.0f;  // for the next step; 0: none yet, it is estimated from a sample
  int64_t steps = 0;       // calls so far
  int64_t misses = 0;      // calls for which one pass was not enough, the first one aside
  // Of the last call:
  float fitting = 0.0f;      // the threshold that would have fitted
  int64_t passes = 0;        // over the residual, a pass over a sample not counted
  int64_t sent = 0;          // elements
  double input_sq = 0.0;     // sum of v^2
  double residual_sq = 0.0;  // the same of the residual afterwards; in float32 within a block
};

struct CompressInput {
  int64_t n = 0;               // 0 <= n < 2^31
  const void* grad = nullptr;  // (n,) of grad_type
  base::ValueType grad_type = base::ValueType::kFloat32;
  float* residual = nullptr;  // (n,), in and out
  // Momentum correction as in Deep Gradient Compression (arXiv 1712.01887): with a velocity,
  //   velocity = momentum * velocity + grad * scale,  v = residual + velocity,
  // and velocity becomes 0 where v is sent.
  float* velocity = nullptr;  // (n,), in and out; null: no momentum
  float momentum = 0.0f;
  float scale = 1.0f;
};

struct Packed {
  int32_t* indices = nullptr;  // out: Capacity(n, k, exact) elements, ascending
  void* values = nullptr;      // out: as many, of value_type
  base::ValueType value_type = base::ValueType::kFloat32;
  int64_t count = 0;  // out: how many are sent
};

// The most that a call sends.
int64_t Capacity(int64_t n, int64_t k, bool exact);

// One step. Elements of `packed` from count to the capacity are padded with index n - 1 and value
// 0: the padded list is ascending and sums to the same.
//
// Fails, with nothing changed: InvalidArgument for n or k out of range, ResourceExhausted where
// there is no memory for the workspace.
base::Status Compress(const CompressInput& input, int64_t k, bool exact, base::Executor* executor,
                      State* state, Packed* packed);

}  // namespace topk
}  // namespace taco

#endif  // TORCH_EXT_TOPK_COMPRESS_H_
