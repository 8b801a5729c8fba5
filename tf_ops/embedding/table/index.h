// Index: one shard's map from keys to row handles.
//
// Extendible hashing over small segments:
//
//   directory[high bits of the hash below the shard's] -> segment: 64 or 96 buckets
//
//   bucket, one cache line:
//   +-------+-------+- ... -+-------+----------+- ... -+----------+--------------------+---------+
//   | key 0 | key 1 |       | key 4 | handle 0 |       | handle 4 | occupied : passers | passing |
//   +-------+-------+- ... -+-------+----------+- ... -+----------+--------------------+---------+
//     5 x i64                         5 x u32                       5 : 11 bits          u16
//
// The key stands here and nowhere else, so one line of the index answers whether it is present,
// and growth moves entries without a look at their rows. All five keys are compared at once. An
// entry that finds its home bucket full goes to the next with room, and every bucket that it passes
// counts it as a passer and sets one of the 16 bits of `passing`, chosen by the hash. A search ends
// at the first bucket whose bit for the key is not set: for an absent key nearly always the first
// of all, however full the segment is. There are no tombstones: a bucket without passers clears
// its bits. Every key is legal: `occupied` says which slots hold one.
//
// Growth: a segment in which an entry would land more than max_displacement buckets from home
// grows, from 64 buckets to 96, and from 96 into two of 64 by its next directory bit. That is the
// longest stop that an insertion can meet, some microseconds whatever the size of the table;
// doubling the directory copies 8 bytes a segment. Growing in steps of 1.5 and 1.33 instead of 2
// moves each entry 2.9 times instead of 1.2, and keeps the load up: a slot takes 12.8 bytes.
//
//   max_displacement    mean load    bytes a key    buckets read a lookup     (simulated, and seen)
//          6               0.65          19.7              1.10
//         12               0.72          17.8              1.18
//         16               0.75          17.2              1.22
//         20               0.76          16.8              1.25
//
// Not thread-safe: the shard's lock guards it.
#ifndef TF_OPS_EMBEDDING_TABLE_INDEX_H_
#define TF_OPS_EMBEDDING_TABLE_INDEX_H_

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tf_ops/embedding/table/hash.h"
#include "tf_ops/embedding/table/row_store.h"

namespace taco {
namespace embedding {

struct alignas(64) Bucket {
  static constexpr int kSlots = 5;
  static constexpr uint32_t kFull = (1u << kSlots) - 1;

  int64_t keys[kSlots];
  RowHandle handles[kSlots];
  uint16_t occupied : kSlots;      // bit i: slot i holds an entry
  uint16_t passers : 16 - kSlots;  // entries whose search passes this bucket
  uint16_t passing;                // their PassBits

  static uint16_t PassBit(uint64_t hash) {
    return static_cast<uint16_t>(1u << (hash >> kBucketBits & 15));
  }
  void AddPasser(uint16_t pass_bit) {
    ++passers;
    passing |= pass_bit;
  }
  void RemovePasser() {
    if (--passers == 0) passing = 0;
  }

  // Bit i set: slot i holds `key`. At most one is.
  uint32_t Match(int64_t key) const {
    // More lanes than keys are compared; `occupied` masks the handles out.
#if defined(__AVX512F__)
    const __mmask8 equal = _mm512_cmpeq_epi64_mask(_mm512_load_si512(this), _mm512_set1_epi64(key));
    return static_cast<uint32_t>(equal) & occupied;
#elif defined(__AVX2__)
    const __m256i wanted = _mm256_set1_epi64x(key);
    const auto equal = [&](const int64_t* four) {
      return static_cast<uint32_t>(_mm256_movemask_pd(_mm256_castsi256_pd(
          _mm256_cmpeq_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(four)), wanted))));
    };
    return (equal(keys) | equal(keys + 1) << 1) & occupied;
#else
    const __m128i wanted = _mm_set1_epi64x(key);
    const __m128i* pairs = reinterpret_cast<const __m128i*>(this);
    const auto equal = [&](int pair) {
      return static_cast<uint32_t>(
          _mm_movemask_pd(_mm_castsi128_pd(_mm_cmpeq_epi64(_mm_load_si128(pairs + pair), wanted))));
    };
    return (equal(0) | equal(1) << 2 | equal(2) << 4) & occupied;
#endif
  }
  // The handle in the slot that Match() found, without a branch; 0 if it found none.
  RowHandle HandleOf(uint32_t match) const {
    const RowHandle handle = handles[__builtin_ctz(match | 1u << (kSlots - 1))];
    return match != 0 ? handle : 0;
  }
};
static_assert(sizeof(Bucket) == 64, "a bucket is one cache line");

// A segment, as the directory names it: the address of its buckets, and in the bits that an address
// leaves free, how many buckets there are (the lowest) and the depth (the highest seven): how many
// bits of the directory its keys share.
class Segment {
 public:
  static constexpr int kNarrow = 64;
  static constexpr int kWide = 96;

  Segment() = default;
  Segment(uint8_t* memory, bool wide, int depth)
      : bits_(reinterpret_cast<uintptr_t>(memory) | uintptr_t{wide} |
              static_cast<uintptr_t>(depth) << kAddressBits) {}

  explicit operator bool() const { return bits_ != 0; }
  Bucket* buckets() const { return reinterpret_cast<Bucket*>(bits_ & kAddressMask); }
  bool wide() const { return (bits_ & 1) != 0; }
  int size() const { return kNarrow + static_cast<int>(bits_ & 1) * (kWide - kNarrow); }
  int slots() const { return size() * Bucket::kSlots; }
  int depth() const { return static_cast<int>(bits_ >> kAddressBits); }

  // Where the search for a hash begins, and where it goes on.
  Bucket* Home(uint64_t hash) const {
    constexpr uint64_t kMask = (uint64_t{1} << kBucketBits) - 1;
    return buckets() + (((hash & kMask) * static_cast<uint64_t>(size())) >> kBucketBits);
  }
  Bucket* After(const Bucket* bucket) const {
    const int next = static_cast<int>(bucket - buckets()) + 1;
    return buckets() + (next == size() ? 0 : next);
  }

  // The row of `key`, or kNoRow, searched from `first` on: its home bucket, or a later one if it is
  // not in those before.
  RowHandle Find(const Bucket* first, uint16_t pass_bit, int64_t key) const {
    const Bucket* bucket = first;
    do {
      const uint32_t match = bucket->Match(key);
      if (match != 0) return bucket->handles[__builtin_ctz(match)];
      if ((bucket->passing & pass_bit) == 0) return kNoRow;
      bucket = After(bucket);
    } while (bucket != first);
    return kNoRow;
  }

  // Calls visit(key, handle) for every entry; handle is a reference, and may be assigned.
  template <typename Visit>
  void ForEach(const Visit& visit) const {
    for (Bucket* bucket = buckets(); bucket != buckets() + size(); ++bucket) {
      for (uint32_t left = bucket->occupied; left != 0; left &= left - 1) {
        const int slot = __builtin_ctz(left);
        visit(bucket->keys[slot], bucket->handles[slot]);
      }
    }
  }

 private:
  static constexpr int kAddressBits = 57;
  static constexpr uintptr_t kAddressMask = (uintptr_t{1} << kAddressBits) - 2;

  uintptr_t bits_ = 0;
};
static_assert(kMaxDirectoryBits < 128, "a depth takes seven bits");

// The memory of segments, shared by a table's shards.
struct SegmentArenas {
  explicit SegmentArenas(ExtentSource* source)
      : narrow(source, Segment::kNarrow * sizeof(Bucket)),
        wide(source, Segment::kWide * sizeof(Bucket)) {}

  SlabArena narrow;
  SlabArena wide;
  SlabArena* Of(bool is_wide) { return is_wide ? &wide : &narrow; }
};

class Index {
 public:
  Index(SegmentArenas* arenas, int max_displacement)
      : arenas_(arenas), max_displacement_(max_displacement) {}
  ~Index();
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  // Allocates the first segments, enough for `entries`. False: no memory. Before anything else;
  // also empties an index that is in use.
  bool Reset(int64_t entries);

  Segment SegmentOf(uint64_t hash) const { return directory_[DirectoryPlace(hash, shift_)]; }

  // For a reader that keeps the two at hand: SegmentOf(h) is directory()[DirectoryPlace(h,
  // shift())].
  const Segment* directory() const { return directory_.data(); }
  int shift() const { return shift_; }
  static size_t DirectoryPlace(uint64_t hash, int shift) {
    return (hash << kShardBits) >> shift >> 1;  // twice: a directory of one place shifts by 64
  }

  // The row of `key`, or kNoRow.
  RowHandle Find(uint64_t hash, int64_t key) const {
    const Segment segment = SegmentOf(hash);
    return segment.Find(segment.Home(hash), Bucket::PassBit(hash), key);
  }

  // The row of `key`; where it has none, that of an entry added for it, with the handle that
  // make_handle() returns. kNoRow: make_handle returned it, or there is no memory to grow and no
  // room left; the index is unchanged then.
  template <typename MakeHandle>
  RowHandle FindOrInsert(uint64_t hash, int64_t key, const MakeHandle& make_handle) {
    for (bool may_grow = true;;) {
      const Segment segment = SegmentOf(hash);
      Bucket* const home = segment.Home(hash);
      const uint16_t pass_bit = Bucket::PassBit(hash);
      Bucket* bucket = home;
      Bucket* room = nullptr;  // the first bucket that is not full
      int displacement = 0;    // of `room` from home; of `bucket`, as long as there is none
      for (bool searching = true; searching || room == nullptr;) {
        if (searching) {
          const uint32_t match = bucket->Match(key);
          if (match != 0) return bucket->handles[__builtin_ctz(match)];
          searching = (bucket->passing & pass_bit) != 0;
        }
        if (room == nullptr) {
          if (bucket->occupied != Bucket::kFull) {
            room = bucket;
          } else {
            ++displacement;
          }
        }
        bucket = segment.After(bucket);
        if (bucket == home) break;
      }
      if (displacement > max_displacement_ && may_grow) {
        may_grow = Grow(hash);
        continue;
      }
      if (room == nullptr) return kNoRow;
      const RowHandle handle = make_handle();
      if (handle == kNoRow) return kNoRow;
      for (Bucket* passed = home; passed != room; passed = segment.After(passed)) {
        passed->AddPasser(pass_bit);
      }
      Put(room, key, handle);
      ++size_;
      return handle;
    }
  }

  // Removes the entry of `key`, which must be there.
  void Erase(uint64_t hash, int64_t key);

  // Calls visit(segment) for each segment.
  template <typename Visit>
  void ForEachSegment(const Visit& visit) const {
    for (size_t place = 0; place < directory_.size(); place += Span(directory_[place])) {
      visit(directory_[place]);
    }
  }

  // Walks the segments while the index grows: the one at `position` (at first 0), and where the
  // next one begins (0: that was the last). Growth keeps what lies on either side of a position.
  Segment At(uint64_t position, uint64_t* next) const {
    const Segment segment = directory_[position >> shift_ >> 1];
    *next = segment.depth() == 0 ? 0 : position + (uint64_t{1} << (64 - segment.depth()));
    return segment;
  }

  // The same entries in fresh segments, fitted to size() or to `entries` if that is more. Null: no
  // memory.
  std::unique_ptr<Index> Rebuild(int64_t entries = 0) const;

  // For growth to come.
  void set_max_displacement(int buckets) { max_displacement_ = buckets; }

  int64_t size() const { return size_; }
  int64_t growths() const { return growths_; }
  size_t segments() const { return segments_; }
  int64_t capacity() const { return capacity_; }  // slots
  size_t bytes() const {
    return capacity_ / Bucket::kSlots * sizeof(Bucket) + directory_.capacity() * sizeof(Segment);
  }

 private:
  // How many places of the directory name `segment`.
  size_t Span(Segment segment) const { return directory_.size() >> segment.depth(); }
  Segment NewSegment(bool wide, int depth);
  void RecycleSegment(Segment segment);
  void FreeSegments();
  // Into a bucket that has room.
  static void Put(Bucket* bucket, int64_t key, RowHandle handle) {
    const int slot = __builtin_ctz(~static_cast<uint32_t>(bucket->occupied));
    bucket->occupied |= 1u << slot;
    bucket->keys[slot] = key;
    bucket->handles[slot] = handle;
  }
  // Into a segment that has room.
  static void Place(Segment segment, uint64_t hash, int64_t key, RowHandle handle) {
    Bucket* bucket = segment.Home(hash);
    while (__builtin_expect(bucket->occupied == Bucket::kFull, 0)) {
      bucket->AddPasser(Bucket::PassBit(hash));
      bucket = segment.After(bucket);
    }
    Put(bucket, key, handle);
  }
  // Gives the segment of `hash` more room. False: no memory, or it would not help.
  bool Grow(uint64_t hash);
  void DoubleDirectory();
  // Some sixty times the places that keys need whose hashes are spread: only keys chosen to share
  // their first bits come here, and for their sake the directory must not take all memory.
  size_t DirectoryLimit() const { return static_cast<size_t>(size_) / 4 + 4096; }

  SegmentArenas* const arenas_;
  int max_displacement_;
  std::vector<Segment> directory_;  // 2^k places
  int shift_ = 63;                  // 63 - k
  size_t segments_ = 0;
  int64_t capacity_ = 0;
  int64_t size_ = 0;
  int64_t growths_ = 0;
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_INDEX_H_
