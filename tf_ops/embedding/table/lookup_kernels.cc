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

// kBytes: vector_bytes where it is known at compile time, else 0.
template <bool kStream, size_t kBytes>
class Loop {
 public:
  explicit Loop(const LookupRun& run_in) : run(run_in) {}

  int64_t Run() {
    const int64_t n = run.n;
    const int64_t ahead = std::min(KeysAhead(bytes), n);
    const int64_t half = ahead / 2;
    for (int64_t i = 0; i < n; ++i) {
      if (i >= 2 * ahead) Use(i - 2 * ahead);
      Start(i);
      if (i >= ahead) Follow(i - ahead);
      if (i >= ahead + half) Chase(i - ahead - half);
    }
    for (int64_t i = n; i < n + 2 * ahead; ++i) {
      if (i >= 2 * ahead) Use(i - 2 * ahead);
      if (i < n + ahead) Follow(i - ahead);
      if (i >= ahead + half && i < n + ahead + half) Chase(i - ahead - half);
    }
    if (kStream) _mm_sfence();
    return misses;
  }

 private:
  struct Pending {
    Segment segment;
    const Bucket* bucket;  // to be searched, on its way into the cache; null: the search has ended
    const ShardView* view;
    const uint8_t* body;  // null: not found, so far
  };

  void Start(int64_t i) {
    Pending& key = ring[i & kMask];
    const uint64_t hash = HashKey(run.keys[i]);
    key.view = &run.views[ShardOf(*run.map, hash)];
    key.segment = key.view->SegmentOf(hash);
    key.bucket = key.segment.Home(hash);
    __builtin_prefetch(key.bucket);
  }

  // Searches the home bucket.
  void Follow(int64_t i) {
    Pending& key = ring[i & kMask];
    const uint32_t match = key.bucket->Match(run.keys[i]);
    if (match != 0) {
      Found(&key, key.bucket->handles[__builtin_ctz(match)]);
      return;
    }
    key.body = nullptr;
    if (key.bucket->overflowed == 0) {
      key.bucket = nullptr;
      return;
    }
    key.bucket = key.segment.After(key.bucket);
    __builtin_prefetch(key.bucket);
  }

  // Searches where the home bucket has overflowed to: for one key in five.
  void Chase(int64_t i) {
    Pending& key = ring[i & kMask];
    if (key.bucket == nullptr) return;
    const RowHandle handle = key.segment.Find(key.bucket, run.keys[i]);
    if (handle != kNoRow) Found(&key, handle);
  }

  void Found(Pending* key, RowHandle handle) {
    key->bucket = nullptr;
    key->body = key->view->Body(handle);
    PrefetchLines(key->body, prefetched);
  }

  void Use(int64_t i) {
    const uint8_t* body = ring[i & kMask].body;
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
  Pending ring[2 * kMaxAhead];
};

template <size_t kBytes>
int64_t Lookup(const LookupRun& run) {
  if (run.stream) return Loop<true, kBytes>(run).Run();
  return Loop<false, kBytes>(run).Run();
}

}  // namespace

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
