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

// The steps in which a key is searched (prefetch.h), for any number of keys at once. What is found
// goes to sink.Found(i, view, handle); sink.NotAtHome(i) says before that it is not in the home
// bucket. kWillInsert: what is absent will be inserted, into the next bucket if its home is full.
template <class Sink, bool kWillInsert>
class Search {
 public:
  Search(const int64_t* keys, const ShardView* views, const ShardMap* map, Sink* sink)
      : keys_(keys), views_(views), map_(map), sink_(sink) {}

  void Start(int64_t i) {
    Pending& key = ring_[i & kMask];
    const uint64_t hash = HashKey(keys_[i]);
    key.view = &views_[ShardOf(*map_, hash)];
    key.segment = key.view->SegmentOf(hash);
    key.bucket = key.segment.Home(hash);
    key.pass_bit = Bucket::PassBit(hash);
    __builtin_prefetch(key.bucket);
  }

  // Searches the home bucket.
  void Follow(int64_t i) {
    Pending& key = ring_[i & kMask];
    const uint32_t match = key.bucket->Match(keys_[i]);
    if (match != 0) {
      sink_->Found(i, *key.view, key.bucket->handles[__builtin_ctz(match)]);
      key.bucket = nullptr;
      if (kWillInsert) key.room = nullptr;
      return;
    }
    sink_->NotAtHome(i);
    const bool passed = (key.bucket->passing & key.pass_bit) != 0;
    const bool full = key.bucket->occupied == Bucket::kFull;
    const Bucket* next = key.segment.After(key.bucket);
    if (passed || (kWillInsert && full)) __builtin_prefetch(next);
    key.bucket = passed ? next : nullptr;
    if (kWillInsert) key.room = full ? next : nullptr;
  }

  // Searches where the home bucket has overflowed to: for one key in five.
  void Chase(int64_t i) {
    Pending& key = ring_[i & kMask];
    if (kWillInsert && key.room != nullptr && key.room->occupied == Bucket::kFull) {
      const Bucket* bucket = key.room;
      for (int b = 0; b < 4; ++b) {
        bucket = key.segment.After(bucket);
        __builtin_prefetch(bucket);
      }
    }
    if (key.bucket == nullptr) return;
    const RowHandle handle = key.segment.Find(key.bucket, key.pass_bit, keys_[i]);
    if (handle != kNoRow) sink_->Found(i, *key.view, handle);
  }

 private:
  struct Pending {
    Segment segment;
    const Bucket* bucket;  // to be searched, on its way into the cache; null: the search has ended
    const ShardView* view;
    const Bucket* room;  // kWillInsert: after a home bucket that is full
    uint16_t pass_bit;
  };

  static constexpr int64_t kMask = 2 * kMaxAhead - 1;
  const int64_t* const keys_;
  const ShardView* const views_;
  const ShardMap* const map_;
  Sink* const sink_;
  Pending ring_[2 * kMaxAhead];
};

// kBytes: vector_bytes where it is known at compile time, else 0.
template <bool kStream, size_t kBytes>
class LookupLoop {
 public:
  explicit LookupLoop(const LookupRun& run_in) : run(run_in) {}

  int64_t Run() {
    Search<LookupLoop, /*kWillInsert=*/false> search(run.keys, run.views, run.map, this);
    const int64_t n = run.n;
    const int64_t ahead = std::min(KeysAhead(bytes), n);
    const int64_t half = ahead / 2;
    for (int64_t i = 0; i < n; ++i) {
      if (i >= 2 * ahead) Use(i - 2 * ahead);
      search.Start(i);
      if (i >= ahead) search.Follow(i - ahead);
      if (i >= ahead + half) search.Chase(i - ahead - half);
    }
    for (int64_t i = n; i < n + 2 * ahead; ++i) {
      if (i >= 2 * ahead) Use(i - 2 * ahead);
      if (i < n + ahead) search.Follow(i - ahead);
      if (i >= ahead + half && i < n + ahead + half) search.Chase(i - ahead - half);
    }
    if (kStream) _mm_sfence();
    return misses;
  }

  void Found(int64_t i, const ShardView& view, RowHandle handle) {
    const uint8_t* body = view.Body(handle);
    bodies[i & kMask] = body;
    PrefetchLines(body, prefetched);
  }
  void NotAtHome(int64_t i) { bodies[i & kMask] = nullptr; }

 private:
  void Use(int64_t i) {
    const uint8_t* body = bodies[i & kMask];
    if (body == nullptr) {
      run.missed[misses++] = static_cast<uint32_t>(i);
      return;
    }
    uint8_t* to = run.values + i * bytes;
    if (pieces) {
      CopyPieces<kStream>(to, body, bytes);
    } else {
      std::memcpy(to, body, bytes);
    }
  }

  const LookupRun& run;
  const size_t bytes = kBytes != 0 ? kBytes : run.vector_bytes;
  const bool pieces = kBytes != 0 || (bytes % 16 == 0 && (kStream || bytes <= 1024));
  const size_t prefetched = std::min<size_t>(bytes, 512);
  int64_t misses = 0;
  static constexpr int64_t kMask = 2 * kMaxAhead - 1;
  const uint8_t* bodies[2 * kMaxAhead];  // null: not found, so far
};

template <size_t kBytes>
int64_t Lookup(const LookupRun& run) {
  if (run.stream) return LookupLoop<true, kBytes>(run).Run();
  return LookupLoop<false, kBytes>(run).Run();
}

struct PlaceSink {
  Place* places;
  void Found(int64_t i, const ShardView& view, RowHandle handle) {
    places[i] = {view.Body(handle), view.Meta(handle)};
  }
  void NotAtHome(int64_t i) { places[i] = {}; }
};

void Locate(const LocateRun& run) {
  PlaceSink sink{run.places};
  Search<PlaceSink, /*kWillInsert=*/true> search(run.keys, run.views, run.map, &sink);
  const int64_t ahead = kMaxAhead;
  const int64_t half = ahead / 2;
  for (int64_t i = 0; i < run.n + ahead + half; ++i) {
    if (i < run.n) search.Start(i);
    if (i >= ahead && i < run.n + ahead) search.Follow(i - ahead);
    if (i >= ahead + half) search.Chase(i - ahead - half);
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
