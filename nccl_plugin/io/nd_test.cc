#include "nccl_plugin/io/nd.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace taco {
namespace harp {
namespace {

constexpr Mac kHere = {2, 0, 0, 0, 0, 1}, kThere = {2, 0, 0, 0, 0, 2};
constexpr Ipv6 kMine = {0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xab, 0xcd, 1};
constexpr Ipv6 kTheirs = {0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 2};

TEST(Nd, WhatIsWrittenIsRead) {
  for (const bool answer : {false, true}) {
    const NdPacket packet = {answer, kHere, kMine, kThere, kTheirs, answer ? kMine : kTheirs};
    uint8_t frame[kNdFrameBytes];
    WriteNd(packet, frame);
    NdPacket read;
    ASSERT_TRUE(ParseNd(frame, sizeof(frame), &read));
    EXPECT_EQ(read.answer, answer);
    EXPECT_EQ(read.from_mac, kHere);
    EXPECT_EQ(read.from, kMine);
    EXPECT_EQ(read.target, packet.target);
    if (answer) {
      EXPECT_EQ(read.to_mac, kThere);
      EXPECT_EQ(read.to, kTheirs);
    } else {
      EXPECT_EQ(read.to_mac, (Mac{0x33, 0x33, 0xff, 0x12, 0x34, 2})) << "those that end so";
      EXPECT_EQ(read.to, (Ipv6{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x12, 0x34, 2}));
    }
  }
}

TEST(Nd, EveryChangedBitButThoseOfEthernetAndTrafficClassIsSeen) {
  uint8_t frame[kNdFrameBytes];
  WriteNd({true, kHere, kMine, kThere, kTheirs, kMine}, frame);
  NdPacket read;
  for (size_t size = 0; size < sizeof(frame); ++size) EXPECT_FALSE(ParseNd(frame, size, &read));
  for (size_t bit = 8 * 12; bit < 8 * sizeof(frame); ++bit) {
    if (bit >= 8 * 14 + 4 && bit < 8 * 18) continue;  // traffic class and flow
    uint8_t changed[kNdFrameBytes];
    std::copy(std::begin(frame), std::end(frame), changed);
    changed[bit / 8] ^= static_cast<uint8_t>(1 << (7 - bit % 8));
    EXPECT_FALSE(ParseNd(changed, sizeof(changed), &read)) << bit;
  }
}

TEST(Nd, NobodyIsAGroup) {
  uint8_t frame[kNdFrameBytes];
  NdPacket read;
  WriteNd({true, {3, 0, 0, 0, 0, 1}, kMine, kThere, kTheirs, kMine}, frame);
  EXPECT_FALSE(ParseNd(frame, sizeof(frame), &read));
  WriteNd({true, kHere, kAllNodes, kThere, kTheirs, kMine}, frame);
  EXPECT_FALSE(ParseNd(frame, sizeof(frame), &read));
  WriteNd({true, kHere, kMine, kThere, kTheirs, kAllNodes}, frame);
  EXPECT_FALSE(ParseNd(frame, sizeof(frame), &read));
}

// As Linux 6.18 asked for fd83::101 from fd83::2.
TEST(Nd, AKernelsQuestionIsRead) {
  const std::vector<uint8_t> frame = {
      0x33, 0x33, 0xff, 0x00, 0x01, 0x01, 0xd6, 0xe5, 0x69, 0x79, 0x67, 0xe5, 0x86, 0xdd, 0x60,
      0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff, 0xfd, 0x83, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
      0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00,
      0x00, 0x00, 0x00, 0x00, 0x01, 0xff, 0x00, 0x01, 0x01, 0x87, 0x00, 0xd4, 0x4e, 0x00, 0x00,
      0x00, 0x00, 0xfd, 0x83, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
      0x00, 0x01, 0x01, 0x01, 0x01, 0xd6, 0xe5, 0x69, 0x79, 0x67, 0xe5};
  NdPacket read;
  ASSERT_TRUE(ParseNd(frame.data(), frame.size(), &read));
  EXPECT_FALSE(read.answer);
  EXPECT_EQ(read.from, (Ipv6{0xfd, 0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}));
  EXPECT_EQ(read.target, (Ipv6{0xfd, 0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1}));
  EXPECT_TRUE(std::equal(read.from_mac.begin(), read.from_mac.end(), frame.begin() + 6));
}

}  // namespace
}  // namespace harp
}  // namespace taco
