// Table::Apply: one fused optimizer step on the rows of a batch.
//
// Per group of shards: duplicates are found with a small hash set of the group's own keys; then
// each distinct row is found, or inserted at its initial value, and updated by the sum of its
// gradients, which are added in float32 in order of position.
//
// LAMB scales the update of every row by a norm over all of them, and so comes to each row twice.
// It holds the locks of all its shards meanwhile: nobody else sees, changes or erases a row between
// its two visits.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <optional>
#include <shared_mutex>

#include "tf_ops/embedding/table/row_visit.h"
#include "tf_ops/embedding/table/table_impl.h"

namespace taco {
namespace embedding {
namespace {

constexpr uint32_t kNone = 0xFFFFFFFFu;

// The distinct keys of one group, in order of their first place (index among the group's keys).
struct Distinct {
  int64_t count = 0;
  // By distinct key, the first `count` of each:
  std::vector<int64_t> keys;
  std::vector<uint32_t> firsts;  // its first place
  std::vector<uint32_t> last;    // its last place
  std::vector<uint32_t> next;    // by place: the next one of the same key, or kNone
  std::vector<uint32_t> slots;   // open addressing: number of a distinct key

  void Find(const Group& group) {
    // A quarter full at most: branches on where a search ends are what it costs.
    size_t size = 16;
    while (static_cast<int64_t>(size) < 4 * group.count) size *= 2;
    slots.assign(size, kNone);
    next.assign(group.count, kNone);
    for (auto* by_key : {&firsts, &last}) by_key->resize(group.count);
    keys.resize(group.count);
    count = 0;
    for (uint32_t place = 0; place < group.count; ++place) {
      const int64_t key = group.keys[place];
      size_t slot = (HashKey(key) >> 3) & (size - 1);
      while (slots[slot] != kNone && keys[slots[slot]] != key) slot = (slot + 1) & (size - 1);
      uint32_t number = slots[slot];
      if (number == kNone) {
        number = static_cast<uint32_t>(count++);
        slots[slot] = number;
        keys[number] = key;
        firsts[number] = place;
      } else {
        next[last[number]] = place;
      }
      last[number] = place;
    }
  }
};

struct Gradients {
  ValueType type;
  const uint8_t* rows;  // (n, dim)
  int dim;
  LoadFn load;
  LoadFn load_add;

  size_t row_bytes() const { return dim * ValueBytes(type); }
  const uint8_t* Row(size_t position) const { return rows + position * row_bytes(); }

  // The sum over the gradients of a distinct key. Points into the batch where it can, else to
  // `sum`.
  const float* Sum(const Group& group, const Distinct& distinct, int64_t number, float* sum,
                   uint32_t* count) const {
    const uint32_t first = distinct.firsts[number];
    *count = 1;
    const uint8_t* row = Row(group.position(first));
    if (distinct.next[first] == kNone && type == ValueType::kFloat32) {
      return reinterpret_cast<const float*>(row);
    }
    load(row, sum, dim);
    for (uint32_t place = distinct.next[first]; place != kNone; place = distinct.next[place]) {
      load_add(Row(group.position(place)), sum, dim);
      ++*count;
    }
    return sum;
  }
};

// What LAMB remembers between its two passes.
struct LambPass {
  struct OfGroup {
    std::vector<uint8_t*> bodies;   // of the rows that were updated
    std::vector<float> directions;  // (bodies, dim)
  };
  // Sums of squares by shard: their order must not depend on how the shards are grouped.
  struct OfShard {
    double weights = 0.0;
    double updates = 0.0;
  };
  std::array<OfGroup, ShardGroups::kMax> of_group;
  std::array<OfShard, kNumShards> of_shard;

  // The trust ratio.
  float Ratio() const {
    double weight_sq = 0.0;
    double update_sq = 0.0;
    for (const OfShard& squares : of_shard) {
      weight_sq += squares.weights;
      update_sq += squares.updates;
    }
    if (!(weight_sq > 0.0 && update_sq > 0.0)) return 1.0f;
    return static_cast<float>(std::sqrt(weight_sq / update_sq));
  }

  // The second pass: every row goes `scale` along its direction. The locks are still held.
  void Finish(float scale, const RowLayout& layout, Executor* executor) const {
    const AddScaledFn add = GetAddScaled(layout.value_type);
    executor->Run(ShardGroups::kMax, [&](int64_t g) {
      const std::vector<uint8_t*>& bodies = of_group[g].bodies;
      const float* direction = of_group[g].directions.data();
      for (size_t i = 0; i < bodies.size(); ++i, direction += layout.dim) {
        const size_t coming = std::min<size_t>(i + kMaxRowsAhead, bodies.size() - 1);
        PrefetchLines(bodies[coming], layout.vector_bytes);
        add(bodies[i], direction, scale, layout.dim);
      }
    });
  }
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
    TACO_EMBEDDING_RETURN_IF_ERROR(SetOptimizer(spec, /*drop_slots=*/false, executor));
    gate.lock();
  }

  const RowLayout& layout = impl_->layout;
  const StepConstants constants = PrepareStep(spec, step);
  const Gradients gradients{grad_type, static_cast<const uint8_t*>(grads), layout.dim,
                            GetLoad(grad_type), GetLoadAdd(grad_type)};
  const bool lamb = spec.kind == OptimizerKind::kLamb;
  const UpdateRowFn update = lamb ? nullptr : GetUpdateRow(spec, layout.value_type);
  const LambDirectionFn direction = lamb ? GetLambDirection(layout.value_type) : nullptr;
  const std::unique_ptr<LambPass> pass = lamb ? std::make_unique<LambPass>() : nullptr;
  std::optional<ExclusiveLocks> lamb_locks;  // held for whoever works in the executor
  if (lamb) {
    lamb_locks.emplace(&impl_->locks, LockSet::OfKeys(keys, n, LockSet::OfShards(0, kNumShards)));
  }
  std::atomic<bool> no_memory{false};

  impl_->Mutate(keys, n, executor, [&](const Group& group) {
    static thread_local Distinct reused;
    Distinct& distinct = reused;  // one call for its address, not one an access
    distinct.Find(group);
    const int64_t count = distinct.count;
    std::vector<float> sum(layout.dim);
    const auto insert = [&](int64_t i, Shard* shard, uint64_t hash) -> Place {
      bool fresh;
      const RowHandle handle = shard->FindOrInsert(hash, distinct.keys[i], &fresh);
      if (handle == kNoRow) {
        no_memory = true;
        return {};
      }
      const Place place{shard->rows->Body(handle), shard->rows->Meta(handle)};
      InitializeVector(impl_->options.initializer, impl_->table_id, distinct.keys[i],
                       layout.value_type, layout.dim, place.body);
      impl_->FinishRow(place.body);
      return place;
    };
    const auto prefetch = [&](int64_t i, const Place& place) {
      PrefetchPlace(place, layout.body_bytes);
      PrefetchInput(group, distinct.firsts[i], gradients.rows, gradients.row_bytes());
    };
    const auto each = [&](const RowVisitor::Block& block, const auto& change) {
      block.Each(RowsAhead(layout.body_bytes), prefetch, [&](int64_t i, const Place& place) {
        uint32_t times = 0;
        const float* grad = gradients.Sum(group, distinct, i, sum.data(), &times);
        change(i, place, grad);
        Touch(place.meta, times, step.step);
      });
    };
    RowVisitor visitor(impl_.get(), group);
    if (!lamb) {
      visitor.Visit(distinct.keys.data(), count, insert, [&](const RowVisitor::Block& block) {
        each(block, [&](int64_t, const Place& place, const float* grad) {
          update(place.body, layout.BodySlots(place.body), grad, layout.dim, constants);
        });
      });
      return;
    }
    LambPass::OfGroup& remembered = pass->of_group[group.number];
    remembered.bodies.reserve(count);
    remembered.directions.reserve(count * layout.dim);
    visitor.VisitHeld(distinct.keys.data(), count, insert, [&](const RowVisitor::Block& block) {
      each(block, [&](int64_t number, const Place& place, const float* grad) {
        const int shard = ShardOf(GlobalShardMap(), HashKey(distinct.keys[number]));
        LambPass::OfShard& squares = pass->of_shard[shard];
        const size_t at = remembered.directions.size();
        remembered.directions.resize(at + layout.dim);
        direction(place.body, layout.BodySlots(place.body), grad, layout.dim, constants,
                  remembered.directions.data() + at, &squares.weights, &squares.updates);
        remembered.bodies.push_back(place.body);
      });
    });
  });
  if (lamb) {
    InlineExecutor inline_executor;
    pass->Finish(-(pass->Ratio() * step.learning_rate), layout,
                 n <= kInlineBatch ? &inline_executor : executor);
  }
  return no_memory ? impl_->OutOfMemory() : OkStatus();
}

}  // namespace embedding
}  // namespace taco
