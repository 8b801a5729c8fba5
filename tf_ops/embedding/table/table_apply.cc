// Table::Apply: one fused optimizer step on the rows of a batch.
//
// Per shard, under its lock: duplicates are found with a small hash set of the shard's own keys,
// their gradients summed in float32 in order of position, and each distinct row is then found (or
// inserted at its initial value) and updated in one visit.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <shared_mutex>

#include "tf_ops/embedding/table/table_impl.h"

namespace taco {
namespace embedding {
namespace {

constexpr uint32_t kNone = 0xFFFFFFFFu;

// The distinct keys of one shard's items. first[u] is the first item of distinct key u;
// next[position] links the positions (within the shard's items) that share a key, in order.
struct Distinct {
  std::vector<uint32_t> slots;  // open addressing: position of a distinct key's first item
  std::vector<uint32_t> firsts;
  std::vector<uint32_t> next;
  std::vector<uint32_t> last;  // by position of the first: the end of its chain

  void Find(const BatchItem* items, int64_t count) {
    size_t size = 16;
    while (static_cast<int64_t>(size) < 2 * count) size *= 2;
    slots.assign(size, kNone);
    firsts.clear();
    next.assign(count, kNone);
    last.resize(count);
    for (uint32_t p = 0; p < count; ++p) {
      const int64_t key = items[p].key;
      size_t slot = (HashKey(key) >> 3) & (size - 1);
      while (slots[slot] != kNone && items[slots[slot]].key != key) slot = (slot + 1) & (size - 1);
      if (slots[slot] == kNone) {
        slots[slot] = p;
        last[p] = p;
        firsts.push_back(p);
      } else {
        const uint32_t first = slots[slot];
        next[last[first]] = p;
        last[first] = p;
      }
    }
  }
};

struct Gradients {
  ValueType type;
  const uint8_t* rows;  // (n, dim)
  int dim;
  LoadFn load;
  LoadFn load_add;

  const uint8_t* Row(const BatchItem& item) const {
    return rows + item.position * (dim * ValueBytes(type));
  }

  // The sum over the chain that starts at position p. Points into the batch where it can, else to
  // `sum`.
  const float* Sum(const Distinct& distinct, const BatchItem* items, uint32_t p, float* sum,
                   uint32_t* count) const {
    *count = 1;
    if (distinct.next[p] == kNone && type == ValueType::kFloat32) {
      return reinterpret_cast<const float*>(Row(items[p]));
    }
    load(Row(items[p]), sum, dim);
    for (uint32_t q = distinct.next[p]; q != kNone; q = distinct.next[q]) {
      load_add(Row(items[q]), sum, dim);
      ++*count;
    }
    return sum;
  }
};

// What LAMB remembers of one shard between its two passes.
struct LambPass {
  std::vector<int64_t> keys;      // one per row updated
  std::vector<float> directions;  // (rows, dim)
  double weight_sq = 0.0;
  double update_sq = 0.0;
};

void Touch(RowMeta* meta, uint32_t count, int64_t step) {
  meta->freq = meta->freq > kMaxFreq - count ? kMaxFreq : meta->freq + count;
  meta->step = static_cast<uint32_t>(step);
}

}  // namespace

Status Table::Apply(const int64_t* keys, int64_t n, ValueType grad_type, const void* grads,
                    const OptimizerSpec& spec, const OptimizerStep& step, Executor* executor) {
  TACO_EMBEDDING_RETURN_IF_ERROR(ValidateStep(spec, step));
  TACO_EMBEDDING_RETURN_IF_ERROR(impl_->CheckBatch(n));
  if (n <= 0) return OkStatus();

  std::shared_lock<RwLock> gate(impl_->gate);
  while (!(impl_->optimizer.SameSlots(spec) || spec.num_slots() + spec.num_scalars() == 0)) {
    gate.unlock();
    TACO_EMBEDDING_RETURN_IF_ERROR(SetOptimizer(spec, /*drop_slots=*/false));
    gate.lock();
  }

  const RowLayout& layout = impl_->layout;
  const StepConstants constants = PrepareStep(spec, step);
  const Gradients gradients{grad_type, static_cast<const uint8_t*>(grads), layout.dim,
                            GetLoad(grad_type), GetLoadAdd(grad_type)};
  const bool lamb = spec.kind == OptimizerKind::kLamb;
  const UpdateRowFn update = lamb ? nullptr : GetUpdateRow(spec, layout.value_type);
  const LambDirectionFn direction = lamb ? GetLambDirection(layout.value_type) : nullptr;
  std::array<LambPass, kNumShards> passes;
  std::atomic<bool> no_memory{false};

  impl_->Mutate(keys, n, executor, [&](Shard* shard, const BatchItem* items, int64_t count) {
    static thread_local Distinct reused;
    Distinct& distinct = reused;  // one call for its address, not one an access
    std::vector<float> sum(layout.dim);
    distinct.Find(items, count);
    LambPass* pass = lamb ? &passes[shard - impl_->shards.data()] : nullptr;
    const int64_t rows = static_cast<int64_t>(distinct.firsts.size());
    if (lamb) {
      pass->keys.reserve(rows);
      pass->directions.reserve(rows * layout.dim);
    }
    const size_t gradient_bytes = std::min<size_t>(layout.dim * ValueBytes(grad_type), 512);
    const auto start = [&](int64_t u) {
      const BatchItem& item = items[distinct.firsts[u]];
      PrefetchLines(gradients.Row(item), gradient_bytes);
      return item.key;
    };
    VisitPrefetched(*shard, rows, start, [&](int64_t u, uint64_t hash, RowHandle handle) {
      const uint32_t first = distinct.firsts[u];
      const int64_t key = items[first].key;
      uint8_t* body;
      if (handle != kNoRow) {
        shard->Preserve(key, handle);
        body = shard->rows->Body(handle);
      } else {
        handle = shard->Insert(hash, key);
        if (handle == kNoRow) {
          no_memory = true;
          return;
        }
        body = shard->rows->Body(handle);
        InitializeVector(impl_->options.initializer, impl_->table_id, key, layout.value_type,
                         layout.dim, body);
        impl_->FinishRow(body);
      }
      uint32_t times = 0;
      const float* grad = gradients.Sum(distinct, items, first, sum.data(), &times);
      if (!lamb) {
        update(body, layout.BodySlots(body), grad, layout.dim, constants);
      } else {
        const size_t at = pass->directions.size();
        pass->directions.resize(at + layout.dim);
        direction(body, layout.BodySlots(body), grad, layout.dim, constants,
                  pass->directions.data() + at, &pass->weight_sq, &pass->update_sq);
        pass->keys.push_back(key);
      }
      Touch(shard->rows->Meta(handle), times, step.step);
    });
  });

  if (lamb) {
    double weight_sq = 0.0;
    double update_sq = 0.0;
    for (const LambPass& pass : passes) {
      weight_sq += pass.weight_sq;
      update_sq += pass.update_sq;
    }
    const float ratio = weight_sq > 0.0 && update_sq > 0.0
                            ? static_cast<float>(std::sqrt(weight_sq / update_sq))
                            : 1.0f;
    const float scale = -(ratio * step.learning_rate);
    const AddScaledFn add = GetAddScaled(layout.value_type);
    executor->Run(kNumShards, [&](int64_t s) {
      if (passes[s].keys.empty()) return;
      Shard& shard = impl_->shards[s];
      std::lock_guard<RwLock> lock(shard.lock);
      for (size_t i = 0; i < passes[s].keys.size(); ++i) {
        // Found again: another thread may have erased or moved it since.
        const int64_t key = passes[s].keys[i];
        const RowHandle handle = shard.index->Find(HashKey(key), key);
        if (handle == kNoRow) continue;
        shard.Preserve(key, handle);
        add(shard.rows->Body(handle), passes[s].directions.data() + i * layout.dim, scale,
            layout.dim);
      }
    });
  }
  return no_memory ? impl_->OutOfMemory() : OkStatus();
}

}  // namespace embedding
}  // namespace taco
