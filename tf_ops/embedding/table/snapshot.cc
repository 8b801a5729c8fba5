#include "tf_ops/embedding/table/snapshot.h"

#include <algorithm>
#include <chrono>
#include <shared_mutex>
#include <thread>
#include <utility>
#include <vector>

#include "tf_ops/embedding/table/prefetch.h"
#include "tf_ops/embedding/table/table.h"
#include "tf_ops/embedding/table/table_impl.h"

namespace taco {
namespace embedding {
namespace {

constexpr size_t kBatchBytes = size_t{1} << 20;

}  // namespace

struct Snapshot::State {
  State(Table::Impl* impl_in, size_t stride_in)
      : impl(impl_in), stride(stride_in), side(kSideBufferBytes) {}

  ~State() {
    side.Abandon();
    for (int s = 0; s < kNumShards; ++s) {
      std::lock_guard<RwLock> lock(impl->locks.Of(s));
      Release(&impl->shards[s]);
    }
    impl->ReleaseStructure();
  }

  static void Release(Shard* shard) {
    shard->side = nullptr;
    shard->scan_end = 0;
    std::vector<uint64_t>().swap(shard->done);
  }

  // Marks the moment. Structure slot and gate are held.
  int64_t Mark() {
    int64_t rows = 0;
    for (int s = 0; s < kNumShards; ++s) {
      std::lock_guard<RwLock> lock(impl->locks.Of(s));
      Shard& shard = impl->shards[s];
      shard.side = &side;
      shard.scan_next = 0;
      shard.scan_end = shard.rows->end();
      shard.done.assign((size_t{shard.scan_end} + 63) / 64, 0);
      rows += shard.index->size();
    }
    return rows;
  }

  // Reads on in shard `current`, whose shared lock is held. A full batch leaves the rest of its
  // segment to the next call, which passes over what is done.
  void Scan(Shard* shard) {
    const size_t most = std::max<size_t>(1, kBatchBytes / stride);
    do {
      found.clear();
      uint64_t next = 0;
      shard->index->At(shard->scan_next, &next).ForEach([&](int64_t key, RowHandle handle) {
        if (!shard->Unscanned(handle)) return;
        PrefetchLine(shard->rows->Body(handle));
        PrefetchLine(shard->rows->Meta(handle));
        found.push_back({key, handle});
      });
      for (const auto& [key, handle] : found) {
        if (batch.size() >= most * stride) return;
        AppendRow(shard->Header(key, handle), shard->rows->Body(handle), shard->rows->body_bytes(),
                  &batch);
        shard->MarkDone(handle);
      }
      shard->scan_next = next;
    } while (shard->scan_next != 0 && batch.size() < most * stride);
    if (shard->scan_next == 0) ++current;
  }

  Table::Impl* const impl;
  const size_t stride;
  SideBuffer side;
  int current = 0;
  std::vector<uint8_t> batch;
  std::vector<std::pair<int64_t, RowHandle>> found;
};

Snapshot::Snapshot(std::unique_ptr<State> state, const RowLayout& layout,
                   const OptimizerSpec& optimizer, int64_t rows)
    : state_(std::move(state)), layout_(layout), optimizer_(optimizer), rows_(rows) {}

Snapshot::~Snapshot() = default;

bool Snapshot::Next(RowBatch* batch) {
  State& state = *state_;
  state.batch.clear();
  while (state.batch.empty()) {
    if (!state.side.empty()) {
      state.side.Take(&state.batch);
      break;
    }
    if (state.current == kNumShards) return false;
    Shard& shard = state.impl->shards[state.current];
    std::shared_lock<RwLock> lock(state.impl->locks.Of(state.current), std::try_to_lock);
    if (!lock.owns_lock()) {
      // A writer is in this shard. It may be waiting for room in the side buffer, so this thread
      // must not wait for the writer.
      std::this_thread::sleep_for(std::chrono::microseconds(20));
      continue;
    }
    state.Scan(&shard);
  }
  batch->rows = state.batch.data();
  batch->count = static_cast<int64_t>(state.batch.size() / state.stride);
  return true;
}

std::vector<std::unique_ptr<Snapshot>> Table::BeginSnapshots(const std::vector<Table*>& tables) {
  // Taken in order of address, so that two such calls cannot wait for each other.
  std::vector<Table*> ordered = tables;
  std::sort(ordered.begin(), ordered.end());
  ordered.erase(std::unique(ordered.begin(), ordered.end()), ordered.end());
  for (Table* table : ordered) table->impl_->AcquireStructure();
  for (Table* table : ordered) table->impl_->gate.lock();

  std::vector<std::unique_ptr<Snapshot>> snapshots(tables.size());
  for (size_t i = 0; i < tables.size(); ++i) {
    Impl* impl = tables[i]->impl_.get();
    if (std::find(tables.begin(), tables.begin() + i, tables[i]) != tables.begin() + i) continue;
    auto state = std::make_unique<Snapshot::State>(impl, impl->layout.stride);
    const int64_t rows = state->Mark();
    snapshots[i].reset(new Snapshot(std::move(state), impl->layout, impl->optimizer, rows));
  }
  for (Table* table : ordered) table->impl_->gate.unlock();
  return snapshots;
}

std::unique_ptr<Snapshot> Table::BeginSnapshot() { return std::move(BeginSnapshots({this})[0]); }

}  // namespace embedding
}  // namespace taco
