// Sorting a batch by shard, and running work for each shard under its lock.
#include <algorithm>
#include <mutex>
#include <utility>

#include "tf_ops/embedding/table/table_impl.h"

namespace taco {
namespace embedding {

void Table::Impl::Plan(const int64_t* keys, int64_t n, BatchPlan* plan) {
  const ShardMap& map = GlobalShardMap();
  plan->items.resize(n);
  plan->shard_of.resize(n);
  std::array<uint32_t, kNumShards + 1>& begin = plan->begin;
  begin.fill(0);
  for (int64_t i = 0; i < n; ++i) {
    const int shard = ShardOf(map, HashKey(keys[i]));
    plan->shard_of[i] = static_cast<uint8_t>(shard);
    ++begin[shard + 1];
  }
  for (int s = 0; s < kNumShards; ++s) begin[s + 1] += begin[s];
  std::array<uint32_t, kNumShards> next;
  std::copy_n(begin.begin(), kNumShards, next.begin());
  for (int64_t i = 0; i < n; ++i) {
    plan->items[next[plan->shard_of[i]]++] = {keys[i], static_cast<uint32_t>(i)};
  }
}

void Table::Impl::Mutate(const int64_t* keys, int64_t n, Executor* executor,
                         const ShardWork& work) {
  if (n <= 0) return;
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

  const auto run_shard = [&](int64_t s) {
    const int64_t count = plan->begin[s + 1] - plan->begin[s];
    if (count == 0) return;
    std::lock_guard<RwLock> lock(shards[s].lock);
    work(&shards[s], plan->items.data() + plan->begin[s], count);
  };
  if (n <= kInlineBatch || executor->parallelism() == 1) {
    for (int s = 0; s < kNumShards; ++s) run_shard(s);
  } else {
    executor->Run(kNumShards, run_shard);
  }
  std::lock_guard<std::mutex> lock(pool_mu);
  plan_pool.push_back(std::move(plan));
}

}  // namespace embedding
}  // namespace taco
