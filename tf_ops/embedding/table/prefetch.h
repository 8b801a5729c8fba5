// PendingKey: one key on its way through the software pipeline that batches run over.
//
// A lookup is two dependent cache misses, index line and row. Each key passes these steps, `ahead`
// keys apart, so that the misses of some twenty keys are under way at once:
//
//   Start    prefetch the index line of its home bucket
//   Follow   match tags there; prefetch the rows that match, or the next bucket if none does and
//            entries have overflowed
//   Chase    the same in that next bucket (one key in twenty)
//   (use)    everything is in the cache; Row and Absent say what was found
#ifndef TF_OPS_EMBEDDING_TABLE_PREFETCH_H_
#define TF_OPS_EMBEDDING_TABLE_PREFETCH_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "tf_ops/embedding/table/index.h"
#include "tf_ops/embedding/table/row_store.h"

namespace taco {
namespace embedding {

// Keys between two steps: enough to cover a cache miss, few enough for each line to find a
// line-fill buffer: 16 for rows of two lines, 4 for long ones, whose own lines already overlap.
// Even.
inline constexpr int64_t kMaxAhead = 16;
inline int64_t KeysAhead(size_t row_bytes) {
  return std::clamp<int64_t>(static_cast<int64_t>(1536 / row_bytes) & ~int64_t{1}, 4, kMaxAhead);
}

// The cache lines that hold [data, data + bytes).
inline void PrefetchLines(const uint8_t* data, size_t bytes) {
  const uintptr_t end = reinterpret_cast<uintptr_t>(data) + bytes;
  for (uintptr_t line = reinterpret_cast<uintptr_t>(data) & ~uintptr_t{63}; line < end;
       line += 64) {
    __builtin_prefetch(reinterpret_cast<const void*>(line));
  }
}

class PendingKey {
 public:
  void Start(uint64_t hash, const Index& index) {
    hash_ = hash;
    bucket_ = index.Home(hash);
    __builtin_prefetch(bucket_);
  }

  void Follow(const RowStore& rows, size_t row_bytes) {
    if (Match(rows, row_bytes)) return;
    if (bucket_->overflowed == 0) {
      bucket_ = nullptr;
      return;
    }
    bucket_ = Index::After(bucket_);
    __builtin_prefetch(bucket_);
  }

  void Chase(const RowStore& rows, size_t row_bytes) {
    if (row_ == nullptr && bucket_ != nullptr) Match(rows, row_bytes);
  }

  // The row that is most likely the key's, to be compared with it; or null.
  const uint8_t* row() const { return row_; }
  // The key was not there at Follow.
  bool absent() const { return bucket_ == nullptr; }
  uint64_t hash() const { return hash_; }

 private:
  bool Match(const RowStore& rows, size_t row_bytes) {
    uint32_t match = bucket_->Match(TagOf(hash_));
    row_ = nullptr;
    if (match == 0) return false;
    row_ = rows.Row(bucket_->handles[__builtin_ctz(match)]);
    PrefetchLines(row_, row_bytes);
    for (match &= match - 1; match != 0; match &= match - 1) {
      PrefetchLines(rows.Row(bucket_->handles[__builtin_ctz(match)]), row_bytes);
    }
    return true;
  }

  uint64_t hash_;
  const Bucket* bucket_;
  const uint8_t* row_;
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_PREFETCH_H_
