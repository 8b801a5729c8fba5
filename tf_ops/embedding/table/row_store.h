// RowStore: one shard's rows, in slabs, named by 32-bit handles.
//
// A slab holds 2^k rows, the most that fit into kSlabTarget bytes (at least one). handle >> k is
// the slab, handle & (2^k - 1) the place in it. A row keeps its handle and its address until it is
// freed or the shard is compacted. Free rows form a list through their key fields and carry
// kFreeRow in freq, so that a walk over all handles can tell them apart. 2^32 handles in each of
// 64 shards: 2.7e11 rows a table.
//
// Not thread-safe: the shard's lock guards it.
#ifndef TF_OPS_EMBEDDING_TABLE_ROW_STORE_H_
#define TF_OPS_EMBEDDING_TABLE_ROW_STORE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tf_ops/embedding/table/row_layout.h"
#include "tf_ops/embedding/table/slab_arena.h"

namespace taco {
namespace embedding {

using RowHandle = uint32_t;
inline constexpr RowHandle kNoRow = 0xFFFFFFFFu;

class RowStore {
 public:
  static constexpr size_t kSlabTarget = size_t{16} << 10;

  // The k of 2^k rows a slab, for rows of `stride` bytes.
  static int RowsPerSlabLog2(size_t stride) {
    int k = 0;
    while (k < 12 && (stride << (k + 1)) <= kSlabTarget) ++k;
    return k;
  }

  // The arena's slabs must hold 2^RowsPerSlabLog2(stride) rows.
  RowStore(size_t stride, SlabArena* arena)
      : stride_(stride),
        shift_(RowsPerSlabLog2(stride)),
        mask_((1u << shift_) - 1),
        arena_(arena) {}
  ~RowStore() { FreeAll(); }
  RowStore(const RowStore&) = delete;
  RowStore& operator=(const RowStore&) = delete;

  uint8_t* Row(RowHandle handle) const {
    return slabs_[handle >> shift_] + (handle & mask_) * stride_;
  }

  // A row whose contents are unspecified but for a freq that is not kFreeRow. kNoRow: no memory.
  RowHandle Allocate() {
    if (free_head_ != kNoRow) {
      const RowHandle handle = free_head_;
      RowHeader* header = RowLayout::Header(Row(handle));
      free_head_ = static_cast<RowHandle>(header->key);
      header->freq = 0;
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
    uint8_t* row = Row(handle);
    // The rows to come: their lines are written whole, but have to be fetched for it.
    __builtin_prefetch(row + 4 * stride_, 1);
    __builtin_prefetch(row + 4 * stride_ + 64, 1);
    RowLayout::Header(row)->freq = 0;
    return handle;
  }

  void Free(RowHandle handle) {
    RowHeader* header = RowLayout::Header(Row(handle));
    header->key = free_head_;
    header->freq = kFreeRow;
    free_head_ = handle;
    ++free_rows_;
  }

  void FreeAll() {
    for (uint8_t* slab : slabs_) arena_->Free(slab);
    slabs_.clear();
    slabs_.shrink_to_fit();
    free_head_ = kNoRow;
    end_ = 0;
    free_rows_ = 0;
  }

  // Moves the last rows into free places until none is free, then frees the slabs behind the last
  // row. moved(old_handle, new_handle) is called after each row has been copied.
  template <typename Moved>
  void Compact(const Moved& moved);

  static bool IsFree(const uint8_t* row) { return RowLayout::Header(row)->freq == kFreeRow; }
  RowHandle end() const { return end_; }  // all handles are below
  size_t stride() const { return stride_; }
  uint32_t free_rows() const { return free_rows_; }
  uint32_t live_rows() const { return end_ - free_rows_; }
  size_t slabs() const { return slabs_.size(); }

 private:
  const size_t stride_;
  const int shift_;
  const RowHandle mask_;
  SlabArena* const arena_;
  std::vector<uint8_t*> slabs_;
  RowHandle free_head_ = kNoRow;
  RowHandle end_ = 0;
  uint32_t free_rows_ = 0;
};

template <typename Moved>
void RowStore::Compact(const Moved& moved) {
  const RowHandle live = live_rows();
  RowHandle last = end_;
  for (RowHandle place = 0; place < live; ++place) {
    if (!IsFree(Row(place))) continue;
    do {
      --last;
    } while (IsFree(Row(last)));
    const uint8_t* from = Row(last);
    uint8_t* to = Row(place);
    for (size_t i = 0; i < stride_; ++i) to[i] = from[i];
    moved(last, place);
  }
  end_ = live;
  free_head_ = kNoRow;
  free_rows_ = 0;
  const size_t needed = (static_cast<size_t>(live) + mask_) >> shift_;
  while (slabs_.size() > needed) {
    arena_->Free(slabs_.back());
    slabs_.pop_back();
  }
}

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_ROW_STORE_H_
