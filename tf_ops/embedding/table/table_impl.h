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

// A batch cut into tiles of equal size, each sorted by shard: the keys of shard s in tile t are
// items[begin[t][s]] ... items[begin[t][s + 1] - 1], in their order in the batch.
struct BatchPlan {
  std::vector<BatchItem> items;
  std::vector<std::array<uint32_t, kNumShards + 1>> begin;
  std::vector<uint8_t> shard_of;  // by position; while planning
};

// Batches up to this size run on the calling thread: waking another costs more than the work.
inline constexpr int64_t kInlineBatch = 1024;

// Keys a tile. Shard order scatters the rows that a caller hands in; within a tile they stay near
// each other, and tiles are planned in parallel. What that gains was not told from noise yet
// (docs/embeddings.md). Each shard's part of a tile restarts the prefetch pipeline.
inline constexpr int64_t kTileKeys = 8192;

class Table::Impl {
 public:
  explicit Impl(const TableOptions& options);

  Status InitShards(int64_t rows);
  static std::unique_ptr<SlabArena> MakeRowArena(const RowLayout& layout);

  // Cuts n keys into tiles of `tile` keys and sorts each by shard.
  static void Plan(const int64_t* keys, int64_t n, int64_t tile, Executor* executor,
                   BatchPlan* plan);

  // Plans the batch and runs work(shard, items, count), with the shard's exclusive lock held, for
  // each shard that has items in a tile. The tiles of one shard come in order, on one thread.
  // Call with the gate held shared.
  using ShardWork = std::function<void(Shard* shard, const BatchItem* items, int64_t count)>;
  void Mutate(const int64_t* keys, int64_t n, int64_t tile, Executor* executor,
              const ShardWork& work);

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

  SlabArena segment_arena;
  std::unique_ptr<SlabArena> row_arena;
  std::array<Shard, kNumShards> shards;

  mutable std::atomic<int64_t> lookups{0};
  mutable std::atomic<int64_t> hits{0};

  std::mutex pool_mu;
  std::vector<std::unique_ptr<BatchPlan>> plan_pool;
};

// Calls visit(i, hash) for i = 0 ... count - 1, hash being that of start(i), a key of this shard,
// whose index line and row are on their way into the cache by then. start(i) comes earlier, in the
// same order, and may prefetch what else visit(i) touches.
template <typename Start, typename Visit>
void VisitPrefetched(const Shard& shard, int64_t count, const Start& start, const Visit& visit) {
  PendingKey ring[2 * kMaxAhead];
  constexpr int64_t kMask = 2 * kMaxAhead - 1;
  const size_t row_bytes = std::min<size_t>(shard.rows->stride(), 1024);
  const int64_t ahead = KeysAhead(row_bytes);
  for (int64_t i = 0; i < count + 2 * ahead; ++i) {
    const int64_t use = i - 2 * ahead;
    const int64_t chase = i - ahead - ahead / 2;
    const int64_t follow = i - ahead;
    if (use >= 0) visit(use, ring[use & kMask].hash());
    if (i < count) ring[i & kMask].Start(HashKey(start(i)), *shard.index);
    if (follow >= 0 && follow < count) ring[follow & kMask].Follow(*shard.rows, row_bytes);
    if (chase >= 0 && chase < count) ring[chase & kMask].Chase(*shard.rows, row_bytes);
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
