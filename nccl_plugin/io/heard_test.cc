#include "nccl_plugin/io/heard.h"

#include <cstdint>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace taco {
namespace harp {
namespace {

constexpr Mac kHere = {2, 0, 0, 0, 0, 1}, kThere = {2, 0, 0, 0, 0, 2};

TEST(HeardTable, KnowsThoseThatItWasToldAndNoOthers) {
  const auto table = std::make_unique<HeardTable>();
  std::mt19937 random(3);
  std::vector<std::pair<HeardTable::Address, Mac>> told;
  for (int i = 0; i < 600; ++i) {
    const HeardTable::Address address = {10, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i),
                                         1};
    const Mac mac = {2, static_cast<uint8_t>(random()), 0, 0, 0, static_cast<uint8_t>(random())};
    ASSERT_TRUE(table->Learn(address, mac));
    told.push_back({address, mac});
  }
  Mac mac;
  for (const auto& [address, expected] : told) {
    ASSERT_TRUE(table->Find(address, &mac));
    EXPECT_EQ(mac, expected);
  }
  EXPECT_FALSE(table->Find({10, 0, 0, 2}, &mac));
  ASSERT_TRUE(table->Learn(told[0].first, kThere));
  ASSERT_TRUE(table->Find(told[0].first, &mac));
  EXPECT_EQ(mac, kThere) << "the last word counts";
}

TEST(HeardTable, TellsAddressesApartByAllOfThem) {
  const auto table = std::make_unique<HeardTable>();
  for (size_t byte = 0; byte < 16; ++byte) {
    HeardTable::Address address = {};
    address[byte] = 1;
    ASSERT_TRUE(table->Learn(address, {2, 0, 0, 0, 0, static_cast<uint8_t>(byte)}));
  }
  Mac mac;
  EXPECT_FALSE(table->Find({}, &mac));
  for (size_t byte = 0; byte < 16; ++byte) {
    HeardTable::Address address = {};
    address[byte] = 1;
    ASSERT_TRUE(table->Find(address, &mac));
    EXPECT_EQ(mac[5], byte);
  }
}

TEST(HeardTable, ThatIsFullTakesNoMoreAndKeepsWhatItHas) {
  const auto table = std::make_unique<HeardTable>();
  for (size_t i = 0; i < HeardTable::kSlots; ++i) {
    ASSERT_TRUE(table->Learn({1, 1, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i)}, kHere));
  }
  EXPECT_FALSE(table->Learn({2, 2, 2, 2}, kThere));
  Mac mac;
  EXPECT_FALSE(table->Find({2, 2, 2, 2}, &mac));
  EXPECT_TRUE(table->Find({1, 1, 3, 255}, &mac));
}

TEST(HeardTable, IsReadWhileItIsWritten) {
  const auto table = std::make_unique<HeardTable>();
  std::thread writer([&] {
    for (int i = 0; i < 20000; ++i) {
      const auto byte = static_cast<uint8_t>(i);
      table->Learn({10, 0, 0, static_cast<uint8_t>(i % 50)}, {2, byte, byte, byte, byte, byte});
    }
  });
  for (int i = 0; i < 20000; ++i) {
    Mac mac;
    if (!table->Find({10, 0, 0, static_cast<uint8_t>(i % 50)}, &mac)) continue;
    EXPECT_EQ(mac, (Mac{2, mac[1], mac[1], mac[1], mac[1], mac[1]})) << "of one piece";
  }
  writer.join();
}

}  // namespace
}  // namespace harp
}  // namespace taco
