#include "tf_ops/embedding/table/table.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
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

// What shard s gets of `rows` rows.
int64_t ShardRows(int64_t rows, int s) {
  return static_cast<int64_t>(
      std::ceil(static_cast<double>(rows) * GlobalShardMap().width[s] / (1 << kShardBits)));
}

// How closely the index is packed. A narrow row allows it 17 bytes if memory is to stay within a
// quarter of the payload; beside a wider one a looser index, which reads fewer buckets, is nothing.
int MaxDisplacement(const RowLayout& layout) {
  return sizeof(int64_t) + layout.body_bytes < 88 ? 20 : 6;
}

// The rows for which room may be reserved: their index takes half of the machine's memory.
int64_t MaxReservedRows() {
  constexpr int64_t kIndexBytesPerRow = 27;  // 12.8 a slot, of which 0.47 to 0.7 are taken
  return int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE) / 2 / kIndexBytesPerRow;
}

}  // namespace

void Shard::Compact() {
  std::vector<RowHandle> gaps = rows->Gaps();
  const RowHandle live = rows->live_rows();
  index->ForEachSegment([&](Segment segment) {
    segment.ForEach([&](int64_t, RowHandle& handle) {
      if (handle < live) return;
      rows->Move(handle, gaps.back());
      handle = gaps.back();
      gaps.pop_back();
    });
  });
  rows->Truncate();
  ++shrinks;
  // Rebuilt rather than merged segment by segment: simpler, and compaction is rare. If there is no
  // memory for it the larger index stays.
  if (index->capacity() <= 2 * index->size() + Segment::kNarrow * Bucket::kSlots) return;
  ReplaceIndex(index->Rebuild());
}

Table::Impl::Impl(const TableOptions& options_in)
    : options(options_in),
      table_id(HashName(options_in.name)),
      optimizer(options_in.optimizer),
      layout(options_in.dim, options_in.value_type, options_in.optimizer.num_slots(),
             options_in.optimizer.num_scalars()),
      row_arena(MakeRowArena(layout)) {}

std::unique_ptr<SlabArena> Table::Impl::MakeRowArena(const RowLayout& layout) {
  return std::make_unique<SlabArena>(&memory, RowStore::SlabBytes(layout.body_bytes));
}

Status Table::Impl::InitShards(int64_t rows) {
  for (int s = 0; s < kNumShards; ++s) {
    shards[s].rows = std::make_unique<RowStore>(layout.body_bytes, row_arena.get());
    shards[s].index = std::make_unique<Index>(&segment_arenas, MaxDisplacement(layout));
    if (!shards[s].index->Reset(ShardRows(rows, s))) return OutOfMemory();
  }
  return OkStatus();
}

void Table::Impl::Mutate(const int64_t* keys, int64_t n, Executor* executor,
                         const GroupWork& work) {
  if (n <= 0) return;
  InlineExecutor inline_executor;
  if (n <= kInlineBatch) executor = &inline_executor;
  std::unique_ptr<BatchPlan> plan;
  {
    std::lock_guard<std::mutex> lock(pool_mu);
    if (!plan_pool.empty()) {
      plan = std::move(plan_pool.back());
      plan_pool.pop_back();
    }
  }
  if (plan == nullptr) plan = std::make_unique<BatchPlan>();
  const ShardGroups& groups = ShardGroups::For(executor->parallelism());
  plan->Make(keys, n, groups, executor);
  executor->Run(groups.count(), [&](int64_t g) {
    const Group group = plan->group(static_cast<int>(g));
    if (group.count > 0) work(group);
  });
  std::lock_guard<std::mutex> lock(pool_mu);
  plan_pool.push_back(std::move(plan));
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
  for (int s = 0; s < kNumShards; ++s) {
    std::shared_lock<RwLock> lock(impl_->locks.Of(s));
    rows += impl_->shards[s].index->size();
  }
  return rows;
}

namespace {

// Buckets that a search for a present key reads. From a few segments of each shard: reading every
// segment of a big table would stop training.
struct ProbeSample {
  static constexpr size_t kSegmentsPerShard = 2;

  int64_t keys = 0;
  int64_t buckets = 0;
  int64_t longest = 0;

  void Add(const Index& index) {
    const size_t stride = std::max<size_t>(1, index.segments() / kSegmentsPerShard);
    size_t number = 0;
    index.ForEachSegment([&](Segment segment) {
      if (number++ % stride != 0) return;
      segment.ForEach([&](int64_t key, const RowHandle& handle) {
        // The handle's address tells the bucket.
        const auto* at = reinterpret_cast<const uint8_t*>(&handle);
        const auto* start = reinterpret_cast<const uint8_t*>(segment.buckets());
        const int64_t bucket = (at - start) / static_cast<int64_t>(sizeof(Bucket));
        const int64_t home = segment.Home(HashKey(key)) - segment.buckets();
        const int64_t read = (bucket - home + segment.size()) % segment.size() + 1;
        ++keys;
        buckets += read;
        longest = std::max(longest, read);
      });
    });
  }
  double mean() const { return keys == 0 ? 0.0 : static_cast<double>(buckets) / keys; }
};

}  // namespace

TableStats Table::Stats() const {
  TableStats stats;
  const RowLayout row = layout();
  int64_t capacity = 0;
  ProbeSample probes;
  for (int s = 0; s < kNumShards; ++s) {
    std::shared_lock<RwLock> lock(impl_->locks.Of(s));
    const Shard& shard = impl_->shards[s];
    stats.rows += shard.index->size();
    capacity += shard.index->capacity();
    stats.index_bytes += shard.index->bytes();
    stats.free_rows += shard.rows->free_rows();
    stats.growths += shard.past_growths + shard.index->growths();
    stats.shrinks += shard.shrinks;
    stats.inserts += shard.inserts;
    stats.erases += shard.erases;
    probes.Add(*shard.index);
    stats.bytes += shard.rows->bytes();
  }
  stats.bytes += stats.index_bytes;
  stats.payload_bytes =
      stats.rows *
      static_cast<int64_t>(sizeof(int64_t) + row.vector_bytes +
                           4 * (static_cast<size_t>(row.num_slots) * row.dim + row.num_scalars));
  stats.load = capacity == 0 ? 0.0 : static_cast<double>(stats.rows) / capacity;
  stats.mean_probe = probes.mean();
  stats.max_probe = probes.longest;
  stats.hits = impl_->hits.load(std::memory_order_acquire);
  stats.lookups = impl_->lookups.load(std::memory_order_relaxed);
  stats.hit_rate = stats.lookups == 0 ? 0.0 : static_cast<double>(stats.hits) / stats.lookups;
  return stats;
}

Status Table::Clear() {
  StructuralChange change(impl_.get());
  for (int s = 0; s < kNumShards; ++s) {
    std::lock_guard<RwLock> lock(impl_->locks.Of(s));
    Shard& shard = impl_->shards[s];
    shard.erases += shard.index->size();
    auto fresh = std::make_unique<Index>(&impl_->segment_arenas, MaxDisplacement(impl_->layout));
    if (!fresh->Reset(0)) return impl_->OutOfMemory();
    shard.ReplaceIndex(std::move(fresh));
    shard.rows->FreeAll();
  }
  return OkStatus();
}

Status Table::Shrink(Executor* executor) {
  StructuralChange change(impl_.get());
  executor->Run(kNumShards, [this](int64_t s) {
    std::lock_guard<RwLock> lock(impl_->locks.Of(static_cast<int>(s)));
    impl_->shards[s].Compact();
  });
  return OkStatus();
}

void Table::Reserve(int64_t rows) {
  if (rows > MaxReservedRows()) return;  // such as a damaged file may ask for
  StructuralChange change(impl_.get());
  for (int s = 0; s < kNumShards; ++s) {
    Shard& shard = impl_->shards[s];
    std::lock_guard<RwLock> lock(impl_->locks.Of(s));
    const int64_t wanted = ShardRows(rows, s);
    if (shard.index->capacity() * 3 >= wanted * 4) continue;
    // If there is no memory, growth will ask again, piece by piece.
    shard.ReplaceIndex(shard.index->Rebuild(wanted));
  }
}

Status Table::Impl::Relayout(const OptimizerSpec& spec, Executor* executor) {
  const RowLayout fresh(options.dim, options.value_type, spec.num_slots(), spec.num_scalars());
  std::unique_ptr<SlabArena> arena = MakeRowArena(fresh);
  // All memory first, shard by shard only where it cannot fail half way through a shard: a shard
  // that is already laid out anew could not be taken back.
  std::array<std::unique_ptr<RowStore>, kNumShards> stores;
  int64_t rows = 0;
  for (int s = 0; s < kNumShards; ++s) {
    stores[s] = std::make_unique<RowStore>(fresh.body_bytes, arena.get());
    rows += shards[s].rows->live_rows();
    for (RowHandle i = shards[s].rows->live_rows(); i > 0; --i) {
      if (stores[s]->Allocate() == kNoRow) return OutOfMemory();
    }
  }
  const auto lay_out = [&](int s) {
    Shard& shard = shards[s];
    shard.Compact();
    for (RowHandle handle = 0; handle < shard.rows->end(); ++handle) {
      uint8_t* body = stores[s]->Body(handle);
      std::memcpy(body, shard.rows->Body(handle), fresh.vector_bytes);
      std::memset(body + fresh.vector_bytes, 0, fresh.body_bytes - fresh.vector_bytes);
      InitializeSlots(spec, fresh.dim, fresh.BodySlots(body));
      *stores[s]->Meta(handle) = *shard.rows->Meta(handle);
    }
    shard.rows = std::move(stores[s]);
    shard.index->set_max_displacement(MaxDisplacement(fresh));
  };
  InlineExecutor inline_executor;
  if (rows <= kInlineBatch) executor = &inline_executor;
  executor->Run(kNumLocks, [&](int64_t l) {
    const int first = static_cast<int>(l) * kShardsPerLock;
    std::lock_guard<RwLock> lock(locks.Of(first));
    for (int s = first; s < first + kShardsPerLock; ++s) lay_out(s);
  });
  row_arena = std::move(arena);
  layout = fresh;
  optimizer = spec;
  return OkStatus();
}

Status Table::SetOptimizer(const OptimizerSpec& spec, bool drop_slots, Executor* executor) {
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
                              ", or call drop_slots() on the variable (drop_slots=True of the "
                              "operation) to give its slots up.");
  }
  if (!has_slots && !wants_slots) {
    impl_->optimizer = spec;
    return OkStatus();
  }
  return impl_->Relayout(spec, executor);
}

}  // namespace embedding
}  // namespace taco
