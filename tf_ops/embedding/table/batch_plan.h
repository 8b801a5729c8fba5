// BatchPlan: a batch shared out to groups of shards, for several threads to work on.
#ifndef TF_OPS_EMBEDDING_TABLE_BATCH_PLAN_H_
#define TF_OPS_EMBEDDING_TABLE_BATCH_PLAN_H_

#include <array>
#include <cstdint>
#include <vector>

#include "tf_ops/embedding/table/executor.h"
#include "tf_ops/embedding/table/hash.h"

namespace taco {
namespace embedding {

// The shards, cut into groups of neighbours with about the same share of the keys.
class ShardGroups {
 public:
  static constexpr int kMax = 32;

  // count: a power of two, up to kMax. No lock (kShardsPerLock) guards shards of two groups.
  explicit ShardGroups(int count);

  int count() const { return count_; }
  int of_shard(int shard) const { return group_of_[shard]; }
  int first_shard(int group) const { return first_[group]; }
  int end_shard(int group) const { return first_[group + 1]; }

  // Enough to keep the threads busy to the end. No more than that: a group's keys are visited in
  // the order of the batch, so that few groups read the caller's rows in long stretches.
  static const ShardGroups& For(int parallelism);

 private:
  int count_;
  std::array<uint8_t, kNumShards> group_of_;
  std::array<uint8_t, kMax + 1> first_;
};

// A group's part of a batch, in the order of the batch.
struct Group {
  int number;
  int first_shard;
  int end_shard;
  const int64_t* keys;        // (count)
  const uint32_t* positions;  // (count) in the batch; null: 0 ... count - 1
  int64_t count;

  size_t position(int64_t i) const { return positions == nullptr ? i : positions[i]; }
};

class BatchPlan {
 public:
  // keys (n) must live as long as the groups are used; n is below 2^32.
  void Make(const int64_t* keys, int64_t n, const ShardGroups& groups, Executor* executor);

  Group group(int number) const;

 private:
  const ShardGroups* groups_;
  const int64_t* batch_;  // (n) the keys as they came
  int64_t n_;
  // Sorted by group, those of group g from begin_[g] on; not filled for one group.
  std::vector<int64_t> keys_;
  std::vector<uint32_t> positions_;
  std::vector<uint32_t> begin_;
  std::vector<uint8_t> group_of_;  // by position; while planning
  std::vector<uint32_t> next_;     // (pieces, groups); while planning
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_BATCH_PLAN_H_
