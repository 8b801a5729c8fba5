// ExtentSource: a table's memory, cut from large anonymous mappings.
//
//   chunk (one mmap)   | extent | extent | extent | ...        not carved yet          |
//
// A chunk's extents are handed out in address order, whoever asks: rows and index of a table fill
// one huge page after the other together. So only one huge page at a time is not full yet, and
// seldom do two have to be given by the system for one batch. The untouched end of the newest chunk
// costs address space and no memory. Chunks grow with the table (an eighth of it, 2 MiB to 64 MiB):
// few mappings for big tables, little waste for small ones. All but the first ask for transparent
// huge pages: random access over a gigabyte misses the TLB on nearly every access with 4 KiB pages;
// a small table fits without and should not cost 2 MiB per few rows.
//
// A freed extent's pages go back to the system at once, its address serves the next one of its
// size; a chunk whose last extent is freed is unmapped. Thread-safe: a mutex, taken once an extent.
#ifndef TF_OPS_EMBEDDING_TABLE_EXTENT_SOURCE_H_
#define TF_OPS_EMBEDDING_TABLE_EXTENT_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

namespace taco {
namespace embedding {

class ExtentSource {
 public:
  static constexpr size_t kPage = size_t{4} << 10;
  static constexpr size_t kHugePage = size_t{2} << 20;

  ExtentSource() = default;
  ~ExtentSource();  // unmaps everything
  ExtentSource(const ExtentSource&) = delete;
  ExtentSource& operator=(const ExtentSource&) = delete;

  // bytes: a multiple of kPage. Aligned to kPage; contents unspecified. Null if the system has no
  // memory.
  uint8_t* Allocate(size_t bytes);
  void Free(uint8_t* extent, size_t bytes);

  // Address space taken, whether touched or not.
  size_t mapped_bytes() const;

 private:
  struct Chunk {
    size_t bytes = 0;
    size_t carved = 0;                             // from the front
    size_t live = 0;                               // bytes of extents in use
    std::map<size_t, std::vector<uint8_t*>> free;  // extents by their size
  };

  using Chunks = std::map<uintptr_t, Chunk>;

  // The chunk to carve `bytes` from; end(): no memory.
  Chunks::iterator ChunkWithRoom(size_t bytes);
  Chunks::iterator ChunkOf(const uint8_t* extent);
  uint8_t* Reuse(size_t bytes);  // null: none to reuse
  void Unmap(Chunks::iterator chunk);

  mutable std::mutex mu_;
  Chunks chunks_;  // by address
  uintptr_t newest_ = 0;
  size_t mapped_bytes_ = 0;
  // By size of extent: chunks that had a free one when pushed.
  std::map<size_t, std::vector<uintptr_t>> with_free_;
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_EXTENT_SOURCE_H_
