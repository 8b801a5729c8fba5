#include "torch_ext/topk/emit.h"

#include <algorithm>

#include "torch_ext/topk/kernels.h"
#include "torch_ext/topk/magnitude.h"

namespace taco {
namespace topk {
namespace {

// The elements of a block as candidates, or as they stand in the residual: Visit(visit) calls
// visit(index, v) for each, in order.
struct CandidateSource {
  static constexpr bool kTakenOut = true;  // of the residual, already
  const Candidates& candidates;
  template <class Visit>
  void ForEach(int64_t number, const Visit& visit) const {
    const BlockCandidates& block = candidates.blocks[number];
    for (int64_t i = block.offset; i < block.offset + block.count; ++i) {
      visit(int64_t{candidates.indices[i]}, candidates.values[i]);
    }
  }
};

struct ResidualSource {
  static constexpr bool kTakenOut = false;
  const CompressInput& input;
  template <class Visit>
  void ForEach(int64_t number, const Visit& visit) const {
    const int64_t end = std::min((number + 1) * kBlock, input.n);
    for (int64_t i = number * kBlock; i < end; ++i) visit(i, input.residual[i]);
  }
};

// Every block's ties and its position in the output, from its greater and equal. Returns the total.
int64_t Place(int64_t ties, Candidates* candidates) {
  int64_t position = 0;
  for (int64_t number = 0; number < candidates->num_blocks; ++number) {
    BlockCandidates& block = candidates->blocks[number];
    block.ties = std::min(ties, block.equal);
    ties -= block.ties;
    block.position = position;
    position += block.greater + block.ties;
  }
  return position;
}

template <class Source>
void EmitBlock(const Source& source, const CompressInput& input, uint32_t cut, int64_t number,
               BlockCandidates* block, Packed* packed) {
  int64_t position = block->position;
  int64_t ties = block->ties;
  double rest_sq = 0.0;
  source.ForEach(number, [&](int64_t i, float v) {
    const uint32_t key = KeyOf(v);
    const bool sent = key > cut || (key == cut && ties-- > 0);
    const bool finite = key < kInfinityKey;
    float rest = finite ? v : 0.0f;
    if (sent) {
      packed->indices[position] = static_cast<int32_t>(i);
      EncodeTo(packed->values, packed->value_type, position, v);
      ++position;
      rest = RestOf(v, packed->value_type);
    }
    // Candidates that are sent have left their rest in the residual, while it was in the cache.
    if (Source::kTakenOut ? !sent : sent || !finite) input.residual[i] = rest;
    if ((sent || !finite) && input.velocity != nullptr) input.velocity[i] = 0.0f;
    rest_sq += static_cast<double>(rest) * static_cast<double>(rest);
  });
  block->large_sq = rest_sq;
}

template <class Source>
Emitted Emit(const Source& source, const CompressInput& input, const Cut& cut, bool count_first,
             base::Executor* executor, Candidates* candidates, Packed* packed) {
  const int64_t tasks = TasksFor(candidates->num_blocks, *executor);
  if (count_first) {
    base::RunRanges(executor, candidates->num_blocks, tasks,
                    [&](int64_t, int64_t first, int64_t last) {
                      for (int64_t number = first; number < last; ++number) {
                        int64_t greater = 0, equal = 0;
                        source.ForEach(number, [&](int64_t, float v) {
                          greater += KeyOf(v) > cut.key;
                          equal += KeyOf(v) == cut.key;
                        });
                        candidates->blocks[number].greater = greater;
                        candidates->blocks[number].equal = equal;
                      }
                    });
  } else {
    for (int64_t number = 0; number < candidates->num_blocks; ++number) {
      candidates->blocks[number].greater = candidates->blocks[number].count;
      candidates->blocks[number].equal = 0;
    }
  }
  Emitted emitted;
  emitted.count = Place(cut.ties, candidates);
  base::RunRanges(
      executor, candidates->num_blocks, tasks, [&](int64_t, int64_t first, int64_t last) {
        for (int64_t number = first; number < last; ++number) {
          EmitBlock(source, input, cut.key, number, &candidates->blocks[number], packed);
        }
      });
  for (int64_t number = 0; number < candidates->num_blocks; ++number) {
    emitted.rest_sq += candidates->blocks[number].large_sq;
  }
  return emitted;
}

}  // namespace

Emitted EmitCandidates(const CompressInput& input, const Cut& cut, base::Executor* executor,
                       Candidates* candidates, Packed* packed) {
  return Emit(CandidateSource{*candidates}, input, cut, cut.key > 0, executor, candidates, packed);
}

Emitted EmitFromResidual(const CompressInput& input, const Cut& cut, base::Executor* executor,
                         Candidates* workspace, Packed* packed) {
  return Emit(ResidualSource{input}, input, cut, true, executor, workspace, packed);
}

}  // namespace topk
}  // namespace taco
