// Shard: one of a table's 64 parts, and what a running snapshot needs to know of it.
#ifndef TF_OPS_EMBEDDING_TABLE_SHARD_H_
#define TF_OPS_EMBEDDING_TABLE_SHARD_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "tf_ops/embedding/table/index.h"
#include "tf_ops/embedding/table/row_store.h"
#include "tf_ops/embedding/table/side_buffer.h"

namespace taco {
namespace embedding {

// Neighbours that share a lock: a call that visits its keys in their own order holds those of all
// its shards at once, and few are taken sooner than many.
inline constexpr int kShardsPerLock = 2;
inline constexpr int kNumLocks = kNumShards / kShardsPerLock;

// Guarded by its lock (shard_locks.h), but for what says otherwise.
struct alignas(64) Shard {
  std::unique_ptr<RowStore> rows;
  std::unique_ptr<Index> index;
  int64_t inserts = 0;
  int64_t erases = 0;
  int64_t shrinks = 0;
  int64_t past_growths = 0;  // of indexes that were replaced

  // While a snapshot still has to read this shard: the rows with handles below scan_end, but for
  // those marked in `done`, are rows of the snapshot that nobody has handed over yet. The scanner
  // walks the index, `scan_next` being a position in it, and marks what it hands over under the
  // shared lock; writers look and mark under the exclusive one.
  SideBuffer* side = nullptr;  // null: no snapshot
  uint64_t scan_next = 0;
  RowHandle scan_end = 0;
  std::vector<uint64_t> done;

  bool Unscanned(RowHandle handle) const {
    return handle < scan_end && (done[handle >> 6] & (uint64_t{1} << (handle & 63))) == 0;
  }
  void MarkDone(RowHandle handle) { done[handle >> 6] |= uint64_t{1} << (handle & 63); }

  // The header that the row has outside the table.
  RowHeader Header(int64_t key, RowHandle handle) const {
    const RowMeta* meta = rows->Meta(handle);
    return {key, meta->freq, meta->step};
  }

  // Before a row changes or goes: hands its present state to the snapshot that still needs it.
  void Preserve(int64_t key, RowHandle handle) {
    if (side == nullptr || !Unscanned(handle)) return;
    MarkDone(handle);
    side->Push(Header(key, handle), rows->Body(handle), rows->body_bytes());
  }

  // The key's row. Where it has none, and *fresh: a new one, entered in the index, its counters at
  // zero, its body yet to be written. kNoRow: no memory.
  RowHandle FindOrInsert(uint64_t hash, int64_t key, bool* fresh) {
    *fresh = false;
    return index->FindOrInsert(hash, key, [&] {
      const RowHandle handle = rows->Allocate();
      if (handle == kNoRow) return kNoRow;
      *fresh = true;
      *rows->Meta(handle) = {0, 0};
      // Born after the snapshot's moment, in the place of a row that it has already got.
      if (side != nullptr && Unscanned(handle)) MarkDone(handle);
      ++inserts;
      return handle;
    });
  }

  void Erase(uint64_t hash, int64_t key, RowHandle handle) {
    Preserve(key, handle);
    index->Erase(hash, key);
    rows->Free(handle);
    ++erases;
  }

  // Takes `fresh` for the index; keeps the present one if it is null.
  void ReplaceIndex(std::unique_ptr<Index> fresh) {
    if (fresh == nullptr) return;
    past_growths += index->growths();
    index = std::move(fresh);
  }

  // Closes the gaps that erased rows left, and fits the index to what is live.
  void Compact();
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_SHARD_H_
