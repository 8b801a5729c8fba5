// The inner loop of the selection, compiled once per instruction set: x86-64-v2, v3 and v4. The
// levels differ in speed alone: every level gives the same bits (kernels_test.cc compares them).
//
//   grad      g g g g g g g g ...        one block of at most 4096 elements: what the loop writes
//   is residual  r r r r r r r r ...        in the first-level cache when the packing reads it
//               |  v = g * scale + r
//               v
//   residual  v v v v v v v v ...
//   marks     0 0 1 0 0 0 1 0 ...        one bit an element: |v| >= threshold
//
// Packing then visits the set bits alone. Rejected: compressing inside the loop (a permutation by
// table, or AVX-512's compress-store): at k = 1% it moves eight lanes to keep 0.08 of one, or else
// branches where no predictor can know; 64 bits at once are nearly always cheap to look at.
#ifndef TORCH_EXT_TOPK_KERNELS_H_
#define TORCH_EXT_TOPK_KERNELS_H_

#include <cstdint>

#include "torch_ext/base/value_type.h"

namespace taco {
namespace topk {

// 16 KiB of residual and as much of gradient: half of a first-level cache of 32 KiB holds the part
// that is looked at again. A multiple of 64, so that marks are whole words.
inline constexpr int kBlock = 4096;

// One block. Arrays hold n elements, 1 <= n <= kBlock.
struct Block {
  const void* grad;    // of the kernel's type; not read by the kernel without one
  float* residual;     // in and out
  float* velocity;     // in and out; not touched by a kernel without momentum
  uint64_t* marks;     // out: kBlock / 64 words; bit i % 64 of word i / 64 is element i
  float scale;         // v = grad * scale + residual, each operation rounded
  float momentum;      // with it: velocity = momentum * velocity + grad * scale,
                       //          v = residual + velocity
  uint32_t threshold;  // bits of a float >= 1; 2^31 marks nothing, NaNs included
};

// Adds and marks. Returns the sum of the squares of what is not marked, summed in sixteen lanes of
// float32 and these in order in float64.
using MarkFn = double (*)(const Block& block, int n);

#define TACO_DECLARE_TOPK_KERNELS                              \
  MarkFn MarkKernel(base::ValueType grad, bool with_velocity); \
  MarkFn MarkResidualKernel();

namespace v2 {
TACO_DECLARE_TOPK_KERNELS
}
namespace v3 {
TACO_DECLARE_TOPK_KERNELS
}
namespace v4 {
TACO_DECLARE_TOPK_KERNELS
}

#undef TACO_DECLARE_TOPK_KERNELS

}  // namespace topk
}  // namespace taco

#endif  // TORCH_EXT_TOPK_KERNELS_H_
