// Copies with cast and scale, compiled once per instruction set: x86-64-v2, v3 and v4. The levels
// differ in speed alone (fuse_test.cc compares them).
#ifndef TORCH_EXT_FUSION_KERNELS_H_
#define TORCH_EXT_FUSION_KERNELS_H_

#include <cstdint>

#include "torch_ext/base/value_type.h"

namespace taco {
namespace fusion {

// out[i] = in[i] * scale, in float32, rounded to nearest even where `out` is of 16 bits. The arrays
// do not overlap.
using CastFn = void (*)(const void* in, void* out, int64_t n, float scale);

#define TACO_DECLARE_FUSION_KERNELS CastFn CastKernel(base::ValueType from, base::ValueType to);

namespace v2 {
TACO_DECLARE_FUSION_KERNELS
}
namespace v3 {
TACO_DECLARE_FUSION_KERNELS
}
namespace v4 {
TACO_DECLARE_FUSION_KERNELS
}

#undef TACO_DECLARE_FUSION_KERNELS

}  // namespace fusion
}  // namespace taco

#endif  // TORCH_EXT_FUSION_KERNELS_H_
