#include "nccl_plugin/io/frame.h"

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace taco {
namespace harp {
namespace {

constexpr Mac kHere = {2, 0, 0, 0, 0, 1}, kThere = {2, 0, 0, 0, 0, 2};

Endpoint At(const std::string& text) { return ParseEndpoint(text).value(); }

std::vector<uint8_t> FrameOf(const Endpoint& from, const Endpoint& to, const std::string& head,
                             const std::string& body) {
  const FrameTemplate common = MakeFrameTemplate(kHere, kThere, from, to);
  std::vector<uint8_t> frame(common.size);
  const auto bytes = [](const std::string& text) {
    return reinterpret_cast<const uint8_t*>(text.data());
  };
  WriteFrameHeader(common, from.port, to.port, bytes(head), head.size(), bytes(body), body.size(),
                   frame.data());
  frame.insert(frame.end(), head.begin(), head.end());
  frame.insert(frame.end(), body.begin(), body.end());
  return frame;
}

// RFC 1071, a word at a time.
uint16_t SlowSum(const std::vector<uint8_t>& bytes) {
  uint32_t sum = 0;
  for (size_t at = 0; at < bytes.size(); at += 2) {
    sum += static_cast<uint32_t>(bytes[at] << 8 | (at + 1 < bytes.size() ? bytes[at + 1] : 0));
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<uint16_t>(sum);
}

std::string Text(const UdpFrame& frame) {
  return {reinterpret_cast<const char*>(frame.payload), frame.size};
}

TEST(Frame, WhatIsWrittenIsRead) {
  std::mt19937 random(1);
  for (int turn = 0; turn < 2000; ++turn) {
    const bool ipv4 = random() % 2 == 0;
    Endpoint from = At(ipv4 ? "10.1.2.3:4242" : "[fd00::1:2]:4242");
    Endpoint to = At(ipv4 ? "10.1.2.4:65535" : "[fd00::ffff]:1");
    from.address[3] = static_cast<uint8_t>(random());
    to.address[1] = static_cast<uint8_t>(random());
    std::string head(random() % 60, 0), body(random() % 1400, 0);
    for (char& each : head) each = static_cast<char>(random());
    for (char& each : body) each = static_cast<char>(random());
    const std::vector<uint8_t> frame = FrameOf(from, to, head, body);
    UdpFrame read;
    ASSERT_TRUE(ParseUdpFrame(frame.data(), frame.size(), &read));
    EXPECT_EQ(read.from, from);
    EXPECT_EQ(read.to, to);
    EXPECT_EQ(Text(read), head + body);
  }
}

TEST(Frame, Ipv4HasTheChecksumOfItsHeader) {
  const std::vector<uint8_t> frame = FrameOf(At("10.1.2.3:1"), At("10.1.2.4:2"), "head", "body");
  EXPECT_EQ(SlowSum({frame.begin() + 14, frame.begin() + 34}), 0xffff);
  EXPECT_EQ(Load16(frame.data() + 14 + 20 + 6), 0) << "UDP has none";
  EXPECT_EQ(Load16(frame.data() + 14 + 6), 0x4000) << "it must not be cut";
}

TEST(Frame, Ipv6HasTheChecksumThatUdpMustHave) {
  std::mt19937 random(2);
  for (int turn = 0; turn < 500; ++turn) {
    std::string head(random() % 9, 0), body(random() % 70, 0);
    for (char& each : head) each = static_cast<char>(random());
    for (char& each : body) each = static_cast<char>(random());
    const std::vector<uint8_t> frame = FrameOf(At("[fd00::1]:77"), At("[fd00::2]:88"), head, body);
    std::vector<uint8_t> covered(frame.begin() + 14 + 8, frame.begin() + 14 + 40);  // addresses
    const auto udp = static_cast<uint16_t>(8 + head.size() + body.size());
    for (const int byte : {0, 0, udp >> 8, udp & 255, 0, 0, 0, 17}) {
      covered.push_back(static_cast<uint8_t>(byte));
    }
    covered.insert(covered.end(), frame.begin() + 14 + 40, frame.end());
    EXPECT_EQ(SlowSum(covered), 0xffff);
    EXPECT_NE(Load16(frame.data() + 14 + 40 + 6), 0) << "0 would mean that there is none";
  }
}

TEST(Frame, PaddingBehindThePacketIsNotRead) {
  std::vector<uint8_t> frame = FrameOf(At("10.1.2.3:1"), At("10.1.2.4:2"), "x", "");
  frame.resize(60);
  UdpFrame read;
  ASSERT_TRUE(ParseUdpFrame(frame.data(), frame.size(), &read));
  EXPECT_EQ(Text(read), "x");
}

TEST(Frame, EveryCutIsRefused) {
  for (const char* to : {"10.1.2.4:2", "[fd00::2]:2"}) {
    const Endpoint from = At(to[0] == '[' ? "[fd00::1]:1" : "10.1.2.3:1");
    const std::vector<uint8_t> frame = FrameOf(from, At(to), "head", "body");
    for (size_t size = 0; size < frame.size(); ++size) {
      const std::vector<uint8_t> cut(frame.begin(), frame.begin() + static_cast<long>(size));
      UdpFrame read;
      EXPECT_FALSE(ParseUdpFrame(cut.data(), cut.size(), &read)) << size;
    }
  }
}

struct Change {
  const char* what;
  size_t at;
  uint8_t value;
};

class Refused : public testing::TestWithParam<Change> {};

// With the IPv4 header's checksum put right, so that it is not what is refused.
TEST_P(Refused, NotOurs) {
  std::vector<uint8_t> frame = FrameOf(At("10.1.2.3:1"), At("10.1.2.4:2"), "head", "body");
  frame[GetParam().at] = GetParam().value;
  Store16(0, frame.data() + 14 + 10);
  const std::vector<uint8_t> header(frame.begin() + 14, frame.begin() + 34);
  Store16(static_cast<uint16_t>(~SlowSum(header)), frame.data() + 14 + 10);
  UdpFrame read;
  EXPECT_FALSE(ParseUdpFrame(frame.data(), frame.size(), &read)) << GetParam().what;
}

INSTANTIATE_TEST_SUITE_P(
    Frame, Refused,
    testing::Values(Change{"VLAN", 12, 0x81}, Change{"version", 14, 0x65},
                    Change{"options", 14, 0x46}, Change{"more fragments", 20, 0x20},
                    Change{"a later fragment", 21, 1}, Change{"TCP", 23, 6},
                    Change{"longer than the frame", 17, 200}, Change{"UDP longer", 39, 200},
                    Change{"UDP shorter", 39, 8}, Change{"shorter than its header", 17, 20},
                    Change{"from port 0", 35, 0}));

TEST(Frame, AWrongChecksumOfTheHeaderIsRefused) {
  std::vector<uint8_t> frame = FrameOf(At("10.1.2.3:1"), At("10.1.2.4:2"), "head", "body");
  for (size_t at = 14; at < 34; ++at) {
    std::vector<uint8_t> wrong = frame;
    wrong[at] ^= 0x10;
    UdpFrame read;
    EXPECT_FALSE(ParseUdpFrame(wrong.data(), wrong.size(), &read)) << at;
  }
}

}  // namespace
}  // namespace harp
}  // namespace taco
