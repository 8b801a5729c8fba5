// Software prefetching: how far ahead, and of what.
//
// A key costs two dependent cache misses, index line and row. Batches therefore run over a
// pipeline of small blocks of keys, which are at different steps, so that the misses of some thirty
// keys are under way at once:
//
//   start    prefetch the index lines of the keys' home buckets
//   follow   find their rows there; prefetch the rows
//   chase    the keys that their home bucket sends on: find their rows; prefetch them
//   use      everything is in the cache
#ifndef TF_OPS_EMBEDDING_TABLE_PREFETCH_H_
#define TF_OPS_EMBEDDING_TABLE_PREFETCH_H_

#include <cstddef>
#include <cstdint>

namespace taco {
namespace embedding {

// Keys of a block, and so between two steps: enough to cover a cache miss, few enough for each line
// to find a line-fill buffer.
inline constexpr int64_t kMinAhead = 6;
inline constexpr int64_t kMaxAhead = 16;
inline int64_t KeysAhead(size_t row_bytes) {
  const int64_t ahead = static_cast<int64_t>(4096 / row_bytes);
  return ahead < kMinAhead ? kMinAhead : ahead > kMaxAhead ? kMaxAhead : ahead;
}

// The cache lines that hold [data, data + bytes).
inline void PrefetchLines(const uint8_t* data, size_t bytes) {
  const uintptr_t end = reinterpret_cast<uintptr_t>(data) + bytes;
  for (uintptr_t line = reinterpret_cast<uintptr_t>(data) & ~uintptr_t{63}; line < end;
       line += 64) {
    __builtin_prefetch(reinterpret_cast<const void*>(line));
  }
}

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_PREFETCH_H_
