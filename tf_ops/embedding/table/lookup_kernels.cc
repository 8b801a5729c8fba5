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

// The search for the keys of a batch, each in the steps of prefetch.h, of which the caller runs one
// after the other over the keys, so far apart that memory has answered. Nothing in the common way
// branches on what the hash made random: a key that is not in its home bucket is put in a queue,
// and the few keys of the queue take the branches, when what these depend on is long there. What is
// found goes to the sink:
//   AtHome(i, view, handle, found)   for each key; where not found, `handle` is some row or 0
//   Elsewhere(i, view, handle)       later, of those not found at home
//   Absent(i)                        later, the others
// kWillInsert: what is absent will be inserted, into the next bucket if its home is full.
template <class Sink, bool kWillInsert>
class Search {
 public:
  Search(const int64_t* keys, const ShardView* views, const ShardMap* map, Sink* sink)
      : keys_(keys), views_(views), map_(map), sink_(sink) {}

  // Prefetches the home bucket.
  void Start(int64_t i) {
    const uint64_t hash = HashKey(keys_[i]);
    const int shard = ShardOf(*map_, hash);
    const Bucket* home = views_[shard].SegmentOf(hash).Home(hash);
    PrefetchLine(home);
    pending_[i & kPendingMask] = {home, static_cast<uint32_t>(shard)};
  }

  // Searches the home bucket.
  void Follow(int64_t i) {
    const Pending& pending = pending_[i & kPendingMask];
    const uint32_t match = pending.home->Match(keys_[i]);
    const RowHandle handle = pending.home->HandleOf(match);
    const bool found = match != 0;
    queue_[queued_ & kQueueMask] = {pending.home, i, pending.shard, false};
    queued_ += !found;
    sink_->AtHome(i, views_[pending.shard], handle, found);
  }

  // Every kChaseEvery keys, and kChases times after the last one: moves the queue on by a step.
  // What came since the last call waits for the next one.
  void Chase() {
    for (; searched_ != prefetched_; ++searched_) {
      const Astray& key = queue_[searched_ & kQueueMask];
      if (key.bucket != nullptr) SearchOn(key);
    }
    for (; prefetched_ != due_; ++prefetched_) Prefetch(&queue_[prefetched_ & kQueueMask]);
    due_ = queued_;
  }

 private:
  // Where searches go on is prefetched so far: half of those that leave their home bucket end in
  // the next one, and four of five within three.
  static constexpr int kBucketsOn = 3;

  struct Pending {
    const Bucket* home;
    uint32_t shard;
  };
  // A key that is not in its home bucket.
  struct Astray {
    const Bucket* bucket;  // home; later the one after it, or null: the search has ended
    int64_t i;
    uint32_t shard;
    bool passed;  // home sends the key on
  };

  // Prefetches where home buckets have overflowed to: for one key in eight.
  void Prefetch(Astray* key) {
    const Bucket* bucket = key->bucket;
    const uint64_t hash = HashKey(keys_[key->i]);
    key->passed = (bucket->passing & Bucket::PassBit(hash)) != 0;
    key->bucket = nullptr;
    if (!key->passed) sink_->Absent(key->i);
    if (!key->passed && !(kWillInsert && bucket->occupied == Bucket::kFull)) return;
    const Segment segment = views_[key->shard].SegmentOf(hash);
    key->bucket = segment.After(bucket);
    for (int on = 0; on < kBucketsOn; ++on) {
      bucket = segment.After(bucket);
      PrefetchLine(bucket);
    }
  }

  void SearchOn(const Astray& key) {
    const uint64_t hash = HashKey(keys_[key.i]);
    const ShardView& view = views_[key.shard];
    const Segment segment = view.SegmentOf(hash);
    if (kWillInsert && key.bucket->occupied == Bucket::kFull) {
      const Bucket* bucket = key.bucket;
      for (int ahead = 0; ahead < 4; ++ahead) {
        bucket = segment.After(bucket);
        PrefetchLine(bucket);
      }
    }
    if (!key.passed) return;
    const RowHandle handle = segment.Find(key.bucket, Bucket::PassBit(hash), keys_[key.i]);
    if (handle != kNoRow) {
      sink_->Elsewhere(key.i, view, handle);
    } else {
      sink_->Absent(key.i);
    }
  }

  static constexpr int64_t kPendingMask = kIndexAhead - 1;
  static_assert((kIndexAhead & kPendingMask) == 0, "a ring");
  // A key leaves the queue three calls of Chase after it came, at most.
  static constexpr uint32_t kQueueMask = (kChases + 1) * kChaseEvery - 1;
  static_assert((kChaseEvery & (kChaseEvery - 1)) == 0, "a ring");

  const int64_t* const keys_;
  const ShardView* const views_;
  const ShardMap* const map_;
  Sink* const sink_;
  Pending pending_[kPendingMask + 1];  // keys that were started and not followed
  Astray queue_[kQueueMask + 1];
  // How many keys have come so far to each step of the queue: searched_ <= prefetched_ <= due_ <=
  // queued_.
  uint32_t queued_ = 0;
  uint32_t due_ = 0;
  uint32_t prefetched_ = 0;
  uint32_t searched_ = 0;
};

// kBytes: vector_bytes where it is known at compile time, else 0.
template <bool kStream, size_t kBytes>
class LookupLoop {
 public:
  explicit LookupLoop(const LookupRun& run_in) : run(run_in) {}

  int64_t Run() {
    Search<LookupLoop, /*kWillInsert=*/false> search(run.keys, run.views, run.map, this);
    const int64_t rows_ahead = RowsAhead(prefetched);
    for (int64_t use = -kIndexAhead - rows_ahead; use < run.n; ++use) {
      if (use >= 0) Use(use);
      const int64_t follow = use + rows_ahead;
      if (follow >= 0 && follow < run.n) search.Follow(follow);
      const int64_t start = follow + kIndexAhead;
      if (start < run.n) search.Start(start);
      if (use % kChaseEvery == 0) Chase(&search);
    }
    for (int chase = 0; chase < kChases + 1; ++chase) Chase(&search);
    if (kStream) _mm_sfence();
    return misses;
  }

  void AtHome(int64_t i, const ShardView& view, RowHandle handle, bool found) {
    const uint8_t* body = view.Body(handle);
    Prefetch(body);
    bodies[i & kMask] = OrNull(body, found);
  }
  void Elsewhere(int64_t i, const ShardView& view, RowHandle handle) {
    const uint8_t* body = view.Body(handle);
    Prefetch(body);
    late[num_late++] = {body, i};
  }
  void Absent(int64_t i) { run.missed[misses++] = static_cast<uint32_t>(i); }

 private:
  void Prefetch(const uint8_t* body) const {
    for (size_t line = 0; line < prefetched; line += 64) PrefetchLine(body + line);
    PrefetchLine(body + prefetched - 1);  // another line where bodies are not aligned
  }

  void Use(int64_t i) {
    const uint8_t* body = bodies[i & kMask];
    if (body != nullptr) Copy(i, body);
  }
  void Chase(Search<LookupLoop, false>* search) {
    for (int l = 0; l < num_late; ++l) Copy(late[l].i, late[l].body);
    num_late = 0;
    search->Chase();
  }
  void Copy(int64_t i, const uint8_t* body) {
    uint8_t* to = run.values + i * bytes;
    if (pieces) {
      CopyPieces<kStream>(to, body, bytes);
    } else {
      std::memcpy(to, body, bytes);
    }
  }

  struct Late {
    const uint8_t* body;
    int64_t i;
  };

  const LookupRun& run;
  const size_t bytes = kBytes != 0 ? kBytes : run.vector_bytes;
  const bool pieces = kBytes != 0 || (bytes % 16 == 0 && (kStream || bytes <= 1024));
  const size_t prefetched = std::min<size_t>(bytes, 512);
  int64_t misses = 0;
  static constexpr int64_t kMask = kMaxRowsAhead - 1;
  const uint8_t* bodies[kMaxRowsAhead];  // null: not at home
  int num_late = 0;
  Late late[kChaseEvery];  // found elsewhere by the last Chase
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
  void Elsewhere(int64_t i, const ShardView& view, RowHandle handle) {
    places[i] = {view.Body(handle), view.Meta(handle)};
  }
  void Absent(int64_t) {}
};

void Locate(const LocateRun& run) {
  PlaceSink sink{run.places};
  Search<PlaceSink, /*kWillInsert=*/true> search(run.keys, run.views, run.map, &sink);
  for (int64_t follow = -kIndexAhead; follow < run.n; ++follow) {
    if (follow >= 0) search.Follow(follow);
    if (follow + kIndexAhead < run.n) search.Start(follow + kIndexAhead);
    if (follow % kChaseEvery == 0) search.Chase();
  }
  for (int chase = 0; chase < kChases; ++chase) search.Chase();
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
