// The inner loops that search the index, compiled once per instruction set: x86-64-v2, v3 and v4.
// The levels differ in speed alone (lookup_kernels_test.cc compares them).
#ifndef TF_OPS_EMBEDDING_TABLE_LOOKUP_KERNELS_H_
#define TF_OPS_EMBEDDING_TABLE_LOOKUP_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "tf_ops/embedding/table/index.h"
#include "tf_ops/embedding/table/row_store.h"

namespace taco {
namespace embedding {

// What is read of a shard for every key, close together. Good while the shard's lock is held.
struct ShardView {
  ShardView() = default;
  ShardView(const Index& index, const RowStore& rows)
      : directory(index.directory()),
        slabs(rows.end() == 0 ? &kNoSlab : rows.slabs()),
        body_bytes(static_cast<uint32_t>(rows.body_bytes())),
        metas(static_cast<uint32_t>(rows.metas_offset())),
        directory_shift(static_cast<uint8_t>(index.shift())),
        row_shift(static_cast<uint8_t>(rows.shift())) {}

  Segment SegmentOf(uint64_t hash) const {
    return directory[Index::DirectoryPlace(hash, directory_shift)];
  }
  uint8_t* Body(RowHandle handle) const {
    return slabs[handle >> row_shift] + size_t{PlaceInSlab(handle)} * body_bytes;
  }
  RowMeta* Meta(RowHandle handle) const {
    return reinterpret_cast<RowMeta*>(slabs[handle >> row_shift] + metas) + PlaceInSlab(handle);
  }

  RowHandle PlaceInSlab(RowHandle handle) const {
    return handle & ((RowHandle{1} << row_shift) - 1);
  }

  // Of a shard without rows: addresses in it are computed, and prefetched at most.
  static inline uint8_t no_rows[64];
  static inline uint8_t* const kNoSlab = no_rows;

  const Segment* directory;
  uint8_t* const* slabs;  // one at least
  uint32_t body_bytes;
  uint32_t metas;  // offset in a slab
  uint8_t directory_shift;
  uint8_t row_shift;
};

struct LookupRun {
  const int64_t* keys;  // (n)
  int64_t n;            // below 2^32
  const ShardView* views;
  const ShardMap* map;
  uint8_t* values;  // (n, vector_bytes): rows that are found are written
  size_t vector_bytes;
  bool stream;       // write around the cache; values aligned to 16 bytes, vector_bytes too
  uint32_t* missed;  // room for n: the positions of keys that were not found, in any order
};

// Returns how many were missed.
using LookupFn = int64_t (*)(const LookupRun& run);

// Where a row is. The addresses stay until the row is erased or its shard compacted.
struct Place {
  uint8_t* body;  // null: nowhere
  RowMeta* meta;
};

struct LocateRun {
  const int64_t* keys;  // (n)
  int64_t n;
  const ShardView* views;
  const ShardMap* map;
  Place* places;  // (n): written
};

using LocateFn = void (*)(const LocateRun& run);

namespace v2 {
LookupFn LookupKernel(size_t vector_bytes);
LocateFn LocateKernel();
}  // namespace v2
namespace v3 {
LookupFn LookupKernel(size_t vector_bytes);
LocateFn LocateKernel();
}  // namespace v3
namespace v4 {
LookupFn LookupKernel(size_t vector_bytes);
LocateFn LocateKernel();
}  // namespace v4

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_LOOKUP_KERNELS_H_
