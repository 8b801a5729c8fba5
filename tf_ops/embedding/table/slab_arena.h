// SlabArena: equal slabs, cut from the extents of an ExtentSource and given back when they are
// free.
//
// An extent holds as many slabs as fill whole pages, some 128 KiB. Slabs are handed out in address
// order, so that the untouched end of the newest extent costs nothing. A freed slab's pages go back
// to the system at once (its address is kept for reuse), a recycled one's stay; an extent whose
// last slab is freed goes back to the source. Thread-safe: a mutex, taken once per slab, not per
// row.
#ifndef TF_OPS_EMBEDDING_TABLE_SLAB_ARENA_H_
#define TF_OPS_EMBEDDING_TABLE_SLAB_ARENA_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "tf_ops/embedding/table/extent_source.h"

namespace taco {
namespace embedding {

class SlabArena {
 public:
  // slab_bytes: rounded up to 64. The source must outlive the arena.
  SlabArena(ExtentSource* source, size_t slab_bytes);
  ~SlabArena();  // gives everything back
  SlabArena(const SlabArena&) = delete;
  SlabArena& operator=(const SlabArena&) = delete;

  // 64-byte aligned; contents unspecified. Null if the system has no memory.
  uint8_t* Allocate();
  void Free(uint8_t* slab);
  // As Free, but the pages stay with the arena, for the next Allocate: for what comes and goes all
  // the time. Giving 4 KiB back breaks a huge page into small ones.
  void Recycle(uint8_t* slab);

  size_t slab_bytes() const { return slab_bytes_; }
  // Bytes of the slabs in use.
  size_t bytes() const;

 private:
  struct Extent {
    size_t carved = 0;                // slabs handed out at least once, from the front
    size_t live = 0;                  // in use now
    std::vector<uint32_t> free_list;  // carved and free
    std::vector<bool> is_free;        // by slab; for those carved
  };

  using Extents = std::map<uintptr_t, Extent>;

  // Takes a slab out of use. Its extent, or end() if that is gone.
  Extents::iterator Retire(uint8_t* slab);

  ExtentSource* const source_;
  const size_t slab_bytes_;
  const size_t slabs_per_extent_;
  mutable std::mutex mu_;
  Extents extents_;                   // by address of the first slab
  std::vector<uintptr_t> with_free_;  // extents that had a free slab when pushed
  uintptr_t newest_ = 0;              // the extent being carved
  size_t live_slabs_ = 0;
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_SLAB_ARENA_H_
