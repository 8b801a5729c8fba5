// The k-th largest magnitude of an array, exactly, in three passes that write nothing.
#ifndef TORCH_EXT_TOPK_KTH_LARGEST_H_
#define TORCH_EXT_TOPK_KTH_LARGEST_H_

#include <cstdint>

#include "torch_ext/base/executor.h"

namespace taco {
namespace topk {

struct KthLargest {
  uint32_t key;  // of the k-th largest
  int64_t ties;  // how many elements of this very key are among the k largest; at least 1
};

// 1 <= k <= count. By radix: a histogram of the upper 11 bits of the keys, then of the next 10
// among those that share the bin of the k-th, then of the last 10.
KthLargest FindKthLargest(const float* values, int64_t count, int64_t k, base::Executor* executor);

}  // namespace topk
}  // namespace taco

#endif  // TORCH_EXT_TOPK_KTH_LARGEST_H_
