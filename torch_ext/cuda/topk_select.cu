// From the candidates, or the whole residual, to what is sent.

#include "torch_ext/cuda/histogram.cuh"

namespace taco {
namespace cuda {
namespace {

// What this block chooses from: its run of the candidates, or its elements of the residual.
struct Source {
  bool whole;     // the latter
  int64_t begin;  // in the arrays
  int count;
  const float* values;     // from `begin` on
  const int32_t* indices;  // null: element i is index begin + i
};

Source SourceOf(const TopkStep& step) {
  if (step.control->stage == kExactly) {
    const int64_t begin = int64_t{BlockIndex()} * kBlock;
    const int count = static_cast<int>(std::min<int64_t>(kBlock, step.n - begin));
    return {true, begin, count, step.residual + begin, nullptr};
  }
  const Run& run = step.runs[BlockIndex()];
  return {false, 0, static_cast<int>(run.count), step.candidate_values + run.offset,
          step.candidate_indices + run.offset};
}

// The part of thread t: neighbours.
struct Part {
  int from, to;
};
inline Part PartOf(int t, int count) {
  const int each = (count + kThreads - 1) / kThreads;
  return {std::min(t * each, count), std::min((t + 1) * each, count)};
}

// counts (kThreads,): how many of up to and with each thread's elements are above the cut (upper 16
// bits) and equal to it (lower 16 bits).
void CountAtCut(const Source& source, uint32_t cut, uint32_t* counts) {
  EachThread([&](int t) {
    const Part part = PartOf(t, source.count);
    uint32_t sum = 0;
    for (int i = part.from; i < part.to; ++i) {
      const uint32_t key = topk::KeyOf(source.values[i]);
      sum += key > cut ? 1u << 16 : key == cut ? 1u : 0u;
    }
    counts[t] = sum;
  });
  BlockScan(counts);
}

// Where in the output the part of each block begins, and how many there are; by the last block.
void Place(const TopkStep& step) {
  __shared__ uint32_t greater[kThreads], equal[kThreads];
  Control* const control = step.control;
  const uint32_t each = (NumBlocks() + kThreads - 1) / kThreads;
  EachThread([&](int t) {
    greater[t] = equal[t] = 0;
    for (uint32_t i = t * each; i < std::min((t + 1) * each, NumBlocks()); ++i) {
      greater[t] += step.runs[i].greater;
      equal[t] += step.runs[i].equal;
    }
  });
  BlockScan(greater);
  BlockScan(equal);
  EachThread([&](int t) {
    uint32_t greater_before = Before(greater, t);
    uint32_t equal_before = Before(equal, t);
    for (uint32_t i = t * each; i < std::min((t + 1) * each, NumBlocks()); ++i) {
      Run* const run = step.runs + i;
      run->greater_before = greater_before;
      run->equal_before = equal_before;
      greater_before += run->greater;
      equal_before += run->equal;
    }
    if (t != kThreads - 1) return;
    const int64_t ties = std::min<int64_t>(equal_before, control->ties);
    control->sent = greater_before + static_cast<uint32_t>(ties);
  });
}

}  // namespace
}  // namespace cuda
}  // namespace taco

// One digit of the k-th largest key: in round 0 the upper 11 bits, then 10 and 10 more.
TACO_KERNEL topk_digits(const __grid_constant__ taco::cuda::TopkStep step) {
  using namespace taco::cuda;
  __shared__ uint32_t counts[kDigits];
  __shared__ Scratch scratch;
  Control* const control = step.control;
  const bool whole = control->stage == kExactly;
  if (!whole && control->radix == 0) return;
  const float* const values = whole ? step.residual : step.candidate_values;
  const int64_t end = whole ? step.n : control->count;
  const int shift = step.round == 0 ? 20 : step.round == 1 ? 10 : 0;
  const uint32_t mask = step.round == 0 ? kDigits - 1 : kDigits / 2 - 1;
  const uint32_t prefix = control->prefix;
  const int64_t begin = int64_t{BlockIndex()} * kBlock;
  if (begin < end) {  // the candidates may be fewer than there are blocks for
    EachThread([&](int t) {
      for (int i = t; i < kDigits; i += kThreads) counts[i] = 0;
    });
    EachThread([&](int t) {
      for (int64_t i = begin + t; i < std::min(begin + kBlock, end); i += kThreads) {
        const uint32_t key = taco::topk::KeyOf(values[i]);
        if (((key ^ prefix) >> shift) <= mask) AtomicAdd(counts + ((key >> shift) & mask), 1u);
      }
    });
    EachThread([&](int t) {
      for (int i = t; i < kDigits; i += kThreads) {
        if (counts[i] > 0) AtomicAdd(control->digits[step.round] + i, counts[i]);
      }
    });
  }
  if (!IsLastBlock(control->done + step.launch)) return;
  const int64_t rank = control->rank;
  const Crossing crossing = FindCrossing(control->digits[step.round], kDigits - 1, 0,
                                         static_cast<double>(rank), &scratch);
  const int64_t rest = rank - static_cast<int64_t>(crossing.above);
  const uint32_t found = prefix | static_cast<uint32_t>(crossing.bin) << shift;
  EachThread([&](int t) {
    if (t != 0) return;
    control->prefix = found;
    control->rank = rest;
    if (step.round < 2) return;
    control->cut = found;
    // Zeros are never sent: then there are fewer than k others.
    control->ties = found == 0 ? 0 : rest;
    if (whole) SetThreshold(step, control->input_sq, std::max<uint32_t>(found, 1u), false);
  });
}

// How much each block sends.
TACO_KERNEL topk_count(const __grid_constant__ taco::cuda::TopkStep step) {
  using namespace taco::cuda;
  __shared__ uint32_t counts[kThreads];
  Control* const control = step.control;
  Run* const run = step.runs + BlockIndex();
  const Source source = SourceOf(step);
  const bool all = !source.whole && control->cut == 0;
  if (!all) CountAtCut(source, control->cut, counts);
  EachThread([&](int t) {
    if (t != 0) return;
    run->greater = all ? run->count : counts[kThreads - 1] >> 16;
    run->equal = all ? 0 : counts[kThreads - 1] & 0xFFFFu;
  });
  if (IsLastBlock(control->done + step.launch)) Place(step);
}

// Sends keys above the cut, and of those equal to it the first `ties`. What else is a candidate
// goes back into the residual.
TACO_KERNEL topk_emit(const __grid_constant__ taco::cuda::TopkStep step) {
  using namespace taco::cuda;
  __shared__ uint32_t counts[kThreads];
  __shared__ double rest_sq[kThreads];
  Control* const control = step.control;
  Run* const run = step.runs + BlockIndex();
  const Source source = SourceOf(step);
  const uint32_t cut = control->cut;
  const uint32_t sent_in_all = control->sent;
  const int64_t ties = control->ties;
  CountAtCut(source, cut, counts);
  EachThread([&](int t) {
    const uint32_t before = Before(counts, t);
    uint32_t greater = run->greater_before + (before >> 16);
    int64_t equal = int64_t{run->equal_before} + (before & 0xFFFFu);
    double sum = 0.0;
    const Part part = PartOf(t, source.count);
    for (int i = part.from; i < part.to; ++i) {
      const float v = source.values[i];
      const int64_t index = source.whole ? source.begin + i : source.indices[i];
      const uint32_t key = taco::topk::KeyOf(v);
      const bool sent = key > cut || (key == cut && equal < ties);
      const bool finite = key < taco::topk::kInfinityKey;
      float rest = finite ? v : 0.0f;
      if (sent) {
        const int64_t to = greater + std::min(equal, ties);
        step.indices[to] = static_cast<int32_t>(index);
        taco::topk::EncodeTo(step.values, step.value_type, to, v);
        rest = taco::topk::RestOf(v, step.value_type);
      }
      greater += key > cut;
      equal += key == cut;
      // Candidates that are sent have left their rest in the residual already.
      if (source.whole ? sent || !finite : !sent) step.residual[index] = rest;
      if ((sent || !finite) && step.velocity != nullptr) step.velocity[index] = 0.0f;
      sum += static_cast<double>(rest) * static_cast<double>(rest);
    }
    rest_sq[t] = sum;
    // The padding.
    for (int64_t i = int64_t{sent_in_all} + int64_t{BlockIndex()} * kThreads + t; i < step.capacity;
         i += int64_t{NumBlocks()} * kThreads) {
      step.indices[i] = static_cast<int32_t>(step.n - 1);
      taco::topk::EncodeTo(step.values, step.value_type, i, 0.0f);
    }
  });
  const double rest = BlockSum(rest_sq);
  EachThread([&](int t) {
    if (t == 0) run->large_sq = rest;
  });
  if (!IsLastBlock(control->done + step.launch)) return;
  EachThread([&](int t) {
    double sum = 0.0;
    for (uint32_t i = t; i < NumBlocks(); i += kThreads) sum += step.runs[i].large_sq;
    rest_sq[t] = sum;
  });
  const double all_rest = BlockSum(rest_sq);
  EachThread([&](int t) {
    if (t != 0) return;
    *step.count = sent_in_all;
    step.state[5] = sent_in_all;
    step.state[7] = all_rest + (source.whole ? 0.0 : control->small_sq);
  });
}
