#include "tf_ops/embedding/table/extent_source.h"

#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <random>
#include <utility>

#include "gtest/gtest.h"

namespace taco {
namespace embedding {
namespace {

TEST(ExtentSourceTest, ExtentsOfAllSizesFillOneChunkAfterTheOther) {
  ExtentSource memory;
  uint8_t* first = memory.Allocate(size_t{96} << 10);
  uint8_t* second = memory.Allocate(size_t{128} << 10);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(second, first + (size_t{96} << 10));
  EXPECT_EQ(memory.mapped_bytes(), ExtentSource::kHugePage);
  // One that does not fit into what is left of the chunk.
  uint8_t* large = memory.Allocate(size_t{3} << 20);
  ASSERT_NE(large, nullptr);
  large[0] = large[(size_t{3} << 20) - 1] = 1;
  EXPECT_EQ(memory.mapped_bytes(), 3 * ExtentSource::kHugePage);
  memory.Free(large, size_t{3} << 20);
  EXPECT_EQ(memory.mapped_bytes(), ExtentSource::kHugePage);
}

// Against a model: extents in use never overlap and keep what was written, a freed one comes back
// empty, and what is mapped goes back with the last extent of its chunk.
TEST(ExtentSourceTest, AgreesWithAModel) {
  const size_t sizes[] = {size_t{4} << 10, size_t{96} << 10, size_t{128} << 10, size_t{640} << 10};
  std::mt19937 random(7);
  ExtentSource memory;
  std::map<uint8_t*, std::pair<size_t, uint32_t>> used;  // size and what was written
  for (uint32_t turn = 1; turn < 4000; ++turn) {
    // Grows and shrinks in turn.
    const uint32_t of_four = (turn / 500) % 2 == 0 ? 3 : 1;
    if (used.empty() || random() % 4 < of_four) {
      const size_t bytes = sizes[random() % 4];
      uint8_t* extent = memory.Allocate(bytes);
      ASSERT_NE(extent, nullptr);
      ASSERT_EQ(reinterpret_cast<uintptr_t>(extent) % ExtentSource::kPage, 0u);
      const auto after = used.lower_bound(extent);
      if (after != used.end()) {
        ASSERT_LE(extent + bytes, after->first);
      }
      if (after != used.begin()) {
        const auto before = std::prev(after);
        ASSERT_LE(before->first + before->second.first, extent);
      }
      uint32_t there;
      std::memcpy(&there, extent, sizeof(there));
      EXPECT_EQ(there, 0u) << "memory of an extent that was freed";
      std::memcpy(extent, &turn, sizeof(turn));
      std::memcpy(extent + bytes - sizeof(turn), &turn, sizeof(turn));
      used[extent] = {bytes, turn};
      continue;
    }
    const auto it = std::next(used.begin(), random() % used.size());
    uint32_t ends[2];
    std::memcpy(&ends[0], it->first, sizeof(uint32_t));
    std::memcpy(&ends[1], it->first + it->second.first - sizeof(uint32_t), sizeof(uint32_t));
    EXPECT_EQ(ends[0], it->second.second);
    EXPECT_EQ(ends[1], it->second.second);
    memory.Free(it->first, it->second.first);
    used.erase(it);
  }
  for (const auto& [extent, what] : used) memory.Free(extent, what.first);
  EXPECT_EQ(memory.mapped_bytes(), 0u);
}

}  // namespace
}  // namespace embedding
}  // namespace taco
