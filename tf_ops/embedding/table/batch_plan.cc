// Sorting a batch by shard, and running work for each shard under its lock.
#include <algorithm>
#include <mutex>
#include <utility>

#include "tf_ops/embedding/table/table_impl.h"

namespace taco {
namespace embedding {

void Table::Impl::Plan(const int64_t* keys, int64_t n, BatchPlan* plan) const {
  const ShardMap& map = GlobalShardMap();
  plan->hashes.resize(n);
  plan->items.resize(n);
  plan->begin.fill(0);
  for (int64_t i = 0; i < n; ++i) {
    plan->hashes[i] = HashKey(keys[i]);
    ++plan->begin[ShardOf(map, plan->hashes[i]) + 1];
  }
  for (int s = 0; s < kNumShards; ++s) plan->begin[s + 1] += plan->begin[s];
  std::array<int64_t, kNumShards> next;
  std::copy_n(plan->begin.begin(), kNumShards, next.begin());
  for (int64_t i = 0; i < n; ++i) {
    plan->items[next[ShardOf(map, plan->hashes[i])]++] = static_cast<uint32_t>(i);
  }
}

void Table::Impl::ForEachShard(const BatchPlan& plan, Executor* executor, const ShardWork& work) {
  const auto run_shard = [&](int64_t s) {
    const int64_t count = plan.begin[s + 1] - plan.begin[s];
    if (count > 0) work(&shards[s], plan.items.data() + plan.begin[s], count);
  };
  if (plan.begin[kNumShards] <= kInlineBatch || executor->parallelism() == 1) {
    for (int s = 0; s < kNumShards; ++s) run_shard(s);
  } else {
    executor->Run(kNumShards, run_shard);
  }
}

void Table::Impl::Mutate(
    const int64_t* keys, int64_t n, Executor* executor,
    const std::function<void(Shard*, const BatchPlan&, const uint32_t*, int64_t)>& work) {
  std::unique_ptr<BatchPlan> plan;
  {
    std::lock_guard<std::mutex> lock(pool_mu);
    if (!plan_pool.empty()) {
      plan = std::move(plan_pool.back());
      plan_pool.pop_back();
    }
  }
  if (plan == nullptr) plan = std::make_unique<BatchPlan>();
  Plan(keys, n, plan.get());
  ForEachShard(*plan, executor, [&](Shard* shard, const uint32_t* items, int64_t count) {
    std::lock_guard<RwLock> lock(shard->lock);
    work(shard, *plan, items, count);
  });
  std::lock_guard<std::mutex> lock(pool_mu);
  plan_pool.push_back(std::move(plan));
}

}  // namespace embedding
}  // namespace taco
