// What one pass over a gradient picked out, before it is decided what of it is sent.
//
//   blocks      | 0: offset 7, count 3 | 1: offset 0, count 7 | 2: offset 10, count 0 | ...
//   indices     1 1 1 1 1 1 1 0 0 0 ...        one run a block of kBlock elements; the runs lie in
//   values      v v v v v v v v v v ...        the order in which threads finished their blocks
//
// Read in the order of the blocks the indices ascend, whichever thread came first.
#ifndef TORCH_EXT_TOPK_CANDIDATES_H_
#define TORCH_EXT_TOPK_CANDIDATES_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "torch_ext/base/executor.h"
#include "torch_ext/base/status.h"
#include "torch_ext/topk/compress.h"
#include "torch_ext/topk/histogram.h"

namespace taco {
namespace topk {

struct BlockCandidates {
  int64_t offset;    // where its run begins; kNotPacked if there was no room
  int64_t count;     // of elements at or above the threshold, packed or not
  double small_sq;   // sum of squares of the others
  double large_sq;   // and of these
  int64_t greater;   // while candidates are thinned out: those above the cut,
  int64_t equal;     // those equal to it,
  int64_t ties;      // how many of the latter are sent,
  int64_t position;  // and where in the output the block's begin
};

inline constexpr int64_t kNotPacked = -1;

struct Candidates {
  // Room for `budget` candidates of n elements. Pages that nothing is written to cost nothing.
  base::Status Allocate(int64_t n, int64_t budget);

  int64_t budget = 0;
  int64_t num_blocks = 0;
  int32_t* indices = nullptr;  // (budget,), in `memory`
  float* values = nullptr;     // (budget,), in `memory`
  // One piece: glibc keeps a piece that it has seen before at hand, but gives the pages of two of
  // them back to the system at the end of every call, and their page faults cost a tenth of it.
  std::unique_ptr<std::byte[]> memory;
  std::unique_ptr<BlockCandidates[]> blocks;
  std::atomic<int64_t> used{0};
};

struct PassResult {
  int64_t count = 0;      // elements at or above the threshold
  double small_sq = 0.0;  // sums of squares, as above
  double large_sq = 0.0;
  Histogram histogram;  // exact from the threshold up, from a sample below it
};

// Adds the gradient to the residual (or, without `add`, leaves it), and moves what reaches the
// threshold from the residual to the candidates; of values that are sent in 16 bits, what rounding
// takes stays. If the candidates are more than the budget, those of some blocks stay where they
// are.
PassResult RunPass(const CompressInput& input, bool add, uint32_t threshold,
                   base::ValueType value_type, base::Executor* executor, Candidates* candidates);

// Undoes the moving: the residual is v again.
void PutBack(const CompressInput& input, base::Executor* executor, const Candidates& candidates);

// A histogram of a sample of v, without changing anything.
Histogram Sample(const CompressInput& input, base::Executor* executor);

// How many ranges to cut a pass into: some a thread, as other programs may slow one of them.
int64_t TasksFor(int64_t num_blocks, const base::Executor& executor);

}  // namespace topk
}  // namespace taco

#endif  // TORCH_EXT_TOPK_CANDIDATES_H_
