// Sharing a batch out: every key once, in its group, in the order of the batch.
#include "tf_ops/embedding/table/batch_plan.h"

#include <cstdint>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tf_ops/embedding/table/shard_locks.h"
#include "tf_ops/embedding/table/test_util.h"

namespace taco {
namespace embedding {
namespace {

TEST(ShardGroupsTest, GroupsAreRunsOfShardsThatShareNoLock) {
  for (const int count : {1, 2, 4, 8, 16, 32}) {
    SCOPED_TRACE(count);
    const ShardGroups groups(count);
    ASSERT_EQ(groups.count(), count);
    EXPECT_EQ(groups.end_shard(count - 1), kNumShards);
    for (int g = 0; g < count; ++g) {
      EXPECT_EQ(groups.first_shard(g), g == 0 ? 0 : groups.end_shard(g - 1));
      EXPECT_EQ(groups.first_shard(g) % kShardsPerLock, 0);
      for (int s = groups.first_shard(g); s < groups.end_shard(g); ++s) {
        EXPECT_EQ(groups.of_shard(s), g);
      }
    }
  }
}

TEST(ShardGroupsTest, FewGroupsHaveAboutTheSameShareOfTheKeys) {
  for (const int count : {2, 4, 8}) {
    const ShardGroups groups(count);
    for (int g = 0; g < count; ++g) {
      int width = 0;
      for (int s = groups.first_shard(g); s < groups.end_shard(g); ++s) {
        width += GlobalShardMap().width[s];
      }
      EXPECT_NEAR(static_cast<double>(width) * count / (1 << kShardBits), 1.0, 0.25)
          << g << " of " << count;
    }
  }
}

TEST(ShardGroupsTest, ThereAreEnoughForEveryThread) {
  EXPECT_EQ(ShardGroups::For(1).count(), 1);
  for (const int threads : {2, 3, 4, 7, 16}) EXPECT_GE(ShardGroups::For(threads).count(), threads);
  EXPECT_EQ(ShardGroups::For(1000).count(), ShardGroups::kMax);
}

TEST(BatchPlanTest, EveryKeyIsOnceInItsGroupInTheOrderOfTheBatch) {
  std::mt19937_64 random(5);
  BatchPlan plan;  // used again and again, as the table does
  for (const int threads : {1, 2, 3, 16}) {
    ThreadedExecutor executor(threads);
    const ShardGroups& groups = ShardGroups::For(threads);
    for (const int64_t n : {1, 2, 63, 4096, 4097, 20000, 100}) {
      SCOPED_TRACE(std::to_string(n) + " keys, " + std::to_string(threads) + " threads");
      std::vector<int64_t> keys(n);
      for (int64_t& key : keys) key = static_cast<int64_t>(random() % 1000);
      plan.Make(keys.data(), n, groups, &executor);
      std::vector<int> seen(n);
      for (int g = 0; g < groups.count(); ++g) {
        const Group group = plan.group(g);
        EXPECT_EQ(group.number, g);
        int64_t previous = -1;
        for (int64_t i = 0; i < group.count; ++i) {
          const int64_t position = static_cast<int64_t>(group.position(i));
          ASSERT_LT(position, n);
          EXPECT_LT(previous, position);
          previous = position;
          EXPECT_EQ(group.keys[i], keys[position]);
          const int shard = ShardOf(GlobalShardMap(), HashKey(group.keys[i]));
          EXPECT_GE(shard, group.first_shard);
          EXPECT_LT(shard, group.end_shard);
          ++seen[position];
        }
      }
      EXPECT_EQ(seen, std::vector<int>(n, 1));
    }
  }
}

TEST(LockSetTest, AFewKeysWantNoMoreThanTheirOwnLocks) {
  const LockSet all = LockSet::OfShards(0, kNumShards);
  const auto count = [](const LockSet& set) {
    int locks = 0;
    int previous = -1;
    set.ForEach([&](int lock) {
      EXPECT_GT(lock, previous) << "not in ascending order";
      previous = lock;
      ++locks;
    });
    return locks;
  };
  EXPECT_EQ(count(all), kNumLocks);
  const std::vector<int64_t> keys = {1, 2, 3};
  EXPECT_LE(count(LockSet::OfKeys(keys.data(), 3, all)), 3);
  const std::vector<int64_t> many(kNumLocks, 7);
  EXPECT_EQ(count(LockSet::OfKeys(many.data(), kNumLocks, all)), kNumLocks);
}

}  // namespace
}  // namespace embedding
}  // namespace taco
