// Unpacking: the lists of several ranks, summed into a dense array. The contract, and the bits, are
// those of topk/accumulate.h.
//
// Two kinds of launches: accumulate_check over up to kLists lists at once, and then, list by list,
// accumulate_add. An index may stand in a list more than once, and additions keep their order:
//
//   as Compress makes lists   ascending; a run of equal indices is an entry and its padding (+0).
//                             One thread an entry, and the padding is added once: +0 and another
//                             +0 are one.
//   any other list            every thread reads the whole list, and adds what falls into its share
//                             of the indices. Slow, and nobody sends such lists.
//
// If an index is out of range, no list is added, and the host finds out when it looks into its
// mailbox: it does not wait for the device.

#include "torch_ext/cuda/block.cuh"

namespace taco {
namespace cuda {

constexpr int kLists = 32;
constexpr int kEntries = 4096;    // of a block
constexpr uint32_t kOwners = 64;  // blocks that share a list in no order

struct List {
  const int32_t* indices;  // (count,)
  const void* values;      // (count,)
  int64_t count;
  int32_t number;  // among all lists of the call
  base::ValueType type;
};

// What the host reads, in its own memory.
struct Mailbox {
  int64_t full;  // 1: the rest is filled in
  int64_t number, position, index, n;
};

struct AccumulateStep {
  float* out;  // (n,)
  // What accumulate_check finds, over all launches of a call. Zero at first.
  uint64_t* bad;        // (1,): the first index out of range, ~(number << 40 | position); 0: none
  uint64_t* unordered;  // by list: whether it is not as Compress makes them
  Mailbox* mailbox;
  int64_t n;
  float scale;
  int32_t num_lists;
  List lists[kLists];
  int32_t first_block[kLists + 1];  // of each list, and behind the last
};

}  // namespace cuda
}  // namespace taco

TACO_KERNEL accumulate_check(const __grid_constant__ taco::cuda::AccumulateStep step) {
  using namespace taco::cuda;
  const int which = RangeOf(step.first_block, step.num_lists, BlockIndex());
  const List& list = step.lists[which];
  const int64_t begin = int64_t{BlockIndex() - step.first_block[which]} * kEntries;
  EachThread([&](int t) {
    for (int64_t i = begin + t; i < std::min(begin + kEntries, list.count); i += kThreads) {
      const int32_t index = list.indices[i];
      if (index < 0 || index >= step.n) {
        const uint64_t place = static_cast<uint64_t>(list.number) << 40 | static_cast<uint64_t>(i);
        AtomicMax(step.bad, ~place);
      }
      if (i == 0) continue;
      const int32_t last = list.indices[i - 1];
      const bool padding = taco::base::BitsOf(Decode(list.values, list.type, i)) == 0;
      if (index < last || (index == last && !padding)) {
        AtomicMax(step.unordered + list.number, uint64_t{1});
      }
    }
  });
}

// lists[0] alone; the grid is that of accumulate_check for one list.
TACO_KERNEL accumulate_add(const __grid_constant__ taco::cuda::AccumulateStep step) {
  using namespace taco::cuda;
  const List& list = step.lists[0];
  if (*step.bad != 0) {
    const uint64_t place = ~*step.bad;
    const int64_t position = static_cast<int64_t>(place & ((uint64_t{1} << 40) - 1));
    if (BlockIndex() != 0 || static_cast<int32_t>(place >> 40) != list.number) return;
    EachThread([&](int t) {
      if (t != 0) return;
      Mailbox* const mailbox = step.mailbox;
      mailbox->number = list.number;
      mailbox->position = position;
      mailbox->index = list.indices[position];
      mailbox->n = step.n;
      FenceOfSystem();
      mailbox->full = 1;
    });
    return;
  }
  const auto value = [&](int64_t i) { return Decode(list.values, list.type, i) * step.scale; };
  if (step.unordered[list.number] != 0) {
    const uint32_t owners = std::min(NumBlocks(), kOwners) * kThreads;
    if (BlockIndex() >= kOwners) return;
    EachThread([&](int t) {
      const uint32_t mine = BlockIndex() * kThreads + t;
      for (int64_t i = 0; i < list.count; ++i) {
        const int32_t index = list.indices[i];
        if (static_cast<uint32_t>(index) % owners == mine) step.out[index] += value(i);
      }
    });
    return;
  }
  const int64_t begin = int64_t{BlockIndex()} * kEntries;
  EachThread([&](int t) {
    for (int64_t i = begin + t; i < std::min(begin + kEntries, list.count); i += kThreads) {
      const int32_t index = list.indices[i];
      if (i > 0 && list.indices[i - 1] == index) continue;
      float sum = step.out[index] + value(i);
      if (i + 1 < list.count && list.indices[i + 1] == index) sum += value(i + 1);
      step.out[index] = sum;
    }
  });
}
