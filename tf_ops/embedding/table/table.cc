#include "tf_ops/embedding/table/table.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "tf_ops/embedding/table/table_impl.h"

namespace taco {
namespace embedding {
namespace {

// FNV-1a: stable across runs and machines, as files and initial values depend on it.
uint64_t HashName(const std::string& name) {
  uint64_t hash = 0xCBF29CE484222325ull;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3ull;
  return hash;
}

int64_t ShardRows(int64_t rows) {
  // The widest shard holds 1 / (64 ln 2 / 2) of the keys; rounding up does no harm.
  return rows / kNumShards + (rows > 0 ? 1 : 0);
}

// The rows for which room may be reserved: their index takes half of the machine's memory.
int64_t MaxReservedRows() {
  constexpr int64_t kIndexBytesPerRow = 9;  // 4 KiB for each 480 rows, rounded up
  return int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE) / 2 / kIndexBytesPerRow;
}

}  // namespace

void Shard::Compact() {
  rows->Compact([this](RowHandle from, RowHandle to) {
    index->Replace(HashKey(RowLayout::Header(rows->Row(to))->key), from, to);
  });
  ++shrinks;
  // Rebuilt rather than merged segment by segment: simpler, and compaction is rare. If there is no
  // memory for it the larger index stays.
  if (index->capacity() <= 2 * index->size() + Segment::kSlots) return;
  ReplaceIndex(index->Rebuild());
}

Table::Impl::Impl(const TableOptions& options_in)
    : options(options_in),
      table_id(HashName(options_in.name)),
      optimizer(options_in.optimizer),
      layout(options_in.dim, options_in.value_type, options_in.optimizer.num_slots(),
             options_in.optimizer.num_scalars()),
      segment_arena(sizeof(Segment)),
      row_arena(MakeRowArena(layout)) {}

std::unique_ptr<SlabArena> Table::Impl::MakeRowArena(const RowLayout& layout) {
  return std::make_unique<SlabArena>(layout.stride << RowStore::RowsPerSlabLog2(layout.stride));
}

Status Table::Impl::InitShards(int64_t rows) {
  for (Shard& shard : shards) {
    shard.rows = std::make_unique<RowStore>(layout.stride, row_arena.get());
    shard.index = std::make_unique<Index>(&segment_arena, shard.rows.get());
    if (!shard.index->Reset(ShardRows(rows))) return OutOfMemory();
  }
  return OkStatus();
}

Status Table::Impl::OutOfMemory() const {
  return ResourceExhausted("embedding table '" + options.name +
                           "' could not get memory from the system. Rows inserted so far are kept. "
                           "Remove rows, lower dim, or run on a machine with more memory.");
}

void Table::Impl::AcquireStructure() {
  std::unique_lock<std::mutex> lock(structure_mu);
  structure_free.wait(lock, [this] { return !structure_taken; });
  structure_taken = true;
}

void Table::Impl::ReleaseStructure() {
  std::lock_guard<std::mutex> lock(structure_mu);
  structure_taken = false;
  structure_free.notify_all();
}

StructuralChange::StructuralChange(Table::Impl* impl) : impl_(impl) {
  impl_->AcquireStructure();
  impl_->gate.lock();
}

StructuralChange::~StructuralChange() {
  impl_->gate.unlock();
  impl_->ReleaseStructure();
}

Table::Table(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Table::~Table() = default;

Status Table::Create(const TableOptions& options, std::unique_ptr<Table>* table) {
  if (options.dim < 1 || options.dim > kMaxDim) {
    return InvalidArgument("embedding table '" + options.name + "': dim is " +
                           std::to_string(options.dim) + "; it must be between 1 and " +
                           std::to_string(kMaxDim) + ".");
  }
  if (options.init_size < 0) {
    return InvalidArgument("embedding table '" + options.name + "': init_size is " +
                           std::to_string(options.init_size) + "; it must not be negative.");
  }
  if (options.init_size > MaxReservedRows()) {
    return InvalidArgument("embedding table '" + options.name + "': init_size is " +
                           std::to_string(options.init_size) +
                           "; the index alone of so many rows would take more than half of this "
                           "machine's memory. It is a hint and need not be exact: leave it out.");
  }
  TACO_EMBEDDING_RETURN_IF_ERROR(ValidateInitializer(options.initializer));
  auto impl = std::make_unique<Impl>(options);
  TACO_EMBEDDING_RETURN_IF_ERROR(impl->InitShards(options.init_size));
  table->reset(new Table(std::move(impl)));
  return OkStatus();
}

const TableOptions& Table::options() const { return impl_->options; }

OptimizerSpec Table::optimizer() const {
  std::shared_lock<RwLock> gate(impl_->gate);
  return impl_->optimizer;
}

RowLayout Table::layout() const {
  std::shared_lock<RwLock> gate(impl_->gate);
  return impl_->layout;
}

int64_t Table::size() const {
  int64_t rows = 0;
  for (const Shard& shard : impl_->shards) {
    std::shared_lock<RwLock> lock(shard.lock);
    rows += shard.index->size();
  }
  return rows;
}

TableStats Table::Stats() const {
  // Probe lengths are taken from a sample: walking every row of a big table would stop training.
  constexpr RowHandle kSamplePerShard = 256;
  TableStats stats;
  const RowLayout row = layout();
  int64_t capacity = 0;
  int64_t sampled = 0;
  int64_t probes_in_all = 0;
  for (const Shard& shard : impl_->shards) {
    std::shared_lock<RwLock> lock(shard.lock);
    stats.rows += shard.index->size();
    capacity += shard.index->capacity();
    stats.index_bytes += shard.index->segments() * sizeof(Segment) + shard.index->directory_bytes();
    stats.free_rows += shard.rows->free_rows();
    stats.growths += shard.past_growths + shard.index->growths();
    stats.shrinks += shard.shrinks;
    stats.inserts += shard.inserts;
    stats.erases += shard.erases;
    const RowHandle stride = std::max<RowHandle>(1, shard.rows->end() / kSamplePerShard);
    for (RowHandle handle = 0; handle < shard.rows->end(); handle += stride) {
      const uint8_t* data = shard.rows->Row(handle);
      if (RowStore::IsFree(data)) continue;
      const int64_t key = RowLayout::Header(data)->key;
      int probes = 0;
      shard.index->Find(HashKey(key), key, &probes);
      ++sampled;
      probes_in_all += probes;
      stats.max_probe = std::max<int64_t>(stats.max_probe, probes);
    }
    stats.bytes += shard.rows->slabs() * (row.stride << RowStore::RowsPerSlabLog2(row.stride));
  }
  stats.bytes += stats.index_bytes;
  stats.payload_bytes =
      stats.rows *
      static_cast<int64_t>(sizeof(int64_t) + row.vector_bytes +
                           4 * (static_cast<size_t>(row.num_slots) * row.dim + row.num_scalars));
  stats.load = capacity == 0 ? 0.0 : static_cast<double>(stats.rows) / capacity;
  stats.mean_probe = sampled == 0 ? 0.0 : static_cast<double>(probes_in_all) / sampled;
  stats.lookups = impl_->lookups.load(std::memory_order_relaxed);
  stats.hits = impl_->hits.load(std::memory_order_relaxed);
  return stats;
}

Status Table::Clear() {
  StructuralChange change(impl_.get());
  for (Shard& shard : impl_->shards) {
    std::lock_guard<RwLock> lock(shard.lock);
    shard.erases += shard.index->size();
    auto fresh = std::make_unique<Index>(&impl_->segment_arena, shard.rows.get());
    if (!fresh->Reset(0)) return impl_->OutOfMemory();
    shard.ReplaceIndex(std::move(fresh));
    shard.rows->FreeAll();
  }
  return OkStatus();
}

Status Table::Shrink(Executor* executor) {
  StructuralChange change(impl_.get());
  executor->Run(kNumShards, [this](int64_t s) {
    Shard& shard = impl_->shards[s];
    std::lock_guard<RwLock> lock(shard.lock);
    shard.Compact();
  });
  return OkStatus();
}

void Table::Reserve(int64_t rows) {
  if (rows > MaxReservedRows()) return;  // such as a damaged file may ask for
  StructuralChange change(impl_.get());
  for (Shard& shard : impl_->shards) {
    std::lock_guard<RwLock> lock(shard.lock);
    if (shard.index->capacity() >= 2 * ShardRows(rows)) continue;
    // If there is no memory, growth will ask again, piece by piece.
    shard.ReplaceIndex(shard.index->Rebuild(ShardRows(rows)));
  }
}

Status Table::Impl::Relayout(const OptimizerSpec& spec) {
  const RowLayout fresh(options.dim, options.value_type, spec.num_slots(), spec.num_scalars());
  std::unique_ptr<SlabArena> arena = MakeRowArena(fresh);
  // All memory first, shard by shard only where it cannot fail half way through a shard: a shard
  // that is already laid out anew could not be taken back.
  std::array<std::unique_ptr<RowStore>, kNumShards> stores;
  for (int s = 0; s < kNumShards; ++s) {
    stores[s] = std::make_unique<RowStore>(fresh.stride, arena.get());
    for (RowHandle i = shards[s].rows->live_rows(); i > 0; --i) {
      if (stores[s]->Allocate() == kNoRow) return OutOfMemory();
    }
  }
  for (int s = 0; s < kNumShards; ++s) {
    Shard& shard = shards[s];
    std::lock_guard<RwLock> lock(shard.lock);
    shard.Compact();
    for (RowHandle handle = 0; handle < shard.rows->end(); ++handle) {
      uint8_t* row = stores[s]->Row(handle);
      std::memcpy(row, shard.rows->Row(handle), sizeof(RowHeader) + fresh.vector_bytes);
      InitializeSlots(spec, fresh.dim, fresh.Slots(row));
    }
    shard.index->MoveTo(stores[s].get());
    shard.rows = std::move(stores[s]);
  }
  row_arena = std::move(arena);
  layout = fresh;
  optimizer = spec;
  return OkStatus();
}

Status Table::SetOptimizer(const OptimizerSpec& spec, bool drop_slots) {
  StructuralChange change(impl_.get());
  const OptimizerSpec& present = impl_->optimizer;
  if (present.SameSlots(spec)) return OkStatus();
  const bool has_slots = present.num_slots() + present.num_scalars() > 0;
  const bool wants_slots = spec.num_slots() + spec.num_scalars() > 0;
  if (has_slots && !drop_slots) {
    if (!wants_slots) return OkStatus();  // plain SGD works beside any slots
    return FailedPrecondition("embedding table '" + impl_->options.name + "' holds the slots of " +
                              present.Name() + " and cannot be trained with " + spec.Name() +
                              " at the same time. Go on with " + present.Name() +
                              ", or call set_optimizer(..., drop_slots=True) on the variable to "
                              "give its slots up.");
  }
  if (!has_slots && !wants_slots) {
    impl_->optimizer = spec;
    return OkStatus();
  }
  return impl_->Relayout(spec);
}

}  // namespace embedding
}  // namespace taco
