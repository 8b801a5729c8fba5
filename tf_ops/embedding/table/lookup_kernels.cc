#include "tf_ops/embedding/table/lookup_kernels.h"

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "tf_ops/embedding/table/hash.h"
#include "tf_ops/embedding/table/prefetch.h"

namespace taco {
namespace embedding {
namespace TACO_SIMD_NAMESPACE {
namespace {

// Copies a multiple of 16 bytes in the widest pieces that the level has.
template <bool kStream>
inline void CopyPieces(uint8_t* to, const uint8_t* from, size_t bytes) {
  size_t i = 0;
#ifdef __AVX512F__
  for (; i + 64 <= bytes; i += 64) {
    const __m512i piece = _mm512_loadu_si512(from + i);
    // An unaligned store cannot go around the cache; the start of `to` tells for all pieces.
    if (kStream && reinterpret_cast<uintptr_t>(to) % 64 == 0) {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), piece);
    } else if (kStream) {
      for (int part = 0; part < 64; part += 16) {
        _mm_stream_si128(reinterpret_cast<__m128i*>(to + i + part),
                         _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i + part)));
      }
    } else {
      _mm512_storeu_si512(to + i, piece);
    }
  }
#endif
  for (; i < bytes; i += 16) {
    const __m128i piece = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
    if (kStream) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), piece);
    } else {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), piece);
    }
  }
}

// `found ? address : nullptr` without the branch that compilers make of it.
template <typename T>
inline T* OrNull(T* address, bool found) {
  return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(address) & -uintptr_t{found});
}

// Searches keys block by block, in the steps of prefetch.h. Nothing in the common way branches on
// what the hash made random: a key that is not in its home bucket is put on a list, and the few
// keys of the list take the branches. What is found goes to the sink:
//   AtHome(i, view, handle, found)   for each key; where not found, `handle` is some row or 0
//   Found(i, view, handle)           for keys found elsewhere, later
// kWillInsert: what is absent will be inserted, into the next bucket if its home is full.
template <class Sink, bool kWillInsert>
class Search {
 public:
  Search(const int64_t* keys, int64_t n, int block, const ShardView* views, const ShardMap* map,
         Sink* sink)
      : keys_(keys), n_(n), block_(block), views_(views), map_(map), sink_(sink) {}

  int64_t blocks() const { return (n_ + block_ - 1) / block_; }
  int64_t First(int64_t b) const { return b * block_; }
  int64_t End(int64_t b) const { return std::min(n_, First(b) + block_); }

  // Prefetches the home buckets.
  void Start(int64_t b) {
    Pending& block = ring_[b & kRingMask];
    const int64_t* keys = keys_ + First(b);
    const int n = static_cast<int>(End(b) - First(b));
    for (int j = 0; j < n; ++j) {
      const uint64_t hash = HashKey(keys[j]);
      const int shard = ShardOf(*map_, hash);
      const Bucket* home = views_[shard].SegmentOf(hash).Home(hash);
      __builtin_prefetch(home);
      block.buckets[j] = home;
      block.shards[j] = static_cast<uint8_t>(shard);
    }
  }

  // Searches the home buckets.
  void Follow(int64_t b) {
    Pending& block = ring_[b & kRingMask];
    const int64_t first = First(b);
    const int n = static_cast<int>(End(b) - first);
    int missing = 0;
    for (int j = 0; j < n; ++j) {
      const uint32_t match = block.buckets[j]->Match(keys_[first + j]);
      const RowHandle handle = block.buckets[j]->HandleOf(match);
      const bool found = match != 0;
      block.missing[missing] = static_cast<uint8_t>(j);
      missing += !found;
      sink_->AtHome(first + j, views_[block.shards[j]], handle, found);
    }
    block.num_missing = 0;
    for (int m = 0; m < missing; ++m) {
      const int j = block.missing[m];
      const uint64_t hash = HashKey(keys_[first + j]);
      const Bucket* home = block.buckets[j];
      const bool passed = (home->passing & Bucket::PassBit(hash)) != 0;
      if (!passed && !(kWillInsert && home->occupied == Bucket::kFull)) continue;
      const Bucket* next = views_[block.shards[j]].SegmentOf(hash).After(home);
      __builtin_prefetch(next);
      block.buckets[j] = next;
      block.missing[block.num_missing] = static_cast<uint8_t>(j);
      block.passed[block.num_missing++] = passed;
    }
  }

  // Searches where home buckets have overflowed to: for one key in five.
  void Chase(int64_t b) {
    const Pending& block = ring_[b & kRingMask];
    for (int m = 0; m < block.num_missing; ++m) {
      const int j = block.missing[m];
      const int64_t i = First(b) + j;
      const uint64_t hash = HashKey(keys_[i]);
      const ShardView& view = views_[block.shards[j]];
      const Segment segment = view.SegmentOf(hash);
      const Bucket* bucket = block.buckets[j];
      if (kWillInsert && bucket->occupied == Bucket::kFull) {
        for (int ahead = 0; ahead < 4; ++ahead) {
          bucket = segment.After(bucket);
          __builtin_prefetch(bucket);
        }
      }
      if (!block.passed[m]) continue;
      const RowHandle handle = segment.Find(block.buckets[j], Bucket::PassBit(hash), keys_[i]);
      if (handle != kNoRow) sink_->Found(i, view, handle);
    }
  }

 private:
  struct Pending {
    const Bucket* buckets[kMaxAhead];  // home; of those in `missing`, the one after it
    uint8_t shards[kMaxAhead];
    int num_missing;
    uint8_t missing[kMaxAhead];  // keys of the block that Chase is to look at
    bool passed[kMaxAhead];      // of those in `missing`: the search goes on
  };

  static constexpr int64_t kRingMask = 3;  // three blocks are under way
  const int64_t* const keys_;
  const int64_t n_;
  const int block_;
  const ShardView* const views_;
  const ShardMap* const map_;
  Sink* const sink_;
  Pending ring_[kRingMask + 1];
};

// kBytes: vector_bytes where it is known at compile time, else 0.
template <bool kStream, size_t kBytes>
class LookupLoop {
 public:
  explicit LookupLoop(const LookupRun& run_in) : run(run_in) {}

  int64_t Run() {
    Search<LookupLoop, /*kWillInsert=*/false> search(
        run.keys, run.n, static_cast<int>(KeysAhead(bytes)), run.views, run.map, this);
    const int64_t blocks = search.blocks();
    for (int64_t b = 0; b < blocks + 2; ++b) {
      if (b >= 2) search.Chase(b - 2);
      if (b < blocks) search.Start(b);
      if (b >= 1 && b <= blocks) search.Follow(b - 1);
      if (b >= 2) Use(search.First(b - 2), search.End(b - 2));
    }
    if (kStream) _mm_sfence();
    return misses;
  }

  void AtHome(int64_t i, const ShardView& view, RowHandle handle, bool found) {
    const uint8_t* body = view.Body(handle);
    Prefetch(body);
    bodies[i & kMask] = OrNull(body, found);
  }
  void Found(int64_t i, const ShardView& view, RowHandle handle) {
    const uint8_t* body = view.Body(handle);
    Prefetch(body);
    bodies[i & kMask] = body;
  }

 private:
  void Prefetch(const uint8_t* body) const {
    for (size_t line = 0; line < prefetched; line += 64) __builtin_prefetch(body + line);
    __builtin_prefetch(body + prefetched - 1);  // another line where bodies are not aligned
  }

  void Use(int64_t first, int64_t end) {
    uint8_t* to = run.values + first * bytes;
    for (int64_t i = first; i < end; ++i, to += bytes) {
      const uint8_t* body = bodies[i & kMask];
      if (__builtin_expect(body == nullptr, 0)) {
        run.missed[misses++] = static_cast<uint32_t>(i);
      } else if (pieces) {
        CopyPieces<kStream>(to, body, bytes);
      } else {
        std::memcpy(to, body, bytes);
      }
    }
  }

  const LookupRun& run;
  const size_t bytes = kBytes != 0 ? kBytes : run.vector_bytes;
  const bool pieces = kBytes != 0 || (bytes % 16 == 0 && (kStream || bytes <= 1024));
  const size_t prefetched = std::min<size_t>(bytes, 512);
  int64_t misses = 0;
  static constexpr int64_t kMask = 4 * kMaxAhead - 1;
  const uint8_t* bodies[4 * kMaxAhead];  // null: not found, so far
};

template <size_t kBytes>
int64_t Lookup(const LookupRun& run) {
  if (run.stream) return LookupLoop<true, kBytes>(run).Run();
  return LookupLoop<false, kBytes>(run).Run();
}

struct PlaceSink {
  Place* places;
  void AtHome(int64_t i, const ShardView& view, RowHandle handle, bool found) {
    uint8_t* body = view.Body(handle);
    RowMeta* meta = view.Meta(handle);
    places[i] = {OrNull(body, found), OrNull(meta, found)};
  }
  void Found(int64_t i, const ShardView& view, RowHandle handle) {
    places[i] = {view.Body(handle), view.Meta(handle)};
  }
};

void Locate(const LocateRun& run) {
  PlaceSink sink{run.places};
  Search<PlaceSink, /*kWillInsert=*/true> search(run.keys, run.n, kMaxAhead, run.views, run.map,
                                                 &sink);
  const int64_t blocks = search.blocks();
  for (int64_t b = 0; b < blocks + 2; ++b) {
    if (b >= 2) search.Chase(b - 2);
    if (b < blocks) search.Start(b);
    if (b >= 1 && b <= blocks) search.Follow(b - 1);
  }
}

}  // namespace

LocateFn LocateKernel() { return Locate; }

LookupFn LookupKernel(size_t vector_bytes) {
  switch (vector_bytes) {
    case 32:
      return Lookup<32>;
    case 64:
      return Lookup<64>;
    case 128:
      return Lookup<128>;
    case 256:
      return Lookup<256>;
    default:
      return Lookup<0>;
  }
}

}  // namespace TACO_SIMD_NAMESPACE
}  // namespace embedding
}  // namespace taco
