// The index against std::unordered_map, and the arena and row store below it.
#include "tf_ops/embedding/table/index.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <unordered_map>
#include <vector>

#include "gtest/gtest.h"
#include "tf_ops/embedding/table/test_util.h"

namespace taco {
namespace embedding {
namespace {

// The key whose hash this is: HashKey's steps backwards.
int64_t UnhashForTest(uint64_t hash) {
  const auto inverse = [](uint64_t odd) {
    uint64_t x = odd;  // right to 3 bits; each round doubles them
    for (int i = 0; i < 5; ++i) x *= 2 - odd * x;
    return x;
  };
  uint64_t x = hash;
  x ^= x >> 32;
  x *= inverse(0x9FB21C651E98DF25ull);
  x ^= x >> 29 ^ x >> 58;
  x *= inverse(0xD6E8FEB86659FD93ull);
  x ^= x >> 32;
  EXPECT_EQ(HashKey(static_cast<int64_t>(x)), hash);
  return static_cast<int64_t>(x);
}

bool Insert(Index* index, uint64_t hash, int64_t key, RowHandle handle) {
  return index->FindOrInsert(hash, key, [&] { return handle; }) == handle;
}

class IndexTest : public ::testing::Test {
 protected:
  IndexTest() { EXPECT_TRUE(index_.Reset(0)); }

  ExtentSource memory_;
  SegmentArenas arenas_{&memory_};
  Index index_{&arenas_, /*max_displacement=*/16};
};

TEST_F(IndexTest, AgreesWithAMapUnderRandomInsertionsAndErasures) {
  std::mt19937_64 random(1);
  std::unordered_map<int64_t, RowHandle> model;
  RowHandle next = 0;
  for (int64_t round = 0; round < 200000 * SoakFactor(); ++round) {
    const int64_t key = static_cast<int64_t>(random() % 30000) - 15000;
    const uint64_t hash = HashKey(key);
    const auto it = model.find(key);
    ASSERT_EQ(index_.Find(hash, key), it == model.end() ? kNoRow : it->second);
    if (it == model.end() && random() % 3 != 0) {
      ASSERT_TRUE(Insert(&index_, hash, key, next));
      model[key] = next++;
    } else if (it != model.end() && random() % 3 == 0) {
      index_.Erase(hash, key);
      model.erase(it);
    }
    ASSERT_EQ(index_.size(), static_cast<int64_t>(model.size()));
  }
  for (const auto& [key, handle] : model) ASSERT_EQ(index_.Find(HashKey(key), key), handle);
  EXPECT_GT(index_.growths(), 0);
  size_t seen = 0;
  index_.ForEachSegment([&](Segment segment) {
    segment.ForEach([&](int64_t key, RowHandle handle) {
      EXPECT_EQ(model.at(key), handle);
      ++seen;
    });
  });
  EXPECT_EQ(seen, model.size());
}

TEST_F(IndexTest, SearchesEndAfterEverythingWasErased) {
  for (int64_t key = 0; key < 5000; ++key) ASSERT_TRUE(Insert(&index_, HashKey(key), key, 1));
  for (int64_t key = 0; key < 5000; ++key) index_.Erase(HashKey(key), key);
  index_.ForEachSegment([](Segment segment) {
    for (int b = 0; b < segment.size(); ++b) {
      EXPECT_EQ(segment.buckets()[b].occupied, 0);
      EXPECT_EQ(segment.buckets()[b].passers, 0) << "an erased entry left its count behind";
      EXPECT_EQ(segment.buckets()[b].passing, 0) << "an erased entry left its bit behind";
    }
  });
  for (int64_t key = 0; key < 5000; ++key) EXPECT_EQ(index_.Find(HashKey(key), key), kNoRow);
}

TEST_F(IndexTest, AbsentKeysAreKnownFromTheirFirstBucket) {
  for (int64_t key = 0; key < 100000; ++key) ASSERT_TRUE(Insert(&index_, HashKey(key), key, 1));
  int64_t past_the_first = 0;
  for (int64_t key = 100000; key < 200000; ++key) {
    const uint64_t hash = HashKey(key);
    const Bucket* home = index_.SegmentOf(hash).Home(hash);
    past_the_first += (home->passing & Bucket::PassBit(hash)) != 0;
  }
  EXPECT_LT(past_the_first, 100000 / 10);
}

// A handle that happens to be half of a key must not be taken for one.
TEST_F(IndexTest, HandlesAreNotKeys) {
  for (int64_t key = 0; key < 2000; ++key) {
    ASSERT_TRUE(Insert(&index_, HashKey(key), key, static_cast<RowHandle>(key % 7)));
  }
  for (uint64_t low = 0; low < 7; ++low) {
    for (uint64_t high = 0; high < 7; ++high) {
      const int64_t key = static_cast<int64_t>(high << 32 | low);
      if (key >= 2000) {
        EXPECT_EQ(index_.Find(HashKey(key), key), kNoRow);
      }
    }
  }
}

TEST_F(IndexTest, KeysThatCrowdInOneBucketAreKeptWithoutGrowth) {
  // One home bucket, and the first 28 bits of the directory: only far down do they differ.
  std::vector<int64_t> keys;
  for (uint64_t i = 0; i < 150; ++i) keys.push_back(UnhashForTest(i << kBucketBits));
  for (size_t i = 0; i < keys.size(); ++i) {
    ASSERT_TRUE(Insert(&index_, HashKey(keys[i]), keys[i], static_cast<RowHandle>(i)));
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    EXPECT_EQ(index_.Find(HashKey(keys[i]), keys[i]), static_cast<RowHandle>(i));
  }
  EXPECT_EQ(index_.growths(), 0);
}

TEST_F(IndexTest, KeysThatNoSplitTellsApartEndInARefusalAndNoMemoryIsEaten) {
  // All directory bits equal.
  std::vector<int64_t> keys;
  for (uint64_t low = 0; low < (uint64_t{1} << kBucketBits); low += 64) {
    keys.push_back(UnhashForTest(low));
  }
  size_t taken = 0;
  while (taken < keys.size() &&
         Insert(&index_, HashKey(keys[taken]), keys[taken], static_cast<RowHandle>(taken))) {
    ++taken;
  }
  EXPECT_EQ(taken, static_cast<size_t>(Segment::kWide * Bucket::kSlots));
  for (size_t i = 0; i < keys.size(); ++i) {
    EXPECT_EQ(index_.Find(HashKey(keys[i]), keys[i]),
              i < taken ? static_cast<RowHandle>(i) : kNoRow);
  }
  EXPECT_LT(index_.bytes(), size_t{1} << 20);
  // Keys of other segments still find room.
  for (int64_t key = 0; key < 10000; ++key) {
    const uint64_t hash = HashKey(key) | uint64_t{1} << (63 - kShardBits);
    ASSERT_TRUE(Insert(&index_, hash, UnhashForTest(hash), static_cast<RowHandle>(key)));
  }
}

TEST_F(IndexTest, RebuildKeepsEveryEntry) {
  for (int64_t key = 0; key < 20000; ++key) {
    ASSERT_TRUE(Insert(&index_, HashKey(key), key, static_cast<RowHandle>(key)));
  }
  const auto rebuilt = index_.Rebuild(100000);
  ASSERT_NE(rebuilt, nullptr);
  EXPECT_EQ(rebuilt->size(), 20000);
  EXPECT_GE(rebuilt->capacity(), 100000);
  for (int64_t key = 0; key < 20000; ++key) {
    EXPECT_EQ(rebuilt->Find(HashKey(key), key), static_cast<RowHandle>(key));
  }
}

TEST_F(IndexTest, AWalkMeetsEveryEntryThoughTheIndexGrowsUnderIt) {
  constexpr int64_t kOld = 3000;
  for (int64_t key = 0; key < kOld; ++key) ASSERT_TRUE(Insert(&index_, HashKey(key), key, 1));
  std::vector<int> seen(kOld);
  uint64_t position = 0;
  int64_t fresh = kOld;
  do {
    uint64_t next = 0;
    index_.At(position, &next).ForEach([&](int64_t key, RowHandle) {
      if (key < kOld) ++seen[key];
    });
    for (int i = 0; i < 700; ++i, ++fresh) ASSERT_TRUE(Insert(&index_, HashKey(fresh), fresh, 2));
    position = next;
  } while (position != 0);
  EXPECT_GT(index_.growths(), 10);
  for (int64_t key = 0; key < kOld; ++key) EXPECT_EQ(seen[key], 1) << key;
}

TEST_F(IndexTest, LoadStaysHigh) {
  double least = 1.0;
  for (int64_t key = 0; key < 200000; ++key) {
    ASSERT_TRUE(Insert(&index_, HashKey(key), key, 1));
    if (key > 20000) least = std::min(least, double(index_.size()) / double(index_.capacity()));
  }
  EXPECT_GT(least, 0.66) << "all segments of one index grow at about the same time";
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
  std::vector<int> home(Segment::kNarrow);
  for (int64_t key = 0; key < 64000; ++key) {
    ++home[(HashKey(key) & ((1 << kBucketBits) - 1)) >> (kBucketBits - 6)];
  }
  double chi_squared = 0;
  for (const int n : home) chi_squared += (n - 1000.0) * (n - 1000.0) / 1000.0;
  EXPECT_LT(chi_squared, 120.0);  // 63 degrees of freedom
}

TEST(SlabArenaTest, GivesMemoryBackAndReusesIt) {
  ExtentSource memory;
  SlabArena arena(&memory, 40960);
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

TEST(SlabArenaTest, RecycledSlabsComeFirst) {
  ExtentSource memory;
  SlabArena arena(&memory, 4096);
  uint8_t* first = arena.Allocate();
  uint8_t* second = arena.Allocate();
  first[0] = 42;
  arena.Recycle(first);
  EXPECT_EQ(arena.bytes(), 4096u);
  EXPECT_EQ(arena.Allocate(), first);
  EXPECT_EQ(first[0], 42) << "its page went back to the system";
  arena.Free(first);
  arena.Free(second);
}

TEST(RowStoreTest, GapsTakeTheRowsBehindAndSlabsGoBack) {
  constexpr size_t kBody = 24;
  ExtentSource memory;
  SlabArena arena(&memory, RowStore::SlabBytes(kBody));
  RowStore rows(kBody, &arena);
  for (uint32_t i = 0; i < 10000; ++i) {
    ASSERT_EQ(rows.Allocate(), i);
    std::memcpy(rows.Body(i) + 8, &i, sizeof(i));
    *rows.Meta(i) = {i, 2 * i};
  }
  for (RowHandle handle = 0; handle < 10000; ++handle) {
    if (handle % 10 != 0) rows.Free(handle);
  }
  const size_t full = rows.bytes();
  std::vector<RowHandle> gaps = rows.Gaps();
  EXPECT_EQ(gaps.size(), 900u);
  std::unordered_map<RowHandle, uint32_t> place;
  for (uint32_t i = 0; i < 10000; i += 10) {
    place[i] = i;
    if (i < 1000) continue;
    rows.Move(i, gaps.back());
    place[i] = gaps.back();
    gaps.pop_back();
  }
  rows.Truncate();
  EXPECT_EQ(rows.end(), 1000u);
  EXPECT_EQ(rows.free_rows(), 0u);
  EXPECT_LT(rows.bytes(), full / 5);
  for (const auto& [i, handle] : place) {
    uint32_t kept = 0;
    std::memcpy(&kept, rows.Body(handle) + 8, sizeof(kept));
    EXPECT_EQ(kept, i);
    EXPECT_EQ(rows.Meta(handle)->freq, i);
    EXPECT_EQ(rows.Meta(handle)->step, 2 * i);
  }
}

}  // namespace
}  // namespace embedding
}  // namespace taco
