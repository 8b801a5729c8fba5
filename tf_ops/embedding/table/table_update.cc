// Table's plain mutations: upsert, accumulate, erase, import.
#include <emmintrin.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <shared_mutex>

#include "tf_ops/embedding/table/row_visit.h"
#include "tf_ops/embedding/table/table_impl.h"

namespace taco {
namespace embedding {
namespace {

void CountUpdate(RowMeta* meta) {
  if (meta->freq < kMaxFreq) ++meta->freq;
}

Place PlaceOf(const Shard& shard, RowHandle handle) {
  if (handle == kNoRow) return {};
  return {shard.rows->Body(handle), shard.rows->Meta(handle)};
}

// Copies rows of the batch into the table around the cache: the lines that are overwritten are not
// read first. The bodies begin where lines do, and `bytes` are whole lines.
void StreamRow(uint8_t* to, const uint8_t* from, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 16) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
  }
}

// A line that is written around the cache again and again, one store soon after the other, waits
// for memory each time. Where a row is so frequent, of writes to it that follow closely the last
// alone is done. For a batch without such a row that would be work for nothing.

// Whether a row is about a fifth of the block or more, judged by its first keys.
__attribute__((noinline)) bool HasHotRow(const RowVisitor::Block& block) {
  constexpr int64_t kSample = 32;
  constexpr int64_t kNear = 8;
  if (block.n < kSample + kNear) return false;
  int same = 0;
  for (int64_t i = 0; i < kSample; ++i) {
    for (int64_t j = i + 1; j <= i + kNear; ++j) {
      same += block.places[i].body == block.places[j].body;
    }
  }
  return same * 25 >= kSample * kNear;
}

// Who writes a row last, of the keys seen so far.
class LastWriters {
 public:
  // Keys in order, each some keys before IsLast asks for it.
  void Announce(int64_t i, const uint8_t* body) { writers_[Slot(body)] = {body, i}; }
  // False: a key announced after i writes the same row. True says nothing.
  bool IsLast(int64_t i, const uint8_t* body) const {
    const Writer& writer = writers_[Slot(body)];
    return writer.body != body || writer.i == i;
  }

 private:
  static constexpr int kSlotBits = 7;
  struct Writer {
    const uint8_t* body;
    int64_t i;
  };
  static size_t Slot(const uint8_t* body) {
    return reinterpret_cast<uintptr_t>(body) * 0x9E3779B97F4A7C15ull >> (64 - kSlotBits);
  }

  Writer writers_[1 << kSlotBits] = {};
};

// Not inlined: the loop for other blocks is the one to be laid out well.
__attribute__((noinline)) void StreamHotRows(const RowVisitor::Block& block, const Group& group,
                                             const uint8_t* vectors, size_t bytes) {
  LastWriters last;
  const auto announce = [=, &group, &last](int64_t i, const Place& place) {
    PrefetchLine(place.meta);
    PrefetchInput(group, i, vectors, bytes);
    last.Announce(i, place.body);
  };
  block.Each(kMaxRowsAhead, announce, [=, &group, &last](int64_t i, const Place& place) {
    if (last.IsLast(i, place.body)) {
      StreamRow(place.body, vectors + group.position(i) * bytes, bytes);
    }
    CountUpdate(place.meta);
  });
}

}  // namespace

Status Table::Impl::CheckBatch(int64_t n) const {
  if (n < int64_t{1} << 32) return OkStatus();
  return InvalidArgument("embedding table '" + options.name + "': a batch of " + std::to_string(n) +
                         " keys is too large; split it into batches of fewer than 2^32.");
}

bool Table::Impl::StreamsRows(int64_t n) const {
  // Smaller batches stay in the cache, and so do tables.
  constexpr size_t kBatchBytes = size_t{1} << 20;
  constexpr size_t kTableBytes = size_t{32} << 20;
  return layout.vector_bytes % 64 == 0 && layout.body_bytes % 64 == 0 &&
         n * layout.vector_bytes >= kBatchBytes && row_arena->bytes() >= kTableBytes;
}

Status Table::Upsert(const int64_t* keys, int64_t n, const void* values, Executor* executor) {
  TACO_EMBEDDING_RETURN_IF_ERROR(impl_->CheckBatch(n));
  std::shared_lock<RwLock> gate(impl_->gate);
  const size_t bytes = impl_->layout.vector_bytes;
  const uint8_t* vectors = static_cast<const uint8_t*>(values);
  const bool stream = impl_->StreamsRows(n);
  std::atomic<bool> no_memory{false};
  impl_->Mutate(keys, n, executor, [&](const Group& group) {
    int64_t inserted = 0;
    const auto insert = [&](int64_t i, Shard* shard, uint64_t hash) {
      bool fresh;
      const Place place = PlaceOf(*shard, shard->FindOrInsert(hash, group.keys[i], &fresh));
      if (place.body == nullptr) {
        no_memory = true;
      } else if (fresh) {
        impl_->FinishRow(place.body);
        ++inserted;
      }
      return place;
    };
    const auto prefetch = [&](int64_t i, const Place& place) {
      PrefetchLine(place.meta);
      PrefetchInput(group, i, vectors, bytes);
      if (!stream) PrefetchLines(place.body, bytes);
    };
    const auto write = [&](const RowVisitor::Block& block) {
      if (stream && HasHotRow(block)) {
        StreamHotRows(block, group, vectors, bytes);
      } else {
        block.Each(RowsAhead(bytes), prefetch, [&](int64_t i, const Place& place) {
          const uint8_t* vector = vectors + group.position(i) * bytes;
          if (stream) {
            StreamRow(place.body, vector, bytes);
          } else {
            std::memcpy(place.body, vector, bytes);
          }
          CountUpdate(place.meta);
        });
      }
      // Streamed rows are seen by who takes the locks next.
      if (stream) _mm_sfence();
    };
    RowVisitor(impl_.get(), group).VisitOrInsert(group.keys, group.count, insert, &inserted, write);
  });
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
  impl_->Mutate(keys, n, executor, [&](const Group& group) {
    std::vector<float> delta(layout.dim);
    const auto vector_of = [&](int64_t i) {
      return vectors + group.position(i) * layout.vector_bytes;
    };
    const auto expected = [&](int64_t i) { return exists[group.position(i)]; };
    const auto insert = [&](int64_t i, Shard* shard, uint64_t hash) -> Place {
      // A key that is in the block twice may be there by now.
      if (expected(i)) return PlaceOf(*shard, shard->index->Find(hash, group.keys[i]));
      bool fresh;
      const Place place = PlaceOf(*shard, shard->FindOrInsert(hash, group.keys[i], &fresh));
      if (place.body == nullptr) no_memory = true;
      if (!fresh) return {};
      std::memcpy(place.body, vector_of(i), layout.vector_bytes);
      impl_->FinishRow(place.body);
      CountUpdate(place.meta);
      return {};  // done
    };
    const auto prefetch = [&](int64_t i, const Place& place) {
      PrefetchPlace(place, layout.vector_bytes);
      PrefetchInput(group, i, vectors, layout.vector_bytes);
    };
    const auto write = [&](const RowVisitor::Block& block) {
      block.Each(RowsAhead(layout.vector_bytes), prefetch, [&](int64_t i, const Place& place) {
        if (!expected(i)) return;
        load(vector_of(i), delta.data(), layout.dim);
        add(place.body, delta.data(), 1.0f, layout.dim);
        CountUpdate(place.meta);
      });
    };
    RowVisitor(impl_.get(), group).Visit(group.keys, group.count, insert, write);
  });
  return no_memory ? impl_->OutOfMemory() : OkStatus();
}

Status Table::Erase(const int64_t* keys, int64_t n, Executor* executor, int64_t* erased) {
  // A shard with more free places than rows, and more than a slab or two of them, is compacted:
  // each compaction is paid for by the erasures that made it due.
  constexpr uint32_t kKeepFree = 2048;
  TACO_EMBEDDING_RETURN_IF_ERROR(impl_->CheckBatch(n));
  std::shared_lock<RwLock> gate(impl_->gate);
  std::atomic<int64_t> gone{0};
  impl_->Mutate(keys, n, executor, [&](const Group& group) {
    int64_t here = 0;
    const auto absent = [](int64_t, Shard*, uint64_t) { return Place{}; };
    // A body becomes a link of the free list.
    const auto prefetch = [](int64_t, const Place& place) { PrefetchLine(place.body); };
    const auto erase = [&](const RowVisitor::Block& block) {
      block.Each(kMaxRowsAhead, prefetch, [&](int64_t i, const Place&) {
        const int64_t key = group.keys[i];
        const uint64_t hash = HashKey(key);
        Shard* shard = impl_->ShardOfHash(hash);
        // The key may have been in the block before.
        const RowHandle handle = shard->index->Find(hash, key);
        if (handle == kNoRow) return;
        shard->Erase(hash, key, handle);
        ++here;
      });
    };
    RowVisitor(impl_.get(), group).Visit(group.keys, group.count, absent, erase);
    if (here == 0) return;
    gone.fetch_add(here, std::memory_order_relaxed);
    for (int s = group.first_shard; s < group.end_shard; ++s) {
      Shard& shard = impl_->shards[s];
      std::lock_guard<RwLock> lock(impl_->locks.Of(s));
      const RowStore& rows = *shard.rows;
      if (shard.side == nullptr && rows.free_rows() > rows.live_rows() &&
          rows.free_rows() > kKeepFree) {
        shard.Compact();
      }
    }
  });
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
  if (!vectors_only && size() == 0) {
    TACO_EMBEDDING_RETURN_IF_ERROR(SetOptimizer(spec, /*drop_slots=*/true, executor));
  }

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
  impl_->Mutate(keys.data(), n, executor, [&](const Group& group) {
    const auto insert = [&](int64_t i, Shard* shard, uint64_t hash) {
      bool fresh;
      const Place place = PlaceOf(*shard, shard->FindOrInsert(hash, group.keys[i], &fresh));
      if (place.body == nullptr) no_memory = true;
      return place;
    };
    const auto prefetch = [&](int64_t i, const Place& place) {
      PrefetchPlace(place, own.body_bytes);
      PrefetchInput(group, i, rows, layout.stride);
    };
    const auto write = [&](const RowVisitor::Block& block) {
      block.Each(RowsAhead(own.body_bytes), prefetch, [&](int64_t i, const Place& place) {
        const uint8_t* from = rows + group.position(i) * layout.stride;
        if (whole) {
          std::memcpy(place.body, from + sizeof(RowHeader), layout.body_bytes);
        } else {
          std::memcpy(place.body, RowLayout::Vector(from), layout.vector_bytes);
          impl_->FinishRow(place.body);
        }
        const RowHeader* header = RowLayout::Header(from);
        *place.meta = {std::min(header->freq, kMaxFreq), header->step};
      });
    };
    RowVisitor(impl_.get(), group).Visit(group.keys, group.count, insert, write);
  });
  return no_memory ? impl_->OutOfMemory() : OkStatus();
}

}  // namespace embedding
}  // namespace taco
