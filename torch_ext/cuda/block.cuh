// What a block does together: sums, prefix sums, and finding out that it is the last of its grid.
#ifndef TORCH_EXT_CUDA_BLOCK_CUH_
#define TORCH_EXT_CUDA_BLOCK_CUH_

#include "torch_ext/base/half.h"
#include "torch_ext/base/value_type.h"
#include "torch_ext/cuda/device.cuh"

namespace taco {
namespace cuda {

// Sums values (kThreads,), in shared memory, which it overwrites. Always in the same order.
inline double BlockSum(double* values) {
  for (int width = kThreads / 2; width > 0; width /= 2) {
    EachThread([&](int t) {
      if (t < width) values[t] += values[t + width];
    });
  }
  return values[0];
}

// Makes of values (kThreads,), in shared memory, the sums up to and with each. Exact for integers.
template <class T>
inline void BlockScan(T* values) {
  __shared__ T other[kThreads];
  T* from = values;
  T* to = other;
  for (int distance = 1; distance < kThreads; distance *= 2) {
    EachThread([&](int t) { to[t] = from[t] + (t >= distance ? from[t - distance] : T{}); });
    T* const swap = from;
    from = to;
    to = swap;
  }
  // An even number of swaps: the sums stand in `values` again.
  static_assert(kThreads == 256, "of another power of two the swaps may be odd");
}

// After BlockScan: the sum of those before t.
template <class T>
inline T Before(const T* scanned, int t) {
  return t == 0 ? T{} : scanned[t - 1];
}

// Whether all other blocks have come this far. To the last one, what they wrote is visible.
// done: zero at first; not used twice.
inline bool IsLastBlock(uint32_t* done) {
  __shared__ bool last;
  Fence();
  EachThread([&](int t) {
    if (t == 0) last = AtomicAdd(done, 1u) == NumBlocks() - 1;
  });
  Fence();
  return last;
}

// Of `count` ranges the one that block `block` is in; first[0] = 0, first[count] is their end.
inline int RangeOf(const int32_t* first, int count, uint32_t block) {
  int low = 0;
  for (int high = count - 1; low < high;) {
    const int middle = (low + high + 1) / 2;
    if (first[middle] <= static_cast<int32_t>(block)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

template <base::ValueType kType>
inline float Decode(const void* values, int64_t i) {
  if (kType == base::ValueType::kFloat32) return static_cast<const float*>(values)[i];
  const uint16_t half = static_cast<const uint16_t*>(values)[i];
  return kType == base::ValueType::kFloat16 ? base::FromFloat16(half) : base::FromBFloat16(half);
}

inline float Decode(const void* values, base::ValueType type, int64_t i) {
  switch (type) {
    case base::ValueType::kFloat32:
      return Decode<base::ValueType::kFloat32>(values, i);
    case base::ValueType::kFloat16:
      return Decode<base::ValueType::kFloat16>(values, i);
    default:
      return Decode<base::ValueType::kBFloat16>(values, i);
  }
}

}  // namespace cuda
}  // namespace taco

#endif  // TORCH_EXT_CUDA_BLOCK_CUH_
