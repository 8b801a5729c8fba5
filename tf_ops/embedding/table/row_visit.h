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
  // The keys first ... first + n - 1 of a visit. Those whose place has no body are to be left out.
  struct Block {
    int64_t first;
    int64_t n;
    const Place* places;  // (n)

    // For each key i (of the visit) that has a place, in order: change(i, place), and `ahead` keys
    // earlier prefetch(i, place), also for places without a body.
    template <typename Prefetch, typename Change>
    void Each(int64_t ahead, const Prefetch& prefetch, const Change& change) const {
      for (int64_t i = -ahead; i < n; ++i) {
        if (i + ahead < n) prefetch(first + i + ahead, places[i + ahead]);
        if (i >= 0 && places[i].body != nullptr) change(first + i, places[i]);
      }
    }
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

  // The same, where on_miss serves keys that are there as well: it finds them. *inserted is how
  // many rows it has inserted so far. Where that were most of the table's last block of upserts, it
  // is called for all keys, in order: to search for them first would be in vain.
  template <typename OnMiss, typename Write>
  void VisitOrInsert(const int64_t* keys, int64_t count, const OnMiss& on_miss,
                     const int64_t* inserted, const Write& write);

  // The same, where the caller holds the locks of all the keys' shards. The places stay good until
  // it lets go of them.
  template <typename OnMiss, typename Write>
  void VisitHeld(const int64_t* keys, int64_t count, const OnMiss& on_miss, const Write& write);

 private:
  // Taking a group's locks, and filling and draining the pipelines, are a percent of the work on so
  // many keys; a reader waits for a part of a millisecond (longer where rows are long).
  static constexpr int64_t kKeysPerBlock = 1024;

  // Where InsertAll looks whether a home bucket is full, so many keys ahead.
  static constexpr int64_t kNextBucketAhead = 12;

  // The places of the n keys from `first` on, the locks of their shards being held: those of absent
  // keys by on_miss.
  template <typename OnMiss>
  void FindAll(const int64_t* keys, int64_t first, int64_t n, const LockSet& held,
               const OnMiss& on_miss);

  // The same, all of them by on_miss.
  template <typename OnMiss>
  void InsertAll(const int64_t* keys, int64_t first, int64_t n, const OnMiss& on_miss);

  // What comes after the places are known.
  template <typename Write>
  void PreserveAndWrite(const int64_t* keys, int64_t first, int64_t n, const Write& write);

  static LocateFn GetLocate();
  void ViewShards(const LockSet& held);
  void Locate(const int64_t* keys, int64_t n, const LockSet& held);
  void Preserve(const int64_t* keys, int64_t n);

  Table::Impl* const impl_;
  const LockSet group_locks_;
  const LocateFn locate_;
  ShardView views_[kNumShards];  // of the shards whose locks are held
  bool in_snapshot_;             // one of them is still to be read by a snapshot
  Place places_[kKeysPerBlock];
};

template <typename OnMiss, typename Write>
void RowVisitor::Visit(const int64_t* keys, int64_t count, const OnMiss& on_miss,
                       const Write& write) {
  for (int64_t first = 0; first < count; first += kKeysPerBlock) {
    const int64_t n = std::min(count - first, kKeysPerBlock);
    const LockSet held = LockSet::OfKeys(keys + first, n, group_locks_);
    const ExclusiveLocks locks(&impl_->locks, held);
    FindAll(keys, first, n, held, on_miss);
    PreserveAndWrite(keys, first, n, write);
  }
}

template <typename OnMiss, typename Write>
void RowVisitor::VisitOrInsert(const int64_t* keys, int64_t count, const OnMiss& on_miss,
                               const int64_t* inserted, const Write& write) {
  for (int64_t first = 0; first < count; first += kKeysPerBlock) {
    const int64_t n = std::min(count - first, kKeysPerBlock);
    const LockSet held = LockSet::OfKeys(keys + first, n, group_locks_);
    const ExclusiveLocks locks(&impl_->locks, held);
    const int64_t before = *inserted;
    if (impl_->mostly_new.load(std::memory_order_relaxed)) {
      ViewShards(held);
      InsertAll(keys + first, first, n, on_miss);
    } else {
      FindAll(keys, first, n, held, on_miss);
    }
    PreserveAndWrite(keys, first, n, write);
    impl_->mostly_new.store(*inserted - before > n / 2, std::memory_order_relaxed);
  }
}

template <typename OnMiss>
void RowVisitor::InsertAll(const int64_t* keys, int64_t first, int64_t n, const OnMiss& on_miss) {
  // An insertion may move what was found for a later key: each step searches anew.
  const auto segment_of = [&](uint64_t hash) {
    return impl_->ShardOfHash(hash)->index->SegmentOf(hash);
  };
  for (int64_t i = -kIndexAhead; i < n; ++i) {
    if (i + kIndexAhead < n) {
      const uint64_t hash = HashKey(keys[i + kIndexAhead]);
      PrefetchLine(segment_of(hash).Home(hash));
    }
    const int64_t coming = i + kNextBucketAhead;
    if (coming >= 0 && coming < n) {
      const uint64_t hash = HashKey(keys[coming]);
      const Segment segment = segment_of(hash);
      const Bucket* home = segment.Home(hash);
      PrefetchLine(home->occupied == Bucket::kFull ? segment.After(home) : home);
    }
    if (i < 0) continue;
    const uint64_t hash = HashKey(keys[i]);
    places_[i] = on_miss(first + i, impl_->ShardOfHash(hash), hash);
  }
}

template <typename OnMiss, typename Write>
void RowVisitor::VisitHeld(const int64_t* keys, int64_t count, const OnMiss& on_miss,
                           const Write& write) {
  const LockSet held = LockSet::OfKeys(keys, count, group_locks_);
  for (int64_t first = 0; first < count; first += kKeysPerBlock) {
    const int64_t n = std::min(count - first, kKeysPerBlock);
    FindAll(keys, first, n, held, on_miss);
    PreserveAndWrite(keys, first, n, write);
  }
}

template <typename OnMiss>
void RowVisitor::FindAll(const int64_t* keys, int64_t first, int64_t n, const LockSet& held,
                         const OnMiss& on_miss) {
  Locate(keys + first, n, held);
  for (int64_t i = 0; i < n; ++i) {
    // Where the next ones will be inserted: the first-level cache has lost much of the block.
    const int64_t coming = i + 8;
    if (coming < n && places_[coming].body == nullptr) {
      const uint64_t hash = HashKey(keys[first + coming]);
      PrefetchLine(impl_->ShardOfHash(hash)->index->SegmentOf(hash).Home(hash));
    }
    if (places_[i].body != nullptr) continue;
    const uint64_t hash = HashKey(keys[first + i]);
    places_[i] = on_miss(first + i, impl_->ShardOfHash(hash), hash);
  }
}

template <typename Write>
void RowVisitor::PreserveAndWrite(const int64_t* keys, int64_t first, int64_t n,
                                  const Write& write) {
  if (in_snapshot_) Preserve(keys + first, n);
  write(Block{first, n, places_});
}

// The batch's row of key i of the group, for a loop that reads these rows: where the group takes
// but some of the batch, the processor does not see a sequence to fetch ahead of by itself.
inline void PrefetchInput(const Group& group, int64_t i, const uint8_t* rows, size_t row_bytes) {
  if (group.positions == nullptr) return;
  PrefetchLines(rows + group.positions[i] * row_bytes, row_bytes);
}

// The lines of a row.
inline void PrefetchPlace(const Place& place, size_t body_bytes) {
  PrefetchLines(place.body, body_bytes);
  PrefetchLine(place.meta);
}

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_ROW_VISIT_H_
