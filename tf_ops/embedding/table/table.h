// Table: a dynamic hash table of embedding rows. START HERE.
//
//   key ---hash---> shard (64, of unequal width, so that they never grow all at once)
//                     |-- index: extendible hashing over small segments of 64-byte buckets,
//                     |          five keys and five row handles a bucket  (index.h)
//                     |-- rows:  slabs of 2^k rows, each vector + slots together
//                     |          (row_layout.h, row_store.h)
//                     `-- a reader-writer lock
//
// Memory behind both comes from SlabArenas (slab_arena.h): big anonymous mappings, transparent
// huge pages once they pay. Growth takes one segment at a time and moves no row.
//
// Threads. Every function may be called from any thread at any time, but where it says otherwise.
// What is promised:
//   * No torn row: a lookup, a snapshot and an export see each row as it was between two updates.
//   * No lost update: within one call the updates of one key are combined first, and calls that
//     touch the same key apply one after the other.
//   * A batch is not one transaction: another thread may see some of its rows updated and others
//     not yet. A snapshot, though, never falls inside a mutating call: it holds all of each call
//     that came before it and nothing of those after. A step of LAMB is one transaction, as each
//     of its rows depends on all; a large lookup, which reads in parts, may still straddle it.
//
// Keys: all 2^64 values are legal; none is reserved. Failure: a Status; the table is unharmed.
#ifndef TF_OPS_EMBEDDING_TABLE_TABLE_H_
#define TF_OPS_EMBEDDING_TABLE_TABLE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tf_ops/embedding/table/executor.h"
#include "tf_ops/embedding/table/initializer.h"
#include "tf_ops/embedding/table/optimizer.h"
#include "tf_ops/embedding/table/row_layout.h"
#include "tf_ops/embedding/table/status.h"

namespace taco {
namespace embedding {

class Snapshot;

struct TableOptions {
  std::string name;  // part of what the initialiser depends on, and of error messages
  int dim = 0;       // 1 to 4096
  ValueType value_type = ValueType::kFloat32;
  InitializerSpec initializer;
  OptimizerSpec optimizer;  // kNone: taken from the first Apply, SetOptimizer or import
  int64_t init_size = 0;    // rows expected: sizes the index, nothing more
};

struct TableStats {
  int64_t rows = 0;
  int64_t bytes = 0;          // held from the system: index, rows, free space in slabs
  int64_t payload_bytes = 0;  // rows * (key + vector + slots)
  int64_t index_bytes = 0;
  int64_t free_rows = 0;    // erased rows whose place waits for reuse
  double load = 0.0;        // live entries over entries the index has room for
  double mean_probe = 0.0;  // buckets read per successful lookup
  int64_t max_probe = 0;
  int64_t growths = 0;    // segments split so far
  int64_t shrinks = 0;    // shards compacted so far
  int64_t lookups = 0;    // keys that Lookup was asked for since the table was created
  int64_t hits = 0;       // of those, keys that were there
  double hit_rate = 0.0;  // hits over lookups; 0 before the first
  int64_t inserts = 0;
  int64_t erases = 0;
};

class Table {
 public:
  static constexpr int kMaxDim = 4096;

  // InvalidArgument: dim, initialiser or init_size out of range.
  static Status Create(const TableOptions& options, std::unique_ptr<Table>* table);
  ~Table();
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  const TableOptions& options() const;  // as created
  OptimizerSpec optimizer() const;      // now in force
  RowLayout layout() const;             // now in force
  int64_t size() const;                 // rows; exact when no mutation is under way
  TableStats Stats() const;             // probe lengths from a sample; a shard at a time

  // What a lookup writes for a key that is absent.
  struct Miss {
    enum class Fill { kInitializer, kOneRow, kRowEach };
    Fill fill = Fill::kInitializer;
    const void* rows = nullptr;  // kOneRow: (dim); kRowEach: (n, dim); in value_type
  };

  // values[i] = row of keys[i], or what `miss` says. Writes nothing to the table.
  //   keys   (n)
  //   values (n, dim) in value_type
  //   exists (n) or null
  void Lookup(const int64_t* keys, int64_t n, const Miss& miss, void* values, bool* exists,
              Executor* executor) const;

  // Sets the vectors. Absent keys are inserted (slots at their first values); present ones keep
  // their slots. Of duplicate keys the last one counts.
  //   values (n, dim) in value_type
  Status Upsert(const int64_t* keys, int64_t n, const void* values, Executor* executor);

  // For each i: exists[i] and the key is present: its vector += values_or_deltas[i]. Not exists[i]
  // and absent: inserted with values_or_deltas[i]. Otherwise the table has changed since the
  // caller looked: left alone. (TFRA's accum.) Duplicates are taken in order.
  Status Accumulate(const int64_t* keys, int64_t n, const void* values_or_deltas,
                    const bool* exists, Executor* executor);

  // Absent keys are ignored. *erased (may be null): how many rows went.
  Status Erase(const int64_t* keys, int64_t n, Executor* executor, int64_t* erased = nullptr);

  // Erases every row and gives the memory back. Waits for a running snapshot to end.
  Status Clear();

  // Compacts every shard and gives what is free back to the system. Waits as Clear does.
  // (Erase does this by itself for a shard of which less than half is in use.)
  Status Shrink(Executor* executor);

  // One optimizer step on the rows of `keys`; absent rows are first inserted at their initial
  // value. Gradients of duplicate keys are summed in float32, in order of position. Others wait for
  // a part of the batch at most, but with LAMB for all of it.
  //   grads (n, dim) in grad_type
  // FailedPrecondition when the rows hold the slots of another optimizer.
  Status Apply(const int64_t* keys, int64_t n, ValueType grad_type, const void* grads,
               const OptimizerSpec& spec, const OptimizerStep& step, Executor* executor);

  // Lays the rows out for `spec`. Rows present keep their vectors and get fresh slots. Nothing to
  // do if the slots already fit. FailedPrecondition if the rows hold another optimizer's slots and
  // not `drop_slots`. Rewrites every row; waits as Clear does.
  Status SetOptimizer(const OptimizerSpec& spec, bool drop_slots, Executor* executor);

  // Makes room in the index for `rows` rows; for more than the machine could hold, does nothing.
  void Reserve(int64_t rows);

  // The point-in-time view of the table at this moment (see snapshot.h). One at a time: a second
  // call waits until the first snapshot is gone.
  std::unique_ptr<Snapshot> BeginSnapshot();

  // The same moment for several tables: no mutating call on any of them falls in between.
  static std::vector<std::unique_ptr<Snapshot>> BeginSnapshots(const std::vector<Table*>& tables);

  // Inserts or replaces whole rows: vector, slots, freq and step.
  //   rows   n rows laid out as `layout` and `spec` say. If the slots differ from the table's: an
  //          empty table without slots adopts `spec`; else with `vectors_only` slots are set
  //          fresh; else FailedPrecondition. A different dim or value type: InvalidArgument.
  Status Import(const RowLayout& layout, const OptimizerSpec& spec, const uint8_t* rows, int64_t n,
                bool vectors_only, Executor* executor);

  class Impl;  // table_impl.h

 private:
  friend class Snapshot;
  explicit Table(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_TABLE_H_
