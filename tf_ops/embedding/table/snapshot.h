// Snapshot: all rows of a table as they were at one moment, while training goes on.
//
//   std::unique_ptr<Snapshot> snapshot = table->BeginSnapshot();   // the moment
//   RowBatch batch;
//   while (snapshot->Next(&batch)) write(batch.rows, batch.count);
//
// Begin waits for mutating calls under way and holds back new ones for microseconds. Next then
// walks the index, a few thousand rows under one shard's lock at a time. A writer about to change
// a row that the walk has not reached first copies it into a side buffer, which Next hands out
// too. So memory is bounded: one batch plus the side buffer (kSideBufferBytes). A writer that
// finds the buffer full waits for Next to drain it: training slows to the speed of the reader, and
// is never wrong. Destroying the snapshot at any time releases all waiters.
//
// One consumer thread. The thread that consumes must not mutate the same table meanwhile.
#ifndef TF_OPS_EMBEDDING_TABLE_SNAPSHOT_H_
#define TF_OPS_EMBEDDING_TABLE_SNAPSHOT_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "tf_ops/embedding/table/optimizer.h"
#include "tf_ops/embedding/table/row_layout.h"

namespace taco {
namespace embedding {

class Table;

// Rows packed one behind the other, `layout().stride` bytes each. Valid until the next Next.
struct RowBatch {
  const uint8_t* rows = nullptr;
  int64_t count = 0;
};

class Snapshot {
 public:
  static constexpr size_t kSideBufferBytes = size_t{64} << 20;

  ~Snapshot();
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  const RowLayout& layout() const { return layout_; }
  const OptimizerSpec& optimizer() const { return optimizer_; }
  int64_t rows() const { return rows_; }  // how many Next will hand out in all

  // The next rows, in no particular order, each row of the moment once. False at the end.
  bool Next(RowBatch* batch);

 private:
  friend class Table;
  struct State;
  Snapshot(std::unique_ptr<State> state, const RowLayout& layout, const OptimizerSpec& optimizer,
           int64_t rows);

  std::unique_ptr<State> state_;
  RowLayout layout_;
  OptimizerSpec optimizer_;
  int64_t rows_;
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_SNAPSHOT_H_
