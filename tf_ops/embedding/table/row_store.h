// RowStore: one shard's rows, in slabs, named by 32-bit handles.
//
//   slab:  | body 0 | body 1 | ... | body 2^k - 1 | meta 0 | meta 1 | ... | meta 2^k - 1 |
//
// A slab holds 2^k rows, the most that fit into 16 or 64 KiB (at least one). handle >> k is
// the slab, handle & (2^k - 1) the place in it. Bodies lie apart from the 8 bytes of freq and step
// so that they begin where cache lines do: a lookup wants the vector alone, and gets it in the
// fewest lines. Keys are in the index. A row keeps its handle and its address until it is freed or
// the shard is compacted; free rows form a list through their bodies. 2^32 handles in each of 64
// shards: 2.7e11 rows a table.
//
// Not thread-safe: the shard's lock guards it.
#ifndef TF_OPS_EMBEDDING_TABLE_ROW_STORE_H_
#define TF_OPS_EMBEDDING_TABLE_ROW_STORE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "tf_ops/embedding/table/prefetch.h"
#include "tf_ops/embedding/table/row_layout.h"
#include "tf_ops/embedding/table/slab_arena.h"

namespace taco {
namespace embedding {

using RowHandle = uint32_t;
inline constexpr RowHandle kNoRow = 0xFFFFFFFFu;

class RowStore {
 public:
  // The longer slabs are, the fewer addresses a search has to have in its cache, and the more
  // memory is empty at the ends of 64 shards, which counts where rows are narrow.
  static constexpr size_t SlabTarget(size_t body_bytes) {
    return (body_bytes < 128 ? size_t{16} : size_t{64}) << 10;
  }

  // The k of 2^k rows a slab, for bodies of `body_bytes` (at least 4).
  static int RowsPerSlabLog2(size_t body_bytes) {
    int k = 0;
    while (k < 12 && ((body_bytes + sizeof(RowMeta)) << (k + 1)) <= SlabTarget(body_bytes)) ++k;
    return k;
  }
  static size_t SlabBytes(size_t body_bytes) {
    return (body_bytes + sizeof(RowMeta)) << RowsPerSlabLog2(body_bytes);
  }

  // The arena's slabs must have SlabBytes(body_bytes).
  RowStore(size_t body_bytes, SlabArena* arena)
      : body_bytes_(body_bytes),
        shift_(RowsPerSlabLog2(body_bytes)),
        mask_((1u << shift_) - 1),
        metas_(body_bytes << shift_),
        arena_(arena) {}
  ~RowStore() { FreeAll(); }
  RowStore(const RowStore&) = delete;
  RowStore& operator=(const RowStore&) = delete;

  uint8_t* Body(RowHandle handle) const {
    return slabs_[handle >> shift_] + (handle & mask_) * body_bytes_;
  }
  RowMeta* Meta(RowHandle handle) const {
    return reinterpret_cast<RowMeta*>(slabs_[handle >> shift_] + metas_) + (handle & mask_);
  }

  // A row whose contents are unspecified. kNoRow: no memory.
  RowHandle Allocate() {
    if (free_head_ != kNoRow) {
      const RowHandle handle = free_head_;
      std::memcpy(&free_head_, Body(handle), sizeof(free_head_));
      --free_rows_;
      return handle;
    }
    if ((end_ & mask_) == 0 && (end_ >> shift_) == slabs_.size()) {
      if (end_ == kNoRow - mask_) return kNoRow;
      uint8_t* slab = arena_->Allocate();
      if (slab == nullptr) return kNoRow;
      slabs_.push_back(slab);
    }
    const RowHandle handle = end_++;
    // The rows to come: their lines are written whole, but have to be fetched for it.
    const uint8_t* coming = Body(handle) + 4 * body_bytes_;
    PrefetchLine(coming);
    PrefetchLine(coming + 64);
    return handle;
  }

  void Free(RowHandle handle) {
    std::memcpy(Body(handle), &free_head_, sizeof(free_head_));
    free_head_ = handle;
    ++free_rows_;
  }

  void FreeAll() {
    // The arena gives whole extents back, which saves giving back slab by slab.
    for (uint8_t* slab : slabs_) arena_->Recycle(slab);
    slabs_.clear();
    slabs_.shrink_to_fit();
    free_head_ = kNoRow;
    end_ = 0;
    free_rows_ = 0;
  }

  // The free places among the first live_rows(): those that compaction fills with the rows behind.
  std::vector<RowHandle> Gaps() const {
    std::vector<RowHandle> gaps;
    for (RowHandle handle = free_head_; handle != kNoRow;) {
      if (handle < live_rows()) gaps.push_back(handle);
      std::memcpy(&handle, Body(handle), sizeof(handle));
    }
    return gaps;
  }

  void Move(RowHandle from, RowHandle to) {
    std::memcpy(Body(to), Body(from), body_bytes_);
    *Meta(to) = *Meta(from);
  }

  // Ends the store behind the first live_rows(), all gaps being filled, and gives slabs back.
  void Truncate() {
    end_ = live_rows();
    free_head_ = kNoRow;
    free_rows_ = 0;
    const size_t needed = (static_cast<size_t>(end_) + mask_) >> shift_;
    while (slabs_.size() > needed) {
      arena_->Free(slabs_.back());
      slabs_.pop_back();
    }
  }

  RowHandle end() const { return end_; }  // all handles are below
  size_t body_bytes() const { return body_bytes_; }
  uint32_t free_rows() const { return free_rows_; }
  uint32_t live_rows() const { return end_ - free_rows_; }
  size_t bytes() const { return slabs_.size() * arena_->slab_bytes(); }
  // For a reader that keeps the parts of Body() and Meta() at hand.
  size_t metas_offset() const { return metas_; }
  uint8_t* const* slabs() const { return slabs_.data(); }
  int shift() const { return shift_; }

 private:
  const size_t body_bytes_;
  const int shift_;
  const RowHandle mask_;
  const size_t metas_;  // offset in a slab
  SlabArena* const arena_;
  std::vector<uint8_t*> slabs_;
  RowHandle free_head_ = kNoRow;
  RowHandle end_ = 0;
  uint32_t free_rows_ = 0;
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_ROW_STORE_H_
