#include "nccl_plugin/io/arp.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

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

}  // namespace
}  // namespace harp
}  // namespace taco
