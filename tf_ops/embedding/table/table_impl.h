// The inside of Table, shared by the files that implement it: table.cc (life, structure, stats),
// table_lookup.cc, table_update.cc (upsert, accumulate, erase, import), table_apply.cc
// (optimizers) and snapshot.cc.
//
// Locks, in the order in which they are taken:
//   1. structure slot   one snapshot, or one of Clear, Shrink, SetOptimizer, at a time
//   2. gate             shared by each mutating call for its whole length; exclusive for the moment
//                       at which a snapshot begins and for structural changes
//   3. shard locks      a mutating call holds one at a time; a lookup holds several, shared, taken
//                       in ascending order, and waits for nothing else: so there is no cycle
//   4. side buffer, arenas: leaves
// A mutating call may wait for room in the side buffer while it holds 2 and 3. The snapshot's
// consumer never blocks on 2 or 3 (it only tries), so it always comes to make room.
#ifndef TF_OPS_EMBEDDING_TABLE_TABLE_IMPL_H_
#define TF_OPS_EMBEDDING_TABLE_TABLE_IMPL_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "tf_ops/embedding/table/hash.h"
#include "tf_ops/embedding/table/prefetch.h"
#include "tf_ops/embedding/table/shard.h"
#include "tf_ops/embedding/table/slab_arena.h"
#include "tf_ops/embedding/table/table.h"

namespace taco {
namespace embedding {

// One key of a batch, in shard order, with its place in the batch. The key is copied so that the
// visit reads its items in order; its hash is cheaper to compute again than to store.
struct BatchItem {
  int64_t key;
  uint32_t position;
};

// A batch sorted by shard: the keys of shard s are items[begin[s]] ... items[begin[s + 1] - 1], in
// their order in the batch.
struct BatchPlan {
  std::vector<BatchItem> items;
  std::array<uint32_t, kNumShards + 1> begin;
  std::vector<uint8_t> shard_of;  // by position; while planning
};

// Batches up to this size run on the calling thread: waking another costs more than the work.
inline constexpr int64_t kInlineBatch = 1024;

class Table::Impl {
 public:
  explicit Impl(const TableOptions& options);

  Status InitShards(int64_t rows);
  static std::unique_ptr<SlabArena> MakeRowArena(const RowLayout& layout);

  static void Plan(const int64_t* keys, int64_t n, BatchPlan* plan);

  // Plans the batch and runs work(shard, items, count), with the shard's exclusive lock held, for
  // each shard that has items. Call with the gate held shared.
  using ShardWork = std::function<void(Shard* shard, const BatchItem* items, int64_t count)>;
  void Mutate(const int64_t* keys, int64_t n, Executor* executor, const ShardWork& work);

  // Sets all of a new row's body but the vector: slots, and zeros for padding, so that equal tables
  // give equal files.
  void FinishRow(uint8_t* body) const {
    if (layout.body_bytes == layout.vector_bytes) return;
    std::memset(body + layout.vector_bytes, 0, layout.body_bytes - layout.vector_bytes);
    InitializeSlots(optimizer, layout.dim, layout.BodySlots(body));
  }

  Status CheckBatch(int64_t n) const;
  Status OutOfMemory() const;
  Status Relayout(const OptimizerSpec& spec);  // structural: slot and gate held

  void AcquireStructure();
  void ReleaseStructure();

  const TableOptions options;
  const uint64_t table_id;

  std::mutex structure_mu;
  std::condition_variable structure_free;
  bool structure_taken = false;

  mutable RwLock gate;
  OptimizerSpec optimizer;  // guarded by gate
  RowLayout layout;         // guarded by gate

  SegmentArenas segment_arenas;
  std::unique_ptr<SlabArena> row_arena;
  std::array<Shard, kNumShards> shards;

  mutable std::atomic<int64_t> lookups{0};
  mutable std::atomic<int64_t> hits{0};

  std::mutex pool_mu;
  std::vector<std::unique_ptr<BatchPlan>> plan_pool;
};

// Calls visit(i, hash, handle) for i = 0 ... count - 1: the hash of start(i), a key of this shard,
// and its row, whose lines are in the cache by then; or kNoRow if it had none a few keys ago, so
// that only an earlier visit may have inserted one since. start(i) comes earlier, in the same
// order, and may prefetch what else visit(i) touches. visit may insert rows; if it erases any it
// must not rely on handle.
template <typename Start, typename Visit>
void VisitPrefetched(const Shard& shard, int64_t count, const Start& start, const Visit& visit) {
  struct Pending {
    int64_t key;
    uint64_t hash;
    RowHandle handle;
    bool chase;  // the home bucket has overflowed: search on
  } ring[2 * kMaxAhead];
  constexpr int64_t kMask = 2 * kMaxAhead - 1;
  const Index& index = *shard.index;
  const RowStore& rows = *shard.rows;
  const size_t row_bytes = std::min<size_t>(rows.body_bytes(), 1024);
  const int64_t ahead = KeysAhead(row_bytes);
  const auto found = [&](Pending* key, RowHandle handle) {
    key->handle = handle;
    if (handle == kNoRow) return;
    PrefetchLines(rows.Body(handle), row_bytes);
    __builtin_prefetch(rows.Meta(handle));
  };
  for (int64_t i = 0; i < count + 2 * ahead; ++i) {
    const int64_t use = i - 2 * ahead;
    const int64_t chase = i - ahead - ahead / 2;
    const int64_t follow = i - ahead;
    if (use >= 0) visit(use, ring[use & kMask].hash, ring[use & kMask].handle);
    if (i < count) {
      Pending& key = ring[i & kMask];
      key.key = start(i);
      key.hash = HashKey(key.key);
      __builtin_prefetch(index.SegmentOf(key.hash).Home(key.hash));
    }
    if (follow >= 0 && follow < count) {
      Pending& key = ring[follow & kMask];
      const Segment segment = index.SegmentOf(key.hash);
      const Bucket* home = segment.Home(key.hash);
      const uint32_t match = home->Match(key.key);
      key.chase = match == 0 && home->overflowed != 0;
      if (key.chase) __builtin_prefetch(segment.After(home));
      found(&key, match == 0 ? kNoRow : home->handles[__builtin_ctz(match)]);
    }
    if (chase >= 0 && chase < count) {
      Pending& key = ring[chase & kMask];
      if (key.chase) found(&key, index.Find(key.hash, key.key));
    }
  }
}

// Takes the structure slot and the gate for a structural change.
class StructuralChange {
 public:
  explicit StructuralChange(Table::Impl* impl);
  ~StructuralChange();

 private:
  Table::Impl* const impl_;
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_TABLE_IMPL_H_
