#include "tf_ops/embedding/table/batch_plan.h"

#include <algorithm>
#include <utility>

#include "tf_ops/embedding/table/shard.h"

namespace taco {
namespace embedding {
namespace {

// Keys that one task plans: long enough to be worth a task.
constexpr int64_t kKeysPerPiece = 4096;

// So many that a slow thread does not keep the others waiting for long, nor one that has the groups
// of the most frequent keys.
constexpr int kGroupsPerThread = 8;

}  // namespace

ShardGroups::ShardGroups(int count) : count_(count) {
  const ShardMap& map = GlobalShardMap();
  first_.fill(kNumShards);
  int before = 0;
  int group = -1;
  for (int s = 0; s < kNumShards; s += kShardsPerLock) {
    int width = 0;
    for (int i = s; i < s + kShardsPerLock; ++i) width += map.width[i];
    const int middle = before + width / 2;
    before += width;
    while (group < middle * count >> kShardBits) first_[++group] = static_cast<uint8_t>(s);
    for (int i = s; i < s + kShardsPerLock; ++i) group_of_[i] = static_cast<uint8_t>(group);
  }
}

const ShardGroups& ShardGroups::For(int parallelism) {
  static const auto* by_log2 =
      new std::array<ShardGroups, 6>{ShardGroups(1), ShardGroups(2),  ShardGroups(4),
                                     ShardGroups(8), ShardGroups(16), ShardGroups(32)};
  const int wanted = parallelism == 1 ? 1 : std::min(parallelism, kMax) * kGroupsPerThread;
  size_t log2 = 0;
  while (log2 + 1 < by_log2->size() && (*by_log2)[log2].count() < wanted) ++log2;
  return (*by_log2)[log2];
}

void BatchPlan::Make(const int64_t* keys, int64_t n, const ShardGroups& groups,
                     Executor* executor) {
  groups_ = &groups;
  batch_ = keys;
  n_ = n;
  const int width = groups.count();
  if (width == 1) return;

  const ShardMap& map = GlobalShardMap();
  const int64_t pieces = std::min<int64_t>((n + kKeysPerPiece - 1) / kKeysPerPiece,
                                           kGroupsPerThread * int64_t{executor->parallelism()});
  const auto begin_of = [&](int64_t piece) { return n * piece / pieces; };
  keys_.resize(n);
  positions_.resize(n);
  group_of_.resize(n);
  next_.resize(pieces * width);
  begin_.resize(width + 1);

  executor->Run(pieces, [&](int64_t piece) {
    uint32_t counts[ShardGroups::kMax] = {};
    for (int64_t i = begin_of(piece); i < begin_of(piece + 1); ++i) {
      const int group = groups.of_shard(ShardOf(map, HashKey(keys[i])));
      group_of_[i] = static_cast<uint8_t>(group);
      ++counts[group];
    }
    std::copy_n(counts, width, &next_[piece * width]);
  });
  uint32_t at = 0;
  for (int g = 0; g < width; ++g) {
    begin_[g] = at;
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const uint32_t count = std::exchange(next_[piece * width + g], at);
      at += count;
    }
  }
  begin_[width] = at;
  executor->Run(pieces, [&](int64_t piece) {
    uint32_t next[ShardGroups::kMax];
    std::copy_n(&next_[piece * width], width, next);
    for (int64_t i = begin_of(piece); i < begin_of(piece + 1); ++i) {
      const uint32_t to = next[group_of_[i]]++;
      keys_[to] = keys[i];
      positions_[to] = static_cast<uint32_t>(i);
    }
  });
}

Group BatchPlan::group(int number) const {
  if (groups_->count() == 1) return {0, 0, kNumShards, batch_, nullptr, n_};
  const uint32_t begin = begin_[number];
  return {number,
          groups_->first_shard(number),
          groups_->end_shard(number),
          keys_.data() + begin,
          positions_.data() + begin,
          int64_t{begin_[number + 1]} - begin};
}

}  // namespace embedding
}  // namespace taco
