#include "torch_ext/topk/candidates.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>

#include "torch_ext/topk/dispatch.h"
#include "torch_ext/topk/magnitude.h"

namespace taco {
namespace topk {
namespace {

constexpr int kGroup = 16;  // neighbours that are sampled together: a cache line of float32

// Every how many groups one is sampled: some 65,536 elements are enough for a rank within percents
// at the usual ratios, and cost little beside the pass.
int SampleEvery(int64_t n) {
  int every = 1;
  while (every < kBlock / kGroup && n / (2 * every) >= 65536) every *= 2;
  return every;
}

// The first sampled element of a block. It moves from block to block, so that matrices whose rows
// are a power of two long are not sampled in the same columns over and over.
int64_t FirstSampled(int64_t block, int every) { return kGroup * (block % every); }

const void* GradAt(const CompressInput& input, int64_t i) {
  if (input.grad == nullptr) return nullptr;
  return static_cast<const uint8_t*>(input.grad) + i * base::SizeOf(input.grad_type);
}

Block BlockAt(const CompressInput& input, int64_t begin, uint32_t threshold, uint64_t* marks) {
  Block block{};
  block.grad = GradAt(input, begin);
  block.residual = input.residual + begin;
  block.velocity = input.velocity == nullptr ? nullptr : input.velocity + begin;
  block.marks = marks;
  block.scale = input.scale;
  block.momentum = input.momentum;
  block.threshold = threshold;
  return block;
}

// Asks for the beginning of the next block, so that memory works while this one is packed. From
// there on the hardware sees where it goes.
void PrefetchBlock(const CompressInput& input, int64_t begin) {
  constexpr int64_t kBytes = 2048;
  if (input.n - begin < kBlock) return;
  for (int64_t byte = 0; byte < kBytes; byte += 64) {
    __builtin_prefetch(reinterpret_cast<const uint8_t*>(input.residual + begin) + byte, 1);
    if (input.grad == nullptr) continue;
    __builtin_prefetch(static_cast<const uint8_t*>(GradAt(input, begin)) + byte);
  }
}

// Calls visit(i) for each set bit of the marks of n elements, in order.
template <class Visit>
inline void ForEachMark(const uint64_t* marks, int n, const Visit& visit) {
  for (int word = 0; word * 64 < n; ++word) {
    for (uint64_t rest = marks[word]; rest != 0; rest &= rest - 1) {
      visit(word * 64 + __builtin_ctzll(rest));
    }
  }
}

int64_t CountMarks(const uint64_t* marks, int n) {
  int64_t count = 0;
  for (int word = 0; word * 64 < n; ++word) count += __builtin_popcountll(marks[word]);
  return count;
}

// Moves the marked elements of a block to the candidates, if there is room.
void Pack(const uint64_t* marks, int n, int64_t begin, float* residual, base::ValueType type,
          Candidates* candidates, BlockCandidates* block, Histogram* histogram) {
  block->count = CountMarks(marks, n);
  block->offset = candidates->used.fetch_add(block->count, std::memory_order_relaxed);
  block->large_sq = 0.0;
  const auto note = [&](float v) {
    histogram->Add(KeyOf(v), 1);
    block->large_sq += static_cast<double>(v) * static_cast<double>(v);
  };
  if (block->offset + block->count > candidates->budget) {
    block->offset = kNotPacked;
    ForEachMark(marks, n, [&](int i) { note(residual[i]); });
    return;
  }
  int32_t* indices = candidates->indices + block->offset;
  float* values = candidates->values + block->offset;
  ForEachMark(marks, n, [&](int i) {
    const float v = residual[i];
    *indices++ = static_cast<int32_t>(begin + i);
    *values++ = v;
    residual[i] = RestOf(v, type);
    note(v);
  });
}

// Samples what is below the threshold: what is not has been counted.
void SampleBlock(const float* residual, int n, int64_t number, int every, uint32_t threshold,
                 Histogram* histogram) {
  for (int64_t i = FirstSampled(number, every); i < n; i += int64_t{kGroup} * every) {
    const int64_t end = std::min<int64_t>(i + kGroup, n);
    for (int64_t j = i; j < end; ++j) {
      const uint32_t key = KeyOf(residual[j]);
      histogram->Add(key, key < threshold ? static_cast<uint32_t>(every) : 0);
    }
  }
}

}  // namespace

base::Status Candidates::Allocate(int64_t n, int64_t room) {
  budget = room;
  num_blocks = (n + kBlock - 1) / kBlock;
  memory.reset(new (std::nothrow) std::byte[budget * (sizeof *indices + sizeof *values)]);
  blocks.reset(new (std::nothrow) BlockCandidates[num_blocks]);
  if (!memory || !blocks) {
    return base::ResourceExhausted("no memory for " + std::to_string(budget) +
                                   " candidates of TopK (8 bytes each); lower the ratio or split "
                                   "the gradient into smaller buckets");
  }
  indices = reinterpret_cast<int32_t*>(memory.get());
  values = reinterpret_cast<float*>(memory.get() + budget * sizeof *indices);
  return base::OkStatus();
}

int64_t TasksFor(int64_t num_blocks, const base::Executor& executor) {
  const int64_t threads = executor.parallelism();
  return threads == 1 || num_blocks < 16 ? 1 : std::min(num_blocks, 8 * threads);
}

PassResult RunPass(const CompressInput& whole, bool add, uint32_t threshold,
                   base::ValueType value_type, base::Executor* executor, Candidates* candidates) {
  CompressInput input = whole;
  if (!add) {
    input.grad = nullptr;
    input.velocity = nullptr;
  }
  const MarkFn mark = add ? GetMark(input.grad_type, input.velocity != nullptr) : GetMarkResidual();
  const int every = SampleEvery(input.n);
  candidates->used = 0;
  PassResult result;
  std::mutex mutex;
  const int64_t tasks = TasksFor(candidates->num_blocks, *executor);
  base::RunRanges(executor, candidates->num_blocks, tasks,
                  [&](int64_t, int64_t first, int64_t last) {
                    Histogram histogram;
                    uint64_t marks[kBlock / 64];
                    for (int64_t number = first; number < last; ++number) {
                      const int64_t begin = number * kBlock;
                      const int n = static_cast<int>(std::min<int64_t>(kBlock, input.n - begin));
                      BlockCandidates* out = &candidates->blocks[number];
                      out->small_sq = mark(BlockAt(input, begin, threshold, marks), n);
                      PrefetchBlock(input, begin + kBlock);
                      float* residual = input.residual + begin;
                      Pack(marks, n, begin, residual, value_type, candidates, out, &histogram);
                      SampleBlock(residual, n, number, every, threshold, &histogram);
                    }
                    const std::lock_guard<std::mutex> lock(mutex);
                    result.histogram.Merge(histogram);
                  });
  // In the order of the blocks, for sums that do not depend on the threads.
  for (int64_t i = 0; i < candidates->num_blocks; ++i) {
    result.count += candidates->blocks[i].count;
    result.small_sq += candidates->blocks[i].small_sq;
    result.large_sq += candidates->blocks[i].large_sq;
  }
  return result;
}

void PutBack(const CompressInput& input, base::Executor* executor, const Candidates& candidates) {
  const int64_t tasks = TasksFor(candidates.num_blocks, *executor);
  base::RunRanges(executor, candidates.num_blocks, tasks,
                  [&](int64_t, int64_t first, int64_t last) {
                    for (int64_t number = first; number < last; ++number) {
                      const BlockCandidates& block = candidates.blocks[number];
                      if (block.offset == kNotPacked) continue;
                      for (int64_t i = block.offset; i < block.offset + block.count; ++i) {
                        input.residual[candidates.indices[i]] = candidates.values[i];
                      }
                    }
                  });
}

Histogram Sample(const CompressInput& input, base::Executor* executor) {
  const MarkFn mark = GetMark(input.grad_type, input.velocity != nullptr);
  const int every = SampleEvery(input.n);
  const int64_t num_blocks = (input.n + kBlock - 1) / kBlock;
  Histogram result;
  std::mutex mutex;
  const int64_t tasks = TasksFor(num_blocks, *executor);
  base::RunRanges(executor, num_blocks, tasks, [&](int64_t, int64_t first, int64_t last) {
    Histogram histogram;
    for (int64_t number = first; number < last; ++number) {
      const int64_t end = std::min((number + 1) * kBlock, input.n);
      for (int64_t i = number * kBlock + FirstSampled(number, every); i < end;
           i += int64_t{kGroup} * every) {
        const int n = static_cast<int>(std::min<int64_t>(kGroup, end - i));
        float residual[kGroup], velocity[kGroup];
        uint64_t marks[1];
        Block block = BlockAt(input, i, 1u << 31, marks);
        std::memcpy(residual, block.residual, n * sizeof(float));
        if (block.velocity != nullptr) std::memcpy(velocity, block.velocity, n * sizeof(float));
        block.residual = residual;
        block.velocity = block.velocity == nullptr ? nullptr : velocity;
        mark(block, n);
        for (int j = 0; j < n; ++j) histogram.Add(KeyOf(residual[j]), every);
      }
    }
    const std::lock_guard<std::mutex> lock(mutex);
    result.Merge(histogram);
  });
  return result;
}

}  // namespace topk
}  // namespace taco
