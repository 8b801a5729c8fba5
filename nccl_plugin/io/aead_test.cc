#include "nccl_plugin/io/aead.h"

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "nccl_plugin/io/wire_for_test.h"

namespace taco {
namespace harp {
namespace {

class AeadTest : public testing::Test {
 protected:
  std::unique_ptr<PacketIo> Open(uint8_t key = 1) {
    AeadKey bytes;
    bytes.fill(key);
    auto wire = std::make_unique<WireForTest>(&wire_);
    below_ = wire.get();
    std::string error;
    std::unique_ptr<PacketIo> io = WithAead(std::move(wire), bytes, &error);
    EXPECT_NE(io, nullptr) << error;
    return io;
  }

  static size_t Send(PacketIo* io, const std::string& head, const std::string& body) {
    PacketIo::Outgoing packet;
    packet.head = reinterpret_cast<const uint8_t*>(head.data());
    packet.head_bytes = static_cast<uint32_t>(head.size());
    packet.body = reinterpret_cast<const uint8_t*>(body.data());
    packet.body_bytes = static_cast<uint32_t>(body.size());
    return io->Send(&packet, 1);
  }

  static std::vector<std::string> Receive(PacketIo* io) {
    std::vector<std::string> all;
    PacketIo::Incoming packets[100];
    while (const size_t count = io->Receive(packets, 100)) {
      for (size_t i = 0; i < count; ++i) {
        all.emplace_back(packets[i].bytes, packets[i].bytes + packets[i].size);
      }
    }
    return all;
  }

  std::deque<std::string> wire_;
  WireForTest* below_ = nullptr;
};

TEST_F(AeadTest, WhatIsSentArrivesAndIsNotToBeRead) {
  const auto sender = Open(), receiver = Open();
  EXPECT_EQ(sender->max_packet(), 1500 - kAeadBytes);
  const std::string secret(200, 's');
  Send(sender.get(), "head", secret);
  Send(sender.get(), "", "");
  Send(sender.get(), std::string(sender->max_packet(), 'x'), "");
  ASSERT_EQ(wire_.size(), 3u);
  EXPECT_EQ(wire_[0].size(), 204 + kAeadBytes);
  EXPECT_EQ(wire_[0].find("ssss"), std::string::npos);
  const std::vector<std::string> got = Receive(receiver.get());
  ASSERT_EQ(got.size(), 3u);
  EXPECT_EQ(got[0], "head" + secret);
  EXPECT_EQ(got[1], "");
  EXPECT_EQ(got[2].size(), sender->max_packet());
  EXPECT_EQ(receiver->stats().refused, 0u);
}

TEST_F(AeadTest, EqualPacketsLookUnlike) {
  std::set<std::string> seen;
  for (int opened = 0; opened < 5; ++opened) {
    const auto sender = Open();
    for (int i = 0; i < 20; ++i) Send(sender.get(), "head", "body");
  }
  for (const std::string& each : wire_) seen.insert(each.substr(24));
  EXPECT_EQ(seen.size(), 100u);
}

TEST_F(AeadTest, AnyBitThatChangesIsNoticed) {
  const auto sender = Open(), receiver = Open();
  Send(sender.get(), "head", "body");
  const std::string packet = wire_.front();
  wire_.clear();
  for (size_t bit = 0; bit < 8 * packet.size(); ++bit) {
    std::string changed = packet;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << bit % 8));
    wire_.push_back(changed);
  }
  for (size_t size = 0; size < packet.size(); ++size) wire_.push_back(packet.substr(0, size));
  wire_.push_back(packet + "x");
  const size_t all = wire_.size();
  EXPECT_TRUE(Receive(receiver.get()).empty());
  EXPECT_EQ(receiver->stats().refused, all);
  wire_.push_back(packet);
  EXPECT_EQ(Receive(receiver.get()), std::vector<std::string>{"headbody"});
}

TEST_F(AeadTest, AnotherKeyAndNoKeyAreRefused) {
  const auto sender = Open(1), other = Open(2);
  Send(sender.get(), "head", "body");
  wire_.push_back("a packet of somebody who has no key, and is as long as one that has");
  EXPECT_TRUE(Receive(other.get()).empty());
  EXPECT_EQ(other->stats().refused, 2u);
}

TEST_F(AeadTest, NoiseIsRefusedAndDoesNotPushOutThoseWhoHaveTheKey) {
  const auto sender = Open(), receiver = Open();
  std::mt19937_64 random(1);
  for (int i = 0; i < 5000; ++i) {
    std::string noise(random() % 1600, 0);
    for (char& c : noise) c = static_cast<char>(random());
    wire_.push_back(noise);
    if (i % 100 == 0) Send(sender.get(), "head", std::to_string(i));
  }
  EXPECT_EQ(Receive(receiver.get()).size(), 50u);
  EXPECT_EQ(receiver->stats().refused, 5000u);
}

// A caller takes fewer than kLeft for all that there is, and comes again much later.
TEST_F(AeadTest, RefusedPacketsHideNoneBehindThem) {
  const auto sender = Open(), receiver = Open();
  for (int i = 0; i < 400; ++i) {
    if (i % 8 == 0) wire_.push_back("noise");
    Send(sender.get(), "head", std::to_string(i));
  }
  PacketIo::Incoming packets[PacketIo::kLeft];
  int next = 0;
  size_t count;
  do {
    count = receiver->Receive(packets, PacketIo::kLeft);  // as much as sockets give at once
    for (size_t i = 0; i < count; ++i) {
      EXPECT_EQ(std::string(packets[i].bytes, packets[i].bytes + packets[i].size),
                "head" + std::to_string(next++));
    }
  } while (count >= PacketIo::kLeft);
  EXPECT_EQ(next, 400);
  EXPECT_EQ(receiver->stats().refused, 50u);
}

TEST_F(AeadTest, MoreSendersThanAreRemembered) {
  const auto receiver = Open();
  std::vector<std::unique_ptr<PacketIo>> senders;
  for (int i = 0; i < 80; ++i) senders.push_back(Open());
  for (int round = 0; round < 3; ++round) {
    for (const auto& sender : senders) Send(sender.get(), "head", "body");
    EXPECT_EQ(Receive(receiver.get()).size(), 80u);
  }
}

TEST_F(AeadTest, AFullQueueIsTold) {
  const auto sender = Open();
  WireForTest* const below = below_;
  const auto receiver = Open();
  std::vector<PacketIo::Outgoing> packets(150);
  const uint8_t bytes[] = {1, 2, 3};
  for (PacketIo::Outgoing& each : packets) {
    each.head = bytes;
    each.head_bytes = 3;
  }
  size_t taken = 0;
  while (taken < packets.size()) {
    below->room = 7;
    const size_t now = sender->Send(packets.data() + taken, packets.size() - taken);
    EXPECT_LE(now, 7u);
    taken += now;
  }
  EXPECT_EQ(Receive(receiver.get()).size(), 150u);
}

TEST_F(AeadTest, WhatIsTooLargeIsLost) {
  const auto sender = Open();
  EXPECT_EQ(Send(sender.get(), std::string(1490, 'x'), ""), 1u);
  EXPECT_TRUE(wire_.empty());
}

TEST(AeadKeyText, IsSixtyFourDigits) {
  const std::string digits = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
  const std::optional<AeadKey> key = ParseAeadKey(" " + digits + "\n");
  ASSERT_TRUE(key);
  EXPECT_EQ((*key)[1], 0x11);
  EXPECT_EQ((*key)[15], 0xff);
  EXPECT_EQ((*key)[31], 0xff);
  for (const std::string& text :
       {std::string(), digits.substr(1), digits + "0", "x" + digits.substr(1),
        digits.substr(0, 32) + " " + digits.substr(32), digits + " 0"}) {
    EXPECT_FALSE(ParseAeadKey(text)) << text;
  }
}

}  // namespace
}  // namespace harp
}  // namespace taco
