// SlabArena: equal slabs cut from large anonymous mappings, given back when they are free.
//
// A chunk is one mmap, aligned to 2 MiB. Its slabs are handed out in address order, so that the
// untouched end of the newest chunk costs address space and no memory. Chunks grow with the arena
// (an eighth of it, 2 MiB to 64 MiB): few mappings for big tables, little waste for small ones.
// From kHugePageThreshold on new chunks ask for transparent huge pages: random access over a
// gigabyte misses the TLB on nearly every access with 4 KiB pages; a small table fits without and
// should not cost 2 MiB per few rows.
//
// A freed slab's pages go back to the system at once (its address is kept for reuse), a recycled
// one's stay; a chunk whose last slab is freed is unmapped. Thread-safe: a mutex, taken once per
// slab, not per row.
#ifndef TF_OPS_EMBEDDING_TABLE_SLAB_ARENA_H_
#define TF_OPS_EMBEDDING_TABLE_SLAB_ARENA_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

namespace taco {
namespace embedding {

class SlabArena {
 public:
  static constexpr size_t kHugePage = size_t{2} << 20;
  static constexpr size_t kHugePageThreshold = size_t{2} << 20;

  // slab_bytes: rounded up to 64.
  explicit SlabArena(size_t slab_bytes);
  ~SlabArena();  // unmaps everything
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
  struct Chunk {
    size_t bytes = 0;
    size_t slabs = 0;                 // that fit
    size_t carved = 0;                // handed out at least once, from the front
    size_t live = 0;                  // in use now
    std::vector<uint32_t> free_list;  // carved and free
    std::vector<bool> is_free;        // by slab; for those carved
  };

  using Chunks = std::map<uintptr_t, Chunk>;

  uint8_t* MapChunk();
  // Takes a slab out of use. Its chunk, or end() if that is gone.
  Chunks::iterator Retire(uint8_t* slab);

  const size_t slab_bytes_;
  mutable std::mutex mu_;
  Chunks chunks_;                     // by address of the first slab
  std::vector<uintptr_t> with_free_;  // chunks that had a free slab when pushed
  uintptr_t newest_ = 0;              // the chunk being carved
  size_t mapped_bytes_ = 0;
  size_t live_slabs_ = 0;
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_SLAB_ARENA_H_
