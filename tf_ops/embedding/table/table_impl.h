// The inside of Table, shared by the files that implement it: table.cc (life, structure, stats),
// table_lookup.cc, table_update.cc (upsert, accumulate, erase, import), table_apply.cc
// (optimizers) and snapshot.cc.
//
// Locks, in the order in which they are taken:
//   1. structure slot   one snapshot, or one of Clear, Shrink, SetOptimizer, at a time
//   2. gate             shared by each mutating call for its whole length; exclusive for the moment
//                       at which a snapshot begins and for structural changes
//   3. shard locks      shared by lookups, exclusive by mutating calls; several at a time, taken in
//                       ascending order, so that there is no cycle. A thread that holds some while
//                       its executor works for it (LAMB) gives it tasks that take none
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

#include "tf_ops/embedding/table/batch_plan.h"
#include "tf_ops/embedding/table/hash.h"
#include "tf_ops/embedding/table/shard.h"
#include "tf_ops/embedding/table/shard_locks.h"
#include "tf_ops/embedding/table/slab_arena.h"
#include "tf_ops/embedding/table/table.h"

namespace taco {
namespace embedding {

// Batches up to this size run on the calling thread: waking another costs more than the work.
inline constexpr int64_t kInlineBatch = 1024;

class Table::Impl {
 public:
  explicit Impl(const TableOptions& options);

  Status InitShards(int64_t rows);
  std::unique_ptr<SlabArena> MakeRowArena(const RowLayout& layout);

  // Shares the batch out and runs work(group) for each group that has keys. Call with the gate held
  // shared.
  using GroupWork = std::function<void(const Group& group)>;
  void Mutate(const int64_t* keys, int64_t n, Executor* executor, const GroupWork& work);

  // Sets all of a new row's body but the vector: slots, and zeros for padding, so that equal tables
  // give equal files.
  void FinishRow(uint8_t* body) const {
    if (layout.body_bytes == layout.vector_bytes) return;
    std::memset(body + layout.vector_bytes, 0, layout.body_bytes - layout.vector_bytes);
    InitializeSlots(optimizer, layout.dim, layout.BodySlots(body));
  }

  Shard* ShardOfHash(uint64_t hash) { return &shards[ShardOf(GlobalShardMap(), hash)]; }

  // Whether the vectors of a batch of n rows are written around the cache.
  bool StreamsRows(int64_t n) const;

  Status CheckBatch(int64_t n) const;
  Status OutOfMemory() const;
  Status Relayout(const OptimizerSpec& spec, Executor* executor);  // structural: slot, gate held

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

  ExtentSource memory;
  SegmentArenas segment_arenas{&memory};
  std::unique_ptr<SlabArena> row_arena;
  std::array<Shard, kNumShards> shards;
  mutable ShardLocks locks;

  // Added to once a call: lookups, then hits. Who reads hits first never finds more of them.
  mutable std::atomic<int64_t> lookups{0};
  mutable std::atomic<int64_t> hits{0};

  // Whether most keys of the last block of an upsert were new, by which the next one chooses how to
  // begin. A guess: results do not depend on it.
  std::atomic<bool> mostly_new{false};

  std::mutex pool_mu;
  std::vector<std::unique_ptr<BatchPlan>> plan_pool;
};

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
