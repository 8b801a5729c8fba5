#include "nccl_plugin/io/arp.h"

#include <cstdint>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace taco {
namespace harp {
namespace {

constexpr Mac kHere = {2, 0, 0, 0, 0, 1}, kThere = {2, 0, 0, 0, 0, 2};

TEST(Arp, WhatIsWrittenIsRead) {
  for (const bool reply : {false, true}) {
    const ArpPacket packet = {reply, kHere, {10, 9, 0, 1}, kThere, {10, 9, 0, 2}};
    uint8_t frame[kArpFrameBytes];
    WriteArp(packet, frame);
    ArpPacket read;
    ASSERT_TRUE(ParseArp(frame, sizeof(frame), &read));
    EXPECT_EQ(read.reply, reply);
    EXPECT_EQ(read.from_mac, kHere);
    EXPECT_EQ(read.from, packet.from);
    EXPECT_EQ(read.to_mac, kThere);
    EXPECT_EQ(read.to, packet.to);
    EXPECT_EQ(frame[0], reply ? 2 : 0xff) << "a question goes to all";
  }
}

TEST(Arp, WhatIsWrongIsRefused) {
  uint8_t frame[kArpFrameBytes];
  WriteArp({true, kHere, {10, 9, 0, 1}, kThere, {10, 9, 0, 2}}, frame);
  ArpPacket read;
  for (size_t size = 0; size < sizeof(frame); ++size) EXPECT_FALSE(ParseArp(frame, size, &read));
  for (const size_t at : {12, 14, 15, 16, 18, 19, 20, 21}) {
    uint8_t changed[kArpFrameBytes];
    std::copy(std::begin(frame), std::end(frame), changed);
    changed[at] ^= 0x40;
    EXPECT_FALSE(ParseArp(changed, sizeof(changed), &read)) << at;
  }
  WriteArp({true, {3, 0, 0, 0, 0, 1}, {10, 9, 0, 1}, kThere, {10, 9, 0, 2}}, frame);
  EXPECT_FALSE(ParseArp(frame, sizeof(frame), &read)) << "a group is nobody";
}

TEST(ArpTable, KnowsThoseThatItWasToldAndNoOthers) {
  const auto table = std::make_unique<ArpTable>();
  std::mt19937 random(3);
  std::vector<std::pair<Ipv4, Mac>> told;
  for (int i = 0; i < 600; ++i) {
    const Ipv4 address = {10, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i), 1};
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

TEST(ArpTable, ThatIsFullTakesNoMoreAndKeepsWhatItHas) {
  const auto table = std::make_unique<ArpTable>();
  for (size_t i = 0; i < ArpTable::kSlots; ++i) {
    ASSERT_TRUE(table->Learn({1, 1, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i)}, kHere));
  }
  EXPECT_FALSE(table->Learn({2, 2, 2, 2}, kThere));
  Mac mac;
  EXPECT_FALSE(table->Find({2, 2, 2, 2}, &mac));
  EXPECT_TRUE(table->Find({1, 1, 3, 255}, &mac));
}

TEST(ArpTable, IsReadWhileItIsWritten) {
  const auto table = std::make_unique<ArpTable>();
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
