// Table::Lookup: batches under shared locks, two dependent cache misses a key, both prefetched.
#include <emmintrin.h>

#include <algorithm>
#include <bitset>
#include <cstring>

#include "tf_ops/embedding/table/table_impl.h"

namespace taco {
namespace embedding {
namespace {

// Keys looked up under one hold of the locks: long enough that taking 64 locks costs a percent or
// two, short enough that a writer waits some 0.2 ms.
constexpr int64_t kKeysPerHold = 8192;

// Work is shared out in pieces of at least this many keys.
constexpr int64_t kKeysPerTask = 2048;

using ShardSet = std::bitset<kNumShards>;

class SharedLocks {
 public:
  SharedLocks(const std::array<Shard, kNumShards>& shards, const ShardSet& wanted)
      : shards_(shards), wanted_(wanted) {
    for (int s = 0; s < kNumShards; ++s) {
      if (wanted_[s]) shards_[s].lock.lock_shared();
    }
  }
  ~SharedLocks() {
    for (int s = 0; s < kNumShards; ++s) {
      if (wanted_[s]) shards_[s].lock.unlock_shared();
    }
  }

 private:
  const std::array<Shard, kNumShards>& shards_;
  const ShardSet wanted_;
};

// Outputs from this size on are written around the cache: an ordinary store first reads the line
// that it is about to overwrite, and a large output would push the table out.
constexpr size_t kStreamedBytes = size_t{1} << 20;

// memcpy of vectors, which are short and a multiple of 16 bytes nearly always.
template <bool kStream>
inline void CopyVector(uint8_t* to, const uint8_t* from, size_t bytes) {
  if (bytes % 16 != 0 || bytes > 1024) {
    std::memcpy(to, from, bytes);
    return;
  }
  for (size_t i = 0; i < bytes; i += 16) {
    const __m128i part = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
    if (kStream) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), part);
    } else {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), part);
    }
  }
}

struct Reader {
  const Table::Impl& impl;
  const Table::Miss& miss;
  const int64_t* keys;
  uint8_t* values;
  bool* exists;
  const size_t vector_bytes;
  const size_t touched;  // bytes from the start of a row worth prefetching
  const bool stream;     // write the output around the cache

  void FillMiss(int64_t i) const {
    uint8_t* out = values + i * vector_bytes;
    const uint8_t* rows = static_cast<const uint8_t*>(miss.rows);
    switch (miss.fill) {
      case Table::Miss::Fill::kInitializer:
        InitializeVector(impl.options.initializer, impl.table_id, keys[i], impl.options.value_type,
                         impl.options.dim, out);
        break;
      case Table::Miss::Fill::kOneRow:
        std::memcpy(out, rows, vector_bytes);
        break;
      case Table::Miss::Fill::kRowEach:
        std::memcpy(out, rows + i * vector_bytes, vector_bytes);
        break;
    }
  }

  // Copies the row of key i out. Returns whether the key was there.
  template <bool kStream>
  bool Finish(int64_t i, const Shard& shard, const PendingKey& pending) const {
    const uint8_t* row = pending.row();
    if (row == nullptr || RowLayout::Header(row)->key != keys[i]) {
      const RowHandle handle =
          pending.absent() ? kNoRow : shard.index->Find(pending.hash(), keys[i]);
      row = handle == kNoRow ? nullptr : shard.rows->Row(handle);
    }
    if (row != nullptr) {
      CopyVector<kStream>(values + i * vector_bytes, RowLayout::Vector(row), vector_bytes);
    } else {
      FillMiss(i);
    }
    if (exists != nullptr) exists[i] = row != nullptr;
    return row != nullptr;
  }

  // Looks up keys[first .. end) with the locks held. Returns the hits.
  template <bool kStream>
  int64_t Pipeline(int64_t first, int64_t end) const {
    struct {
      PendingKey key;
      const Shard* shard;
    } ring[2 * kMaxAhead];
    constexpr int64_t kMask = 2 * kMaxAhead - 1;
    const ShardMap& map = GlobalShardMap();
    const int64_t ahead = KeysAhead(touched);
    int64_t found = 0;
    for (int64_t i = first; i < end + 2 * ahead; ++i) {
      const int64_t use = i - 2 * ahead;
      const int64_t chase = i - ahead - ahead / 2;
      const int64_t follow = i - ahead;
      if (use >= first)
        found += Finish<kStream>(use, *ring[use & kMask].shard, ring[use & kMask].key);
      if (i < end) {
        auto& entry = ring[i & kMask];
        const uint64_t hash = HashKey(keys[i]);
        entry.shard = &impl.shards[ShardOf(map, hash)];
        entry.key.Start(hash, *entry.shard->index);
      }
      if (follow >= first && follow < end) {
        auto& entry = ring[follow & kMask];
        entry.key.Follow(*entry.shard->rows, touched);
      }
      if (chase >= first && chase < end) {
        auto& entry = ring[chase & kMask];
        entry.key.Chase(*entry.shard->rows, touched);
      }
    }
    if (kStream) _mm_sfence();
    return found;
  }

  int64_t Range(int64_t first, int64_t end) const {
    int64_t found = 0;
    while (first < end) {
      const int64_t hold_end = std::min(end, first + kKeysPerHold);
      ShardSet wanted;
      if (hold_end - first < kNumShards) {
        for (int64_t i = first; i < hold_end; ++i) {
          wanted.set(ShardOf(GlobalShardMap(), HashKey(keys[i])));
        }
      } else {
        wanted.set();
      }
      SharedLocks locks(impl.shards, wanted);
      found += stream ? Pipeline<true>(first, hold_end) : Pipeline<false>(first, hold_end);
      first = hold_end;
    }
    return found;
  }
};

}  // namespace

void Table::Lookup(const int64_t* keys, int64_t n, const Miss& miss, void* values, bool* exists,
                   Executor* executor) const {
  if (n <= 0) return;
  const size_t vector_bytes = impl_->options.dim * ValueBytes(impl_->options.value_type);
  const Reader reader{
      *impl_,
      miss,
      keys,
      static_cast<uint8_t*>(values),
      exists,
      vector_bytes,
      std::min<size_t>(sizeof(RowHeader) + vector_bytes, 512),
      n * vector_bytes >= kStreamedBytes && reinterpret_cast<uintptr_t>(values) % 16 == 0};
  std::atomic<int64_t> found{0};
  const int64_t wanted_tasks = (n + kKeysPerTask - 1) / kKeysPerTask;
  const int64_t tasks = std::min<int64_t>(wanted_tasks, 4 * int64_t{executor->parallelism()});
  if (tasks <= 1 || executor->parallelism() == 1) {
    found = reader.Range(0, n);
  } else {
    executor->Run(tasks, [&](int64_t t) {
      found.fetch_add(reader.Range(n * t / tasks, n * (t + 1) / tasks), std::memory_order_relaxed);
    });
  }
  impl_->lookups.fetch_add(n, std::memory_order_relaxed);
  impl_->hits.fetch_add(found.load(), std::memory_order_relaxed);
}

}  // namespace embedding
}  // namespace taco
