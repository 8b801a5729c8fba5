// The index against std::unordered_map, and the arena and row store below it.
#include "tf_ops/embedding/table/index.h"

#include <cstdint>
#include <random>
#include <unordered_map>
#include <vector>

#include "gtest/gtest.h"
#include "tf_ops/embedding/table/test_util.h"

namespace taco {
namespace embedding {
namespace {

constexpr size_t kStride = 24;

class IndexTest : public ::testing::Test {
 protected:
  IndexTest() { EXPECT_TRUE(index_.Reset(0)); }

  RowHandle Add(int64_t key, uint64_t hash) {
    const RowHandle handle = rows_.Allocate();
    RowLayout::Header(rows_.Row(handle))->key = key;
    EXPECT_TRUE(index_.Insert(hash, handle));
    return handle;
  }

  SlabArena row_arena_{kStride << RowStore::RowsPerSlabLog2(kStride)};
  SlabArena segment_arena_{sizeof(Segment)};
  RowStore rows_{kStride, &row_arena_};
  Index index_{&segment_arena_, &rows_};
};

TEST_F(IndexTest, AgreesWithAMapUnderRandomInsertionsAndErasures) {
  std::mt19937_64 random(1);
  std::unordered_map<int64_t, RowHandle> model;
  for (int64_t round = 0; round < 200000 * SoakFactor(); ++round) {
    const int64_t key = static_cast<int64_t>(random() % 30000) - 15000;
    const uint64_t hash = HashKey(key);
    const auto it = model.find(key);
    ASSERT_EQ(index_.Find(hash, key), it == model.end() ? kNoRow : it->second);
    if (it == model.end() && random() % 3 != 0) {
      model[key] = Add(key, hash);
    } else if (it != model.end() && random() % 3 == 0) {
      index_.Erase(hash, it->second);
      rows_.Free(it->second);
      model.erase(it);
    }
    ASSERT_EQ(index_.size(), static_cast<int64_t>(model.size()));
  }
  for (const auto& [key, handle] : model) ASSERT_EQ(index_.Find(HashKey(key), key), handle);
  EXPECT_GT(index_.growths(), 0);
}

TEST_F(IndexTest, SearchesEndAfterEverythingWasErased) {
  std::vector<std::pair<int64_t, RowHandle>> entries;
  for (int64_t key = 0; key < 5000; ++key) entries.emplace_back(key, Add(key, HashKey(key)));
  for (const auto& [key, handle] : entries) index_.Erase(HashKey(key), handle);
  for (int64_t key = 0; key < 5000; ++key) {
    int probes = 0;
    EXPECT_EQ(index_.Find(HashKey(key), key, &probes), kNoRow);
    EXPECT_EQ(probes, 1) << "an erased entry left an overflow count behind";
  }
}

TEST_F(IndexTest, KeysThatShareBucketAndTagAreToldApart) {
  // Same low 14 bits: same home bucket and same tag, for as many as one segment can hold.
  std::vector<int64_t> keys;
  for (int64_t key = 0; keys.size() < 300; ++key) {
    if ((HashKey(key) & 0xFFF) == 0x123) keys.push_back(key);
  }
  std::vector<RowHandle> handles;
  for (const int64_t key : keys) handles.push_back(Add(key, HashKey(key)));
  for (size_t i = 0; i < keys.size(); ++i) {
    EXPECT_EQ(index_.Find(HashKey(keys[i]), keys[i]), handles[i]);
  }
}

TEST_F(IndexTest, RebuildKeepsEveryEntry) {
  for (int64_t key = 0; key < 20000; ++key) Add(key, HashKey(key));
  const auto rebuilt = index_.Rebuild(100000);
  ASSERT_NE(rebuilt, nullptr);
  EXPECT_EQ(rebuilt->size(), 20000);
  EXPECT_GE(rebuilt->capacity(), 100000);
  for (int64_t key = 0; key < 20000; ++key) {
    EXPECT_EQ(rebuilt->Find(HashKey(key), key), index_.Find(HashKey(key), key));
  }
}

TEST(ShardMapTest, WidthsGrowGeometricallyAndCoverAll) {
  const ShardMap& map = GlobalShardMap();
  std::vector<int> width(kNumShards);
  for (const uint8_t shard : map.shard_of_prefix) ++width[shard];
  EXPECT_EQ(map.shard_of_prefix.front(), 0);
  EXPECT_EQ(map.shard_of_prefix.back(), kNumShards - 1);
  EXPECT_NEAR(static_cast<double>(width[kNumShards - 1]) / width[0], 2.0, 0.1);
}

TEST(HashTest, SequentialKeysSpreadEvenly) {
  std::vector<int> home(Segment::kBuckets);
  for (int64_t key = 0; key < 64000; ++key) ++home[HomeOf(HashKey(key))];
  double chi_squared = 0;
  for (const int n : home) chi_squared += (n - 1000.0) * (n - 1000.0) / 1000.0;
  EXPECT_LT(chi_squared, 120.0);  // 63 degrees of freedom
}

TEST(SlabArenaTest, GivesMemoryBackAndReusesIt) {
  SlabArena arena(40960);
  std::vector<uint8_t*> slabs;
  for (int i = 0; i < 500; ++i) {
    slabs.push_back(arena.Allocate());
    ASSERT_NE(slabs.back(), nullptr);
    slabs.back()[0] = slabs.back()[40959] = 1;
  }
  EXPECT_EQ(arena.bytes(), 500u * 40960);
  for (uint8_t* slab : slabs) arena.Free(slab);
  EXPECT_EQ(arena.bytes(), 0u);
  uint8_t* again = arena.Allocate();
  ASSERT_NE(again, nullptr);
  again[40959] = 1;
  EXPECT_EQ(arena.bytes(), 40960u);
}

TEST(RowStoreTest, CompactMovesTheLastRowsIntoTheGaps) {
  SlabArena arena(kStride << RowStore::RowsPerSlabLog2(kStride));
  RowStore rows(kStride, &arena);
  std::unordered_map<RowHandle, int64_t> key_at;
  for (int64_t key = 0; key < 10000; ++key) {
    const RowHandle handle = rows.Allocate();
    RowLayout::Header(rows.Row(handle))->key = key;
    key_at[handle] = key;
  }
  for (RowHandle handle = 0; handle < 10000; ++handle) {
    if (handle % 10 == 0) continue;
    rows.Free(handle);
    key_at.erase(handle);
  }
  rows.Compact([&](RowHandle from, RowHandle to) {
    key_at[to] = key_at.at(from);
    key_at.erase(from);
  });
  EXPECT_EQ(rows.end(), 1000u);
  EXPECT_EQ(rows.free_rows(), 0u);
  for (const auto& [handle, key] : key_at) {
    ASSERT_LT(handle, 1000u);
    EXPECT_EQ(RowLayout::Header(rows.Row(handle))->key, key);
  }
}

}  // namespace
}  // namespace embedding
}  // namespace taco
