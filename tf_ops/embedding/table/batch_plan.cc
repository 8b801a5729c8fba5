// Sorting a batch by shard, and running work for each shard under its lock.
#include <algorithm>
#include <mutex>
#include <utility>

#include "tf_ops/embedding/table/table_impl.h"

namespace taco {
namespace embedding {

void Table::Impl::Plan(const int64_t* keys, int64_t n, int64_t tile, Executor* executor,
                       BatchPlan* plan) {
  const ShardMap& map = GlobalShardMap();
  plan->items.resize(n);
  plan->shard_of.resize(n);
  plan->begin.resize((n + tile - 1) / tile);
  const auto plan_tile = [&](int64_t t) {
    const int64_t first = t * tile;
    const int64_t end = std::min(n, first + tile);
    std::array<uint32_t, kNumShards + 1>& begin = plan->begin[t];
    begin.fill(0);
    begin[0] = static_cast<uint32_t>(first);
    for (int64_t i = first; i < end; ++i) {
      const int shard = ShardOf(map, HashKey(keys[i]));
      plan->shard_of[i] = static_cast<uint8_t>(shard);
      ++begin[shard + 1];
    }
    for (int s = 0; s < kNumShards; ++s) begin[s + 1] += begin[s];
    std::array<uint32_t, kNumShards> next;
    std::copy_n(begin.begin(), kNumShards, next.begin());
    for (int64_t i = first; i < end; ++i) {
      plan->items[next[plan->shard_of[i]]++] = {keys[i], static_cast<uint32_t>(i)};
    }
  };
  const int64_t tiles = static_cast<int64_t>(plan->begin.size());
  if (tiles == 1) {
    plan_tile(0);
  } else {
    executor->Run(tiles, plan_tile);
  }
}

void Table::Impl::Mutate(const int64_t* keys, int64_t n, int64_t tile, Executor* executor,
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
  Plan(keys, n, tile, executor, plan.get());

  const auto run_shard = [&](const std::array<uint32_t, kNumShards + 1>& begin, int s) {
    const int64_t count = begin[s + 1] - begin[s];
    if (count == 0) return;
    std::lock_guard<RwLock> lock(shards[s].lock);
    work(&shards[s], plan->items.data() + begin[s], count);
  };
  const bool alone = n <= kInlineBatch || executor->parallelism() == 1;
  // With several tiles few groups of shards, so that the threads stay near the same tile's rows.
  const int groups = alone                     ? 1
                     : plan->begin.size() == 1 ? kNumShards
                                               : std::min(kNumShards, 4 * executor->parallelism());
  const auto run_group = [&](int64_t group) {
    for (const auto& begin : plan->begin) {
      for (int s = static_cast<int>(group); s < kNumShards; s += groups) run_shard(begin, s);
    }
  };
  if (groups == 1) {
    run_group(0);
  } else {
    executor->Run(groups, run_group);
  }
  std::lock_guard<std::mutex> lock(pool_mu);
  plan_pool.push_back(std::move(plan));
}

}  // namespace embedding
}  // namespace taco
