// The passes over all elements: adding the gradient, picking candidates out, counting magnitudes.

#include "torch_ext/cuda/histogram.cuh"

namespace taco {
namespace cuda {
namespace {

// Neighbours in `tile` that different threads visit lie in different banks of shared memory.
constexpr int kTile = kBlock + kBlock / kEach;
inline int InTile(int i) { return i + i / kEach; }

union PassMemory {
  float tile[kTile];  // v of the block; 0 behind the last element
  Scratch scratch;    // of the last block, later
};

// v of element i, and its new velocity.
template <base::ValueType kGrad, bool kVelocity>
inline float Add(const TopkStep& step, int64_t i, float* velocity) {
  const float change = Decode<kGrad>(step.grad, i) * step.scale;
  if (!kVelocity) return change + step.residual[i];
  *velocity = step.velocity[i] * step.momentum + change;
  return step.residual[i] + *velocity;
}

// Elements begin .. begin + n: v, into the tile and the residual.
// First all reads, then all writes, so that the reads do not wait for one another.
template <base::ValueType kGrad, bool kVelocity>
void AddBlock(const TopkStep& step, int64_t begin, int n, float* tile) {
  EachThread([&](int t) {
    float v[kEach], velocity[kEach];
    TACO_UNROLL
    for (int j = 0; j < kEach; ++j) {
      const int i = j * kThreads + t;
      v[j] = i < n ? Add<kGrad, kVelocity>(step, begin + i, velocity + j) : 0.0f;
    }
    TACO_UNROLL
    for (int j = 0; j < kEach; ++j) {
      const int i = j * kThreads + t;
      tile[InTile(i)] = v[j];
      if (i >= n) continue;
      step.residual[begin + i] = v[j];
      if (kVelocity) step.velocity[begin + i] = velocity[j];
    }
  });
}

void LoadBlock(const TopkStep& step, int64_t begin, int n, float* tile) {
  EachThread([&](int t) {
    TACO_UNROLL
    for (int j = 0; j < kEach; ++j) {
      const int i = j * kThreads + t;
      tile[InTile(i)] = i < n ? step.residual[begin + i] : 0.0f;
    }
  });
}

template <base::ValueType kGrad>
void AddBlock(const TopkStep& step, int64_t begin, int n, float* tile) {
  if (step.velocity == nullptr) {
    AddBlock<kGrad, false>(step, begin, n, tile);
  } else {
    AddBlock<kGrad, true>(step, begin, n, tile);
  }
}

void AddBlock(const TopkStep& step, int64_t begin, int n, float* tile) {
  switch (step.grad_type) {
    case base::ValueType::kFloat32:
      return AddBlock<base::ValueType::kFloat32>(step, begin, n, tile);
    case base::ValueType::kFloat16:
      return AddBlock<base::ValueType::kFloat16>(step, begin, n, tile);
    case base::ValueType::kBFloat16:
      return AddBlock<base::ValueType::kBFloat16>(step, begin, n, tile);
  }
}

// v alone, of a few elements.
float Add(const TopkStep& step, int64_t i) {
  const float change = Decode(step.grad, step.grad_type, i) * step.scale;
  if (step.velocity == nullptr) return change + step.residual[i];
  return step.residual[i] + (step.velocity[i] * step.momentum + change);
}

// Whether thread t's elements of this block are in the sample: it moves from block to block, as
// topk/candidates.cc explains.
inline bool IsSampled(const TopkStep& step, int t) {
  return t % step.every == static_cast<int>(BlockIndex() % step.every);
}

int SizeOfBlock(const TopkStep& step, int64_t begin) {
  return static_cast<int>(std::min<int64_t>(kBlock, step.n - begin));
}

// Sums a field of the runs, in their order in each thread.
double SumOfRuns(const TopkStep& step, double Run::* field, double* sums) {
  EachThread([&](int t) {
    double sum = 0.0;
    for (uint32_t i = t; i < NumBlocks(); i += kThreads) sum += step.runs[i].*field;
    sums[t] = sum;
  });
  return BlockSum(sums);
}

// After a pass, by its last block: what is next.
void Judge(const TopkStep& step, Scratch* scratch) {
  Control* const control = step.control;
  const bool added = step.round == 0;
  const uint32_t threshold = control->threshold;
  const uint32_t first = control->first;
  const int64_t count = static_cast<int64_t>(control->used[step.round]);
  const uint32_t* const histogram = control->histogram[step.round];
  const double small_sq = SumOfRuns(step, &Run::small_sq, scratch->sums);
  const double large_sq = SumOfRuns(step, &Run::large_sq, scratch->sums);
  const double input_sq = added ? small_sq + large_sq : control->input_sq;
  const uint32_t fitting = step.k == 0 ? 1 : ThresholdFor(histogram, step.aim, scratch);
  const bool all_there_is = threshold == 1;
  const bool serves = count <= step.budget && (count >= step.low || all_there_is);
  const bool exactly = !serves && (!added || fitting == threshold);
  uint32_t cut = 0;
  if (serves && count > step.high && step.low < step.k) {
    cut = CutFor(histogram, step.low, step.k, step.high, scratch);
  }
  EachThread([&](int t) {
    if (t != 0) return;
    if (added) {
      step.state[1] += 1.0;
      step.state[2] += !serves && first == 0 ? 1.0 : 0.0;
      step.state[6] = input_sq;
      control->input_sq = input_sq;
    }
    step.state[4] = (added ? 1.0 : 2.0) + (exactly ? 5.0 : 0.0);
    control->stage = serves ? kServed : exactly ? kExactly : kSecondPass;
    control->misplaced = !serves;
    control->threshold = fitting;
    control->rank = step.k;
    if (!serves) return;
    control->count = static_cast<uint32_t>(count);
    control->small_sq = small_sq;
    control->cut = cut;
    control->radix = count > step.high && cut == 0;
    SetThreshold(step, input_sq, fitting, static_cast<double>(count) > 1.25 * step.aim);
  });
}

}  // namespace
}  // namespace cuda
}  // namespace taco

// The threshold of the last step, or where there is none that could be one, from a sample of v.
TACO_KERNEL topk_sample(const __grid_constant__ taco::cuda::TopkStep step) {
  using namespace taco::cuda;
  __shared__ Scratch scratch;
  Control* const control = step.control;
  const float last = static_cast<float>(step.state[0]);
  const bool known = last > 0.0f && taco::topk::KeyOf(last) < taco::topk::kInfinityKey;
  if (known || step.k == 0) {
    EachThread([&](int t) {
      if (t == 0 && BlockIndex() == 0) {
        control->threshold = step.k == 0 ? kNothing : taco::topk::KeyOf(last);
      }
    });
    return;
  }
  const int64_t begin = int64_t{BlockIndex()} * kBlock;
  const int n = SizeOfBlock(step, begin);
  EachThread([&](int t) {
    if (!IsSampled(step, t)) return;
    Tally tally{control->sample};
    for (int i = t * kEach; i < std::min((t + 1) * kEach, n); ++i) {
      tally.Add(taco::topk::KeyOf(Add(step, begin + i)), step.every);
    }
    tally.Flush();
  });
  if (!IsLastBlock(control->done + step.launch)) return;
  const uint32_t threshold = ThresholdFor(control->sample, step.aim, &scratch);
  EachThread([&](int t) {
    if (t != 0) return;
    control->threshold = threshold;
    control->first = 1;
  });
}

// Adds the gradient to the residual (in round 1: leaves it), and moves what reaches the threshold
// from the residual to the candidates, where there is room; of values that are sent in 16 bits,
// what rounding takes stays. Counts magnitudes: of candidates all, of the others a sample.
TACO_KERNEL topk_pass(const __grid_constant__ taco::cuda::TopkStep step) {
  using namespace taco::cuda;
  __shared__ PassMemory memory;
  __shared__ uint32_t counts[kThreads];
  __shared__ double small_sq[kThreads], large_sq[kThreads];
  __shared__ uint32_t offset;
  Control* const control = step.control;
  if (step.round == 1 && control->stage != kSecondPass) return;
  const uint32_t threshold = control->threshold;
  const int64_t begin = int64_t{BlockIndex()} * kBlock;
  const int n = SizeOfBlock(step, begin);
  Run* const run = step.runs + BlockIndex();
  float* const tile = memory.tile;
  if (step.round == 0) {
    AddBlock(step, begin, n, tile);
  } else {
    LoadBlock(step, begin, n, tile);
  }
  // From here on a thread has neighbours, in the order of which candidates stand.
  EachThread([&](int t) {
    uint32_t count = 0;
    float small = 0.0f;
    for (int j = 0; j < kEach; ++j) {
      const float v = tile[InTile(t * kEach + j)];
      const bool large = taco::topk::KeyOf(v) >= threshold;
      count += large;
      small += large ? 0.0f : v * v;
    }
    counts[t] = count;
    small_sq[t] = static_cast<double>(small);
  });
  BlockScan(counts);
  EachThread([&](int t) {
    if (t != 0) return;
    const uint32_t count = counts[kThreads - 1];
    const uint64_t used = AtomicAdd(control->used + step.round, static_cast<uint64_t>(count));
    const bool fits = used + count <= static_cast<uint64_t>(step.budget);
    offset = fits ? static_cast<uint32_t>(used) : kNotPacked;
    run->offset = offset;
    run->count = count;
  });
  const bool packed = offset != kNotPacked;
  EachThread([&](int t) {
    Tally tally{control->histogram[step.round]};
    const bool sampled = IsSampled(step, t);
    uint32_t to = offset + Before(counts, t);
    double large = 0.0;
    for (int j = 0; j < kEach; ++j) {
      const int i = t * kEach + j;
      float v = tile[InTile(i)];
      if (taco::topk::KeyOf(v) >= threshold) {
        tally.Add(taco::topk::KeyOf(v), 1);
        large += static_cast<double>(v) * static_cast<double>(v);
        if (packed) {
          step.candidate_indices[to] = static_cast<int32_t>(begin + i);
          step.candidate_values[to] = v;
          ++to;
          v = taco::topk::RestOf(v, step.value_type);
          step.residual[begin + i] = v;
        }
      }
      const uint32_t key = taco::topk::KeyOf(v);
      if (sampled && i < n && key < threshold) tally.Add(key, step.every);
    }
    tally.Flush();
    large_sq[t] = large;
  });
  const double small = BlockSum(small_sq);
  const double large = BlockSum(large_sq);
  EachThread([&](int t) {
    if (t != 0) return;
    run->small_sq = small;
    run->large_sq = large;
  });
  if (IsLastBlock(control->done + step.launch)) Judge(step, &memory.scratch);
}

// Undoes the moving: the residual is v again.
TACO_KERNEL topk_put_back(const __grid_constant__ taco::cuda::TopkStep step) {
  using namespace taco::cuda;
  Control* const control = step.control;
  if (control->misplaced == 0) return;
  const Run run = step.runs[BlockIndex()];
  EachThread([&](int t) {
    if (run.offset == kNotPacked) return;
    for (uint32_t i = run.offset + t; i < run.offset + run.count; i += kThreads) {
      step.residual[step.candidate_indices[i]] = step.candidate_values[i];
    }
  });
  if (!IsLastBlock(control->done + step.launch)) return;
  EachThread([&](int t) {
    if (t == 0) control->misplaced = 0;
  });
}
