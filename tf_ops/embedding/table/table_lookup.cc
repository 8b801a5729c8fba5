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

// memcpy of vectors, which are short and a multiple of 16 bytes nearly always.
inline void CopyVector(uint8_t* to, const uint8_t* from, size_t bytes) {
  if (bytes % 16 != 0 || bytes > 1024) {
    std::memcpy(to, from, bytes);
    return;
  }
  for (size_t i = 0; i < bytes; i += 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
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

  // One key on its way through the pipeline.
  struct InFlight {
    uint64_t hash;
    const Shard* shard;
    const Bucket* home;
    const uint8_t* row;
  };

  // First stage: the index line.
  void Start(int64_t i, const ShardMap& map, InFlight* key) const {
    key->hash = HashKey(keys[i]);
    key->shard = &impl.shards[ShardOf(map, key->hash)];
    key->home = key->shard->index->Home(key->hash);
    __builtin_prefetch(key->home);
  }

  // Second: the row that the index line points to.
  void Follow(InFlight* key) const {
    const RowHandle handle = Index::Candidate(key->home, key->hash);
    if (handle == kNoRow) {
      key->row = nullptr;
      return;
    }
    key->row = key->shard->rows->Row(handle);
    for (size_t at = 0; at < touched; at += 64) __builtin_prefetch(key->row + at);
    __builtin_prefetch(key->row + touched - 1);
  }

  // Third: copy it. Returns whether the key was there.
  bool Finish(int64_t i, const InFlight& key) const {
    const uint8_t* row = key.row;
    if (row == nullptr || RowLayout::Header(row)->key != keys[i]) {
      const RowHandle handle = key.shard->index->Find(key.hash, keys[i]);
      row = handle == kNoRow ? nullptr : key.shard->rows->Row(handle);
    }
    if (row != nullptr) {
      CopyVector(values + i * vector_bytes, RowLayout::Vector(row), vector_bytes);
    } else {
      FillMiss(i);
    }
    if (exists != nullptr) exists[i] = row != nullptr;
    return row != nullptr;
  }

  // Looks up keys[first .. end) with the locks held. Returns the hits.
  int64_t Pipeline(int64_t first, int64_t end) const {
    const ShardMap& map = GlobalShardMap();
    InFlight ring[2 * kMaxAhead];
    constexpr int64_t kMask = 2 * kMaxAhead - 1;
    const int64_t ahead = KeysAhead(touched);
    int64_t found = 0;
    for (int64_t i = first; i < end + 2 * ahead; ++i) {
      const int64_t finish = i - 2 * ahead;
      const int64_t follow = i - ahead;
      if (finish >= first) found += Finish(finish, ring[finish & kMask]);
      if (i < end) Start(i, map, &ring[i & kMask]);
      if (follow >= first && follow < end) Follow(&ring[follow & kMask]);
    }
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
      found += Pipeline(first, hold_end);
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
  const Reader reader{*impl_,
                      miss,
                      keys,
                      static_cast<uint8_t*>(values),
                      exists,
                      vector_bytes,
                      std::min<size_t>(sizeof(RowHeader) + vector_bytes, 512)};
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
