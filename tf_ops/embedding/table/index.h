// Index: one shard's map from a key's hash to a row handle.
//
// Extendible hashing over small segments:
//
//   directory[low bits of (hash >> kDirectoryShift)] -> segment: 64 buckets in one 4 KiB slab
//
//   bucket, one cache line:
//   +----+----+- ... -+----+------------+------+----------+- ... -+-----------+
//   | t0 | t1 |       | t11| overflowed | meta | handle 0 |       | handle 11 |
//   +----+----+- ... -+----+------------+------+----------+- ... -+-----------+
//     12 one-byte tags        u16         u16      12 x u32
//
// A tag is 0 (empty) or 8 bits of the hash (1..255); twelve are compared at once. The key itself
// stands in the row only: a lookup reads one line of the index and then the row that it needs
// anyway, and a false tag costs a wasted row line about once in thirty lookups. An entry that
// finds its home bucket full goes to the next with room; `overflowed` of every bucket it passed
// counts it, so a search ends at the first bucket that nobody has passed. There are no tombstones.
//
// Growth: a segment that reaches kSplitAt entries splits in two by its next directory bit, reading
// its rows' keys again (720 lines, some 10 microseconds). That is the longest stop that an
// insertion can meet, whatever the size of the table; doubling the directory copies 8 bytes a
// segment. Sizes: 5.33 bytes a slot; 8.2 bytes a key at the mean load.
//
// Not thread-safe: the shard's lock guards it.
#ifndef TF_OPS_EMBEDDING_TABLE_INDEX_H_
#define TF_OPS_EMBEDDING_TABLE_INDEX_H_

#include <emmintrin.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tf_ops/embedding/table/hash.h"
#include "tf_ops/embedding/table/row_store.h"

namespace taco {
namespace embedding {

struct alignas(64) Bucket {
  static constexpr int kSlots = 12;

  uint8_t tags[kSlots];
  uint16_t overflowed;  // entries whose search passes this bucket
  uint16_t meta;        // of bucket 0: entries of the segment; of bucket 1: its local depth
  RowHandle handles[kSlots];

  // Bit i set: slot i holds `tag`.
  uint32_t Match(uint8_t tag) const {
    const __m128i line = _mm_load_si128(reinterpret_cast<const __m128i*>(tags));
    const __m128i equal = _mm_cmpeq_epi8(line, _mm_set1_epi8(static_cast<char>(tag)));
    return static_cast<uint32_t>(_mm_movemask_epi8(equal)) & ((1u << kSlots) - 1);
  }
};
static_assert(sizeof(Bucket) == 64, "a bucket is one cache line");

struct Segment {
  static constexpr int kBuckets = 64;
  static constexpr int kSlots = kBuckets * Bucket::kSlots;
  static constexpr int kSplitAt = kSlots * 15 / 16;

  Bucket buckets[kBuckets];

  uint16_t& size() { return buckets[0].meta; }
  uint16_t size() const { return buckets[0].meta; }
  uint16_t& depth() { return buckets[1].meta; }
};
static_assert(sizeof(Segment) == 4096, "a segment is one page");

inline uint8_t TagOf(uint64_t hash) {
  const uint8_t tag = static_cast<uint8_t>(hash >> 6);
  return tag == 0 ? 1 : tag;
}
inline int HomeOf(uint64_t hash) { return static_cast<int>(hash & (Segment::kBuckets - 1)); }

class Index {
 public:
  // segments: an arena of 4 KiB slabs. rows: where the keys are.
  Index(SlabArena* segments, const RowStore* rows) : segments_(segments), rows_(rows) {}
  ~Index();
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  // Allocates the first segments, enough for `entries`. False: no memory. Before anything else;
  // also empties an index that is in use.
  bool Reset(int64_t entries);

  // The home bucket: what to prefetch a few keys ahead.
  const Bucket* Home(uint64_t hash) const { return &SegmentOf(hash)->buckets[HomeOf(hash)]; }

  // The bucket where the search goes on. Segments are aligned to their size.
  static const Bucket* After(const Bucket* bucket) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(bucket);
    const uintptr_t segment = address & ~(sizeof(Segment) - 1);
    return reinterpret_cast<const Bucket*>(segment |
                                           ((address + sizeof(Bucket)) & (sizeof(Segment) - 1)));
  }

  // The row of `key`, or kNoRow. probes (may be null): += buckets read.
  RowHandle Find(uint64_t hash, int64_t key, int* probes = nullptr) const {
    const Segment* segment = SegmentOf(hash);
    const uint8_t tag = TagOf(hash);
    int b = HomeOf(hash);
    for (int n = 0; n < Segment::kBuckets; ++n) {
      const Bucket& bucket = segment->buckets[b];
      if (probes != nullptr) ++*probes;
      for (uint32_t match = bucket.Match(tag); match != 0; match &= match - 1) {
        const RowHandle handle = bucket.handles[__builtin_ctz(match)];
        if (RowLayout::Header(rows_->Row(handle))->key == key) return handle;
      }
      if (bucket.overflowed == 0) break;
      b = (b + 1) & (Segment::kBuckets - 1);
    }
    return kNoRow;
  }

  // Adds an entry whose key is not there. The row's key must be set already. False: no memory to
  // grow and no room left; the index is unchanged.
  bool Insert(uint64_t hash, RowHandle handle);

  // Removes the entry of (hash, handle), which must be there.
  void Erase(uint64_t hash, RowHandle handle);

  // The row of (hash, old_handle) now has another handle.
  void Replace(uint64_t hash, RowHandle old_handle, RowHandle new_handle);

  // The same entries in fresh segments, fitted to size() or to `entries` if that is more. Null: no
  // memory.
  std::unique_ptr<Index> Rebuild(int64_t entries = 0) const;

  // The rows, under the same handles, are in another store from now on.
  void MoveTo(const RowStore* rows) { rows_ = rows; }

  int64_t size() const { return size_; }
  int64_t growths() const { return growths_; }
  size_t segments() const { return unique_segments_; }
  int64_t capacity() const { return static_cast<int64_t>(unique_segments_) * Segment::kSlots; }
  size_t directory_bytes() const { return directory_.capacity() * sizeof(Segment*); }

 private:
  Segment* SegmentOf(uint64_t hash) const {
    return directory_[(hash >> kDirectoryShift) & directory_mask_];
  }
  Segment* NewSegment(int depth);
  bool Split(uint64_t hash);
  void FreeSegments();
  // Finds the slot of (hash, handle).
  Bucket* Locate(uint64_t hash, RowHandle handle, int* slot) const;
  static void Place(Segment* segment, uint64_t hash, RowHandle handle);

  SlabArena* const segments_;
  const RowStore* rows_;
  std::vector<Segment*> directory_;
  uint64_t directory_mask_ = 0;
  size_t unique_segments_ = 0;
  int64_t size_ = 0;
  int64_t growths_ = 0;
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_INDEX_H_
