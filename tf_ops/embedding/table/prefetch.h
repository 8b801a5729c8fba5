// Software prefetching: how far ahead, and of what.
//
// A key costs two dependent cache misses, index line and row. Batches therefore run over a pipeline
// in which each step is so many keys ahead of the next one that memory has answered by then:
//
//   start    prefetch the index line of the key's home bucket
//   follow   find its row there; prefetch the row
//   use      everything is in the cache
//
// and keys that are not in their home bucket go through a queue, some keys at a time (`chase`):
// prefetch where the home bucket sends them; find and prefetch their rows; use.
#ifndef TF_OPS_EMBEDDING_TABLE_PREFETCH_H_
#define TF_OPS_EMBEDDING_TABLE_PREFETCH_H_

#include <cstddef>
#include <cstdint>

namespace taco {
namespace embedding {

// Keys between start and follow.
inline constexpr int64_t kIndexAhead = 32;
// Keys between follow and use: as many, but no more than half of the first-level cache holds.
inline constexpr int64_t kMaxRowsAhead = 32;
inline int64_t RowsAhead(size_t row_bytes) {
  const int64_t ahead = static_cast<int64_t>(8192 / row_bytes);
  return ahead < 8 ? 8 : ahead > kMaxRowsAhead ? kMaxRowsAhead : ahead;
}
// Keys between two steps of the queue, and its steps.
inline constexpr int64_t kChaseEvery = 32;
inline constexpr int kChases = 3;

// The cache line of `address`, which may be any. Not __builtin_prefetch: gcc takes a function that
// does nothing else for one without effect, and drops the calls that it has not inlined.
inline void PrefetchLine(const void* address) { asm volatile("prefetcht0 (%0)" : : "r"(address)); }

// The cache lines that hold [data, data + bytes).
inline void PrefetchLines(const uint8_t* data, size_t bytes) {
  const uintptr_t end = reinterpret_cast<uintptr_t>(data) + bytes;
  for (uintptr_t line = reinterpret_cast<uintptr_t>(data) & ~uintptr_t{63}; line < end;
       line += 64) {
    PrefetchLine(reinterpret_cast<const void*>(line));
  }
}

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_PREFETCH_H_
