// Unpacking: the lists of several ranks, summed into a dense array.
//
// The order of additions is fixed (by rank, then by position), so that every rank, every run and
// every number of threads gives the same bits. Lists come from the network: they are checked before
// anything is written.
#ifndef TORCH_EXT_TOPK_ACCUMULATE_H_
#define TORCH_EXT_TOPK_ACCUMULATE_H_

#include <cstdint>

#include "torch_ext/base/executor.h"
#include "torch_ext/base/status.h"
#include "torch_ext/base/value_type.h"

namespace taco {
namespace topk {

struct PackedList {
  const int32_t* indices = nullptr;  // (count,)
  const void* values = nullptr;      // (count,) of value_type
  base::ValueType value_type = base::ValueType::kFloat32;
  int64_t count = 0;
};

// out[index] += value * scale, in float32, for each entry of lists[0], then of lists[1], ...
//
// An index may stand in a list more than once. Ascending lists, as Compress gives them, are summed
// by several threads, each of which owns a part of `out`; any other order is summed by one.
//
// Fails with DataLoss, and nothing written, if an index is not in [0, n). Costs two passes over the
// lists and a random access of `out` an entry.
base::Status Accumulate(const PackedList* lists, int64_t num_lists, float scale, int64_t n,
                        base::Executor* executor, float* out);

}  // namespace topk
}  // namespace taco

#endif  // TORCH_EXT_TOPK_ACCUMULATE_H_
