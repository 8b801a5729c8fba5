// RowVisitor: how a mutating call comes to the rows of its keys.
//
// Keys are taken in blocks. For each, under the locks of their shards:
//
//   locate     the index is searched for all keys of the block, in a software pipeline
//   insert     the caller's on_miss puts in those that were not there
//   preserve   a running snapshot gets the rows that it still needs
//   write      the caller changes the rows, whose places are all known by now
//
// Each step is a loop of its own over one kind of memory, which keeps more cache misses under way
// than a loop that does all four for one key after the other (docs/embeddings.md has figures).
#ifndef TF_OPS_EMBEDDING_TABLE_ROW_VISIT_H_
#define TF_OPS_EMBEDDING_TABLE_ROW_VISIT_H_

#include <algorithm>
#include <cstdint>

#include "tf_ops/embedding/table/lookup_kernels.h"
#include "tf_ops/embedding/table/prefetch.h"
#include "tf_ops/embedding/table/table_impl.h"

namespace taco {
namespace embedding {

class RowVisitor {
 public:
  // Rows whose lines a loop that writes should have under way: of a Block's places, as many are
  // there behind the last one, to be prefetched in vain.
  static constexpr int64_t kAhead = 16;

  // The keys first ... first + n - 1 of a visit. Those whose place is null are to be left out.
  struct Block {
    int64_t first;
    int64_t n;
    const Place* places;  // (n + kAhead)
  };

  RowVisitor(Table::Impl* impl, const Group& group)
      : impl_(impl),
        group_locks_(LockSet::OfShards(group.first_shard, group.end_shard)),
        locate_(GetLocate()) {}

  // For the keys (count), all of the group's shards: calls on_miss(i, shard, hash) for those that
  // are not there when their block begins, in order; it returns a Place, perhaps that of a row
  // inserted by an earlier call. Then calls write(block).
  template <typename OnMiss, typename Write>
  void Visit(const int64_t* keys, int64_t count, const OnMiss& on_miss, const Write& write);

  // The same, where the caller holds the locks of all the keys' shards. The places stay good until
  // it lets go of them.
  template <typename OnMiss, typename Write>
  void VisitHeld(const int64_t* keys, int64_t count, const OnMiss& on_miss, const Write& write) {
    VisitBlocks(keys, 0, count, LockSet::OfKeys(keys, count, group_locks_), on_miss, write);
  }

 private:
  // Taking a group's locks is a percent of the work on so many keys; a reader waits for a part of
  // a millisecond (longer where rows are long).
  static constexpr int64_t kKeysPerHold = 2048;
  // The index lines of a block and what the caller reads for it fit into the first-level cache.
  static constexpr int64_t kKeysPerBlock = 512;

  // Keys first ... end - 1, the locks of their shards being held.
  template <typename OnMiss, typename Write>
  void VisitBlocks(const int64_t* keys, int64_t first, int64_t end, const LockSet& held,
                   const OnMiss& on_miss, const Write& write);

  static LocateFn GetLocate();
  void Locate(const int64_t* keys, int64_t n, const LockSet& held);
  void Preserve(const int64_t* keys, int64_t n);

  Table::Impl* const impl_;
  const LockSet group_locks_;
  const LocateFn locate_;
  ShardView views_[kNumShards];  // of the shards whose locks are held
  bool in_snapshot_;             // one of them is still to be read by a snapshot
  Place places_[kKeysPerBlock + kAhead];
};

template <typename OnMiss, typename Write>
void RowVisitor::Visit(const int64_t* keys, int64_t count, const OnMiss& on_miss,
                       const Write& write) {
  for (int64_t hold = 0; hold < count; hold += kKeysPerHold) {
    const int64_t end = std::min(count, hold + kKeysPerHold);
    const LockSet held = LockSet::OfKeys(keys + hold, end - hold, group_locks_);
    const ExclusiveLocks locks(&impl_->locks, held);
    VisitBlocks(keys, hold, end, held, on_miss, write);
  }
}

template <typename OnMiss, typename Write>
void RowVisitor::VisitBlocks(const int64_t* keys, int64_t first, int64_t end, const LockSet& held,
                             const OnMiss& on_miss, const Write& write) {
  for (; first < end; first += kKeysPerBlock) {
    const int64_t n = std::min(end - first, kKeysPerBlock);
    Locate(keys + first, n, held);
    for (int64_t i = 0; i < n; ++i) {
      if (places_[i].body != nullptr) continue;
      const uint64_t hash = HashKey(keys[first + i]);
      places_[i] = on_miss(first + i, impl_->ShardOfHash(hash), hash);
    }
    std::fill_n(places_ + n, kAhead, places_[n - 1]);
    if (in_snapshot_) Preserve(keys + first, n);
    write(Block{first, n, places_});
  }
}

// The batch's row of key i of the group, for a loop that reads these rows: where the group takes
// but some of the batch, the processor does not see a sequence to fetch ahead of by itself.
inline void PrefetchInput(const Group& group, int64_t i, const uint8_t* rows, size_t row_bytes) {
  if (group.positions == nullptr || i >= group.count) return;
  PrefetchLines(rows + group.positions[i] * row_bytes, row_bytes);
}

// The lines of a row.
inline void PrefetchPlace(const Place& place, size_t body_bytes) {
  PrefetchLines(place.body, body_bytes);
  __builtin_prefetch(place.meta);
}

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_ROW_VISIT_H_
