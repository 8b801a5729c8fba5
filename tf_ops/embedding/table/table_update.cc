// Table's plain mutations: upsert, accumulate, erase, import.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <shared_mutex>

#include "tf_ops/embedding/table/table_impl.h"

namespace taco {
namespace embedding {
namespace {

void CountUpdate(RowMeta* meta) {
  if (meta->freq < kMaxFreq) ++meta->freq;
}

// Calls visit(item, hash, handle) for each of a shard's items, with the lines it touches
// prefetched: those of the table, and of the batch's own row at `input` (null: none), which shard
// order scatters too.
template <typename Visit>
void VisitItems(const Shard& shard, const BatchItem* items, int64_t count, const uint8_t* input,
                size_t input_bytes, const Visit& visit) {
  const size_t prefetched = std::min<size_t>(input_bytes, 512);
  VisitPrefetched(
      shard, count,
      [&](int64_t i) {
        if (input != nullptr) PrefetchLines(input + items[i].position * input_bytes, prefetched);
        return items[i].key;
      },
      [&](int64_t i, uint64_t hash, RowHandle handle) { visit(items[i], hash, handle); });
}

}  // namespace

Status Table::Impl::CheckBatch(int64_t n) const {
  if (n < int64_t{1} << 32) return OkStatus();
  return InvalidArgument("embedding table '" + options.name + "': a batch of " + std::to_string(n) +
                         " keys is too large; split it into batches of fewer than 2^32.");
}

Status Table::Upsert(const int64_t* keys, int64_t n, const void* values, Executor* executor) {
  TACO_EMBEDDING_RETURN_IF_ERROR(impl_->CheckBatch(n));
  std::shared_lock<RwLock> gate(impl_->gate);
  const RowLayout& layout = impl_->layout;
  const uint8_t* vectors = static_cast<const uint8_t*>(values);
  std::atomic<bool> no_memory{false};
  const auto upsert = [&](Shard* shard, const BatchItem* items, int64_t count) {
    VisitItems(*shard, items, count, vectors, layout.vector_bytes,
               [&](const BatchItem& item, uint64_t hash, RowHandle handle) {
                 bool fresh = false;
                 if (handle == kNoRow) handle = shard->FindOrInsert(hash, item.key, &fresh);
                 if (handle == kNoRow) {
                   no_memory = true;
                   return;
                 }
                 if (!fresh) shard->Preserve(item.key, handle);
                 uint8_t* body = shard->rows->Body(handle);
                 std::memcpy(body, vectors + item.position * layout.vector_bytes,
                             layout.vector_bytes);
                 if (fresh) impl_->FinishRow(body);
                 CountUpdate(shard->rows->Meta(handle));
               });
  };
  impl_->Mutate(keys, n, executor, upsert);
  return no_memory ? impl_->OutOfMemory() : OkStatus();
}

Status Table::Accumulate(const int64_t* keys, int64_t n, const void* values_or_deltas,
                         const bool* exists, Executor* executor) {
  TACO_EMBEDDING_RETURN_IF_ERROR(impl_->CheckBatch(n));
  std::shared_lock<RwLock> gate(impl_->gate);
  const RowLayout& layout = impl_->layout;
  const uint8_t* vectors = static_cast<const uint8_t*>(values_or_deltas);
  const LoadFn load = GetLoad(layout.value_type);
  const AddScaledFn add = GetAddScaled(layout.value_type);
  std::atomic<bool> no_memory{false};
  const auto accumulate = [&](Shard* shard, const BatchItem* items, int64_t count) {
    std::vector<float> delta(layout.dim);
    VisitItems(*shard, items, count, vectors, layout.vector_bytes,
               [&](const BatchItem& item, uint64_t hash, RowHandle handle) {
                 if (handle == kNoRow) handle = shard->index->Find(hash, item.key);
                 const bool present = handle != kNoRow;
                 if (present != exists[item.position]) return;
                 const uint8_t* vector = vectors + item.position * layout.vector_bytes;
                 if (present) {
                   shard->Preserve(item.key, handle);
                   load(vector, delta.data(), layout.dim);
                   add(shard->rows->Body(handle), delta.data(), 1.0f, layout.dim);
                 } else {
                   handle = shard->Insert(hash, item.key);
                   if (handle == kNoRow) {
                     no_memory = true;
                     return;
                   }
                   uint8_t* body = shard->rows->Body(handle);
                   std::memcpy(body, vector, layout.vector_bytes);
                   impl_->FinishRow(body);
                 }
                 CountUpdate(shard->rows->Meta(handle));
               });
  };
  impl_->Mutate(keys, n, executor, accumulate);
  return no_memory ? impl_->OutOfMemory() : OkStatus();
}

Status Table::Erase(const int64_t* keys, int64_t n, Executor* executor, int64_t* erased) {
  // A shard with more free places than rows, and more than a slab or two of them, is compacted:
  // each compaction is paid for by the erasures that made it due.
  constexpr uint32_t kKeepFree = 2048;
  TACO_EMBEDDING_RETURN_IF_ERROR(impl_->CheckBatch(n));
  std::shared_lock<RwLock> gate(impl_->gate);
  std::atomic<int64_t> gone{0};
  const auto erase = [&](Shard* shard, const BatchItem* items, int64_t count) {
    int64_t here = 0;
    VisitItems(*shard, items, count, nullptr, 0,
               [&](const BatchItem& item, uint64_t hash, RowHandle handle) {
                 // The key may have been in the batch before.
                 if (handle != kNoRow) handle = shard->index->Find(hash, item.key);
                 if (handle == kNoRow) return;
                 shard->Erase(hash, item.key, handle);
                 ++here;
               });
    gone.fetch_add(here, std::memory_order_relaxed);
    const RowStore& rows = *shard->rows;
    if (here > 0 && shard->side == nullptr && rows.free_rows() > rows.live_rows() &&
        rows.free_rows() > kKeepFree) {
      shard->Compact();
    }
  };
  impl_->Mutate(keys, n, executor, erase);
  if (erased != nullptr) *erased = gone.load();
  return OkStatus();
}

Status Table::Import(const RowLayout& layout, const OptimizerSpec& spec, const uint8_t* rows,
                     int64_t n, bool vectors_only, Executor* executor) {
  TACO_EMBEDDING_RETURN_IF_ERROR(impl_->CheckBatch(n));
  const std::string name = "embedding table '" + impl_->options.name + "'";
  if (layout.dim != impl_->options.dim || layout.value_type != impl_->options.value_type) {
    return InvalidArgument(name + " has dim " + std::to_string(impl_->options.dim) +
                           " and value type " + std::to_string(int(impl_->options.value_type)) +
                           "; the rows to import have dim " + std::to_string(layout.dim) +
                           " and value type " + std::to_string(int(layout.value_type)) +
                           ". Create the variable with the dim and dtype it was saved with.");
  }
  if (!vectors_only && size() == 0) TACO_EMBEDDING_RETURN_IF_ERROR(SetOptimizer(spec, true));

  std::shared_lock<RwLock> gate(impl_->gate);
  const RowLayout& own = impl_->layout;
  const bool whole = impl_->optimizer.SameSlots(spec) && own == layout;
  if (!whole && !vectors_only) {
    return FailedPrecondition(name + " holds the slots of " + impl_->optimizer.Name() +
                              " and cannot take rows with those of " + spec.Name() +
                              ". Clear it first, or import the vectors only.");
  }
  std::vector<int64_t> keys(n);
  for (int64_t i = 0; i < n; ++i) keys[i] = RowLayout::Header(rows + i * layout.stride)->key;
  std::atomic<bool> no_memory{false};
  const auto import = [&](Shard* shard, const BatchItem* items, int64_t count) {
    VisitItems(*shard, items, count, rows, layout.stride,
               [&](const BatchItem& item, uint64_t hash, RowHandle handle) {
                 bool fresh = false;
                 if (handle == kNoRow) handle = shard->FindOrInsert(hash, item.key, &fresh);
                 if (handle == kNoRow) {
                   no_memory = true;
                   return;
                 }
                 if (!fresh) shard->Preserve(item.key, handle);
                 const uint8_t* from = rows + item.position * layout.stride;
                 uint8_t* body = shard->rows->Body(handle);
                 if (whole) {
                   std::memcpy(body, from + sizeof(RowHeader), layout.body_bytes);
                 } else {
                   std::memcpy(body, RowLayout::Vector(from), layout.vector_bytes);
                   impl_->FinishRow(body);
                 }
                 const RowHeader* header = RowLayout::Header(from);
                 *shard->rows->Meta(handle) = {std::min(header->freq, kMaxFreq), header->step};
               });
  };
  impl_->Mutate(keys.data(), n, executor, import);
  return no_memory ? impl_->OutOfMemory() : OkStatus();
}

}  // namespace embedding
}  // namespace taco
