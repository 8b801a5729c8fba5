// The lookup loop of every instruction set against an obvious one.
#include "tf_ops/embedding/table/lookup_kernels.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "gtest/gtest.h"
#include "tf_ops/embedding/table/simd.h"

namespace taco {
namespace embedding {
namespace {

struct Level {
  const char* name;
  decltype(&v2::LookupKernel) get;
};

std::vector<Level> Levels() {
  std::vector<Level> levels = {{"v2", v2::LookupKernel}};
  if (CpuSimd() >= Simd::kAvx2) levels.push_back({"v3", v3::LookupKernel});
  if (CpuSimd() >= Simd::kAvx512) levels.push_back({"v4", v4::LookupKernel});
  return levels;
}

// Two shards of one table, told apart by the first bit of the hash.
class LookupKernelTest : public ::testing::TestWithParam<size_t> {
 protected:
  static constexpr int64_t kRows = 5000;

  LookupKernelTest() {
    map_.shard_of_prefix.fill(0);
    std::fill(map_.shard_of_prefix.begin() + map_.shard_of_prefix.size() / 2,
              map_.shard_of_prefix.end(), 1);
    for (int s = 0; s < 2; ++s) {
      rows_.push_back(std::make_unique<RowStore>(body_bytes_, &row_arena_));
      indexes_.push_back(std::make_unique<Index>(&arenas_, /*max_displacement=*/20));
      EXPECT_TRUE(indexes_[s]->Reset(0));
    }
    std::mt19937_64 random(vector_bytes_);
    for (int64_t i = 0; i < kRows; ++i) {
      const int64_t key = static_cast<int64_t>(random());
      const uint64_t hash = HashKey(key);
      const int s = ShardOf(map_, hash);
      const RowHandle handle = rows_[s]->Allocate();
      EXPECT_EQ(indexes_[s]->FindOrInsert(hash, key, [&] { return handle; }), handle);
      std::string& row = model_[key];
      for (size_t b = 0; b < vector_bytes_; ++b) row.push_back(static_cast<char>(random()));
      std::memcpy(rows_[s]->Body(handle), row.data(), vector_bytes_);
      keys_.push_back(key);
    }
    for (int s = 0; s < 2; ++s) views_[s] = ShardView(*indexes_[s], *rows_[s]);
  }

  // Looks up n keys, a part of them absent and some twice, into memory that begins `offset` bytes
  // after a cache line.
  void Check(const Level& level, int64_t n, bool stream, size_t offset) {
    SCOPED_TRACE(std::string(level.name) + ", n " + std::to_string(n) + ", stream " +
                 std::to_string(stream) + ", offset " + std::to_string(offset));
    std::mt19937_64 random(n);
    std::vector<int64_t> keys(n);
    for (int64_t& key : keys) {
      key = random() % 4 == 0 ? static_cast<int64_t>(random()) : keys_[random() % keys_.size()];
    }
    const size_t bytes = n * vector_bytes_ + offset + 128;
    std::unique_ptr<uint8_t, decltype(&std::free)> memory(
        static_cast<uint8_t*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64)), &std::free);
    std::memset(memory.get(), 0xAB, bytes);
    uint8_t* values = memory.get() + offset;
    std::vector<uint32_t> missed(n + 1, 77);
    LookupRun run;
    run.keys = keys.data();
    run.n = n;
    run.views = views_;
    run.map = &map_;
    run.values = values;
    run.vector_bytes = vector_bytes_;
    run.stream = stream;
    run.missed = missed.data();
    const int64_t misses = level.get(vector_bytes_)(run);

    std::vector<uint32_t> expected;
    const std::string untouched(vector_bytes_, static_cast<char>(0xAB));
    for (int64_t i = 0; i < n; ++i) {
      const auto it = model_.find(keys[i]);
      if (it == model_.end()) expected.push_back(static_cast<uint32_t>(i));
      const std::string& row = it == model_.end() ? untouched : it->second;
      ASSERT_EQ(std::memcmp(values + i * vector_bytes_, row.data(), vector_bytes_), 0) << i;
    }
    missed.resize(misses);
    std::sort(missed.begin(), missed.end());
    EXPECT_EQ(missed, expected);
    EXPECT_EQ(values[n * vector_bytes_], 0xAB) << "written beyond the end";
  }

  const size_t vector_bytes_ = GetParam();
  const size_t body_bytes_ = (vector_bytes_ + 7) / 8 * 8;
  ExtentSource memory_;
  SlabArena row_arena_{&memory_, RowStore::SlabBytes(body_bytes_)};
  SegmentArenas arenas_{&memory_};
  std::vector<std::unique_ptr<RowStore>> rows_;
  std::vector<std::unique_ptr<Index>> indexes_;
  ShardMap map_;
  ShardView views_[2];
  std::unordered_map<int64_t, std::string> model_;
  std::vector<int64_t> keys_;
};

TEST_P(LookupKernelTest, EveryLevelFindsWhatIsThere) {
  for (const Level& level : Levels()) {
    for (const int64_t n : {0, 1, 2, 5, 6, 7, 11, 12, 13, 15, 16, 17, 31, 32, 33, 63, 1000}) {
      Check(level, n, /*stream=*/false, /*offset=*/0);
      Check(level, n, /*stream=*/false, /*offset=*/4);
      if (vector_bytes_ % 16 != 0) continue;
      for (const size_t offset : {0, 16, 48}) Check(level, n, /*stream=*/true, offset);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(VectorBytes, LookupKernelTest,
                         ::testing::Values(2, 4, 6, 12, 16, 32, 40, 64, 80, 128, 192, 256, 520,
                                           1024, 1040, 16384));

}  // namespace
}  // namespace embedding
}  // namespace taco
