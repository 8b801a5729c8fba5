// Table::Lookup: batches under shared locks; the inner loop is in lookup_kernels.cc.
#include <algorithm>
#include <cstring>

#include "tf_ops/embedding/table/lookup_kernels.h"
#include "tf_ops/embedding/table/simd.h"
#include "tf_ops/embedding/table/table_impl.h"

namespace taco {
namespace embedding {
namespace {

// Keys looked up under one hold of the locks: long enough that taking them all costs a percent,
// short enough that a writer waits some 0.2 ms.
constexpr int64_t kKeysPerHold = 8192;

// Work is shared out in pieces of at least this many keys.
constexpr int64_t kKeysPerTask = 2048;

// Outputs from this size on are written around the cache: an ordinary store first reads the line
// that it is about to overwrite, and a large output would push the table out.
constexpr size_t kStreamedBytes = size_t{1} << 20;

LookupFn GetLookup(size_t vector_bytes) {
  switch (ActiveSimd()) {
    case Simd::kAvx512:
      return v4::LookupKernel(vector_bytes);
    case Simd::kAvx2:
      return v3::LookupKernel(vector_bytes);
    default:
      return v2::LookupKernel(vector_bytes);
  }
}

struct Reader {
  const Table::Impl& impl;
  const Table::Miss& miss;
  const int64_t* keys;
  uint8_t* values;
  bool* exists;
  const size_t vector_bytes;
  const bool stream;  // write the output around the cache
  const LookupFn lookup;

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

  // Looks up keys[first .. end), the locks of their shards being held. Returns the hits.
  int64_t Hold(int64_t first, int64_t end, const LockSet& held) const {
    ShardView views[kNumShards];
    held.ForEachShard(
        [&](int s) { views[s] = ShardView(*impl.shards[s].index, *impl.shards[s].rows); });
    uint32_t missed[kKeysPerHold];
    LookupRun run;
    run.keys = keys + first;
    run.n = end - first;
    run.views = views;
    run.map = &GlobalShardMap();
    run.values = values + first * vector_bytes;
    run.vector_bytes = vector_bytes;
    run.stream = stream;
    run.missed = missed;
    const int64_t misses = lookup(run);
    if (exists != nullptr) std::fill(exists + first, exists + end, true);
    for (int64_t m = 0; m < misses; ++m) {
      const int64_t i = first + missed[m];
      FillMiss(i);
      if (exists != nullptr) exists[i] = false;
    }
    return run.n - misses;
  }

  int64_t Range(int64_t first, int64_t end) const {
    int64_t found = 0;
    while (first < end) {
      const int64_t hold_end = std::min(end, first + kKeysPerHold);
      const LockSet wanted =
          LockSet::OfKeys(keys + first, hold_end - first, LockSet::OfShards(0, kNumShards));
      SharedLocks locks(&impl.locks, wanted);
      found += Hold(first, hold_end, wanted);
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
                      n * vector_bytes >= kStreamedBytes && vector_bytes % 16 == 0 &&
                          reinterpret_cast<uintptr_t>(values) % 16 == 0,
                      GetLookup(vector_bytes)};
  std::atomic<int64_t> found{0};
  const int64_t wanted_tasks = (n + kKeysPerTask - 1) / kKeysPerTask;
  const int64_t tasks = std::min<int64_t>(wanted_tasks, 16 * int64_t{executor->parallelism()});
  if (tasks <= 1 || executor->parallelism() == 1) {
    found = reader.Range(0, n);
  } else {
    executor->Run(tasks, [&](int64_t t) {
      found.fetch_add(reader.Range(n * t / tasks, n * (t + 1) / tasks), std::memory_order_relaxed);
    });
  }
  impl_->lookups.fetch_add(n, std::memory_order_relaxed);
  impl_->hits.fetch_add(found.load(), std::memory_order_release);
}

}  // namespace embedding
}  // namespace taco
