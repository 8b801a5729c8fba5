// Start here. Many tensors to and from one buffer, in one pass that also casts and scales.
//
//   tensors   | a a a a | b b | c c c c c c |        any sizes, each of its own type
//               | cast, * scale
//   buffer    | a a a a b b c c c c c c . . . |      one type, no gaps; what follows is left alone
//
// float32, float16 and bfloat16 are cast into one another: computed in float32, rounded to nearest
// even, as PyTorch's own casts. Any other type is copied between equal types alone; float64 may be
// scaled, integers not.
#ifndef TORCH_EXT_FUSION_FUSE_H_
#define TORCH_EXT_FUSION_FUSE_H_

#include <cstdint>

#include "torch_ext/base/executor.h"
#include "torch_ext/base/status.h"

namespace taco {
namespace fusion {

struct Element {
  enum class Kind { kFloat32, kFloat16, kBFloat16, kFloat64, kOther };
  Kind kind = Kind::kOther;
  int size = 0;  // in bytes
  int id = 0;    // the framework's own number: equal for equal types
};

// An array somewhere else, which the caller keeps.
struct Segment {
  void* data = nullptr;  // (count,); Fuse only reads it
  int64_t count = 0;
  Element element;
};

// Both run by the executor's threads, cost the bytes that they read and write, and fail, with
// nothing written, with InvalidArgument: the segments are more than the buffer holds, a pair of
// types cannot be cast, an integer is to be scaled. Segments and buffer do not overlap.
base::Status Fuse(const Segment* segments, int64_t num_segments, float scale,
                  base::Executor* executor, const Segment& buffer);
base::Status Unfuse(const Segment& buffer, float scale, base::Executor* executor,
                    const Segment* segments, int64_t num_segments);

}  // namespace fusion
}  // namespace taco

#endif  // TORCH_EXT_FUSION_FUSE_H_
