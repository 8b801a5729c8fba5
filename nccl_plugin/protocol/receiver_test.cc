// A receiver and packets that no sender of ours would send, or that come when they should not.
// Whole transfers are tested in nccl_plugin/simulation.

#include "nccl_plugin/protocol/receiver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <string>
#include <vector>

namespace taco {
namespace harp {
namespace {

constexpr int64_t kLater = 1'000'000;

class ReceiverTest : public testing::Test {
 protected:
  ReceiverTest()
      : receiver_([credit = &pool_] {
          ReceiverOptions options;
          options.paths = 2;
          options.credit = credit;
          return options;
        }()) {}

  // Bytes of a message, as the next packet of a path.
  void Come(uint32_t message, uint64_t offset, uint64_t length, const std::string& bytes,
            uint32_t chunk, int32_t tag = 0, uint16_t path = 0) {
    Packet packet;
    packet.header.type = PacketType::kData;
    packet.header.flags = kFlagAckNow;
    packet.header.path = path;
    packet.header.number = number_++;
    packet.data = {message, offset, length, tag, chunk};
    packet.bytes = reinterpret_cast<const uint8_t*>(bytes.data());
    packet.size = bytes.size();
    receiver_.OnData(packet, 0, 0);
  }

  // The acknowledgements that are due; a second look finds none.
  std::vector<Packet> Acks() {
    static Emission out[16];
    const size_t count = receiver_.Poll(kLater, out, 16);
    std::vector<Packet> packets(count);
    for (size_t index = 0; index < count; ++index) {
      EXPECT_EQ(ParsePacket(out[index].head, out[index].head_bytes, false, &packets[index]),
                ParseResult::kOk);
    }
    EXPECT_EQ(receiver_.Poll(kLater, out, 16), 0u);
    return packets;
  }

  uint64_t Post(std::string* bytes, int32_t tag = 0) {
    const Receiver::Buffer buffer{bytes->data(), bytes->size(), tag};
    uint64_t group = 99;
    EXPECT_TRUE(receiver_.Post(&buffer, 1, &group));
    return group;
  }

  CreditPool pool_{9000};
  Receiver receiver_;
  uint32_t number_ = 0;
};

TEST_F(ReceiverTest, AMessageWithoutABufferIsNotAcknowledged) {
  Come(0, 0, 3, "abc", 0);
  EXPECT_TRUE(Acks().empty());
  std::string bytes(3, '-');
  const uint64_t group = Post(&bytes);
  const std::vector<Packet> told = Acks();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].header.flags, kFlagNoneCame);
  EXPECT_EQ(told[0].ack.posted, 1u);
  uint64_t size = 0;
  EXPECT_FALSE(receiver_.Done(group, &size));
  Come(0, 0, 3, "abc", 0);
  EXPECT_EQ(Acks().size(), 1u);
  EXPECT_TRUE(receiver_.Done(group, &size));
  EXPECT_EQ(size, 3u);
  EXPECT_EQ(bytes, "abc");
}

TEST_F(ReceiverTest, BuffersAreToldAtOnceOnlyWhereTheSenderHasFewLeft) {
  std::string bytes[5];
  for (std::string& each : bytes) each.assign(3, '-');
  Post(&bytes[0]);
  EXPECT_EQ(Acks().size(), 1u);
  Post(&bytes[1]);
  EXPECT_EQ(Acks().size(), 1u);
  Post(&bytes[2]);
  Post(&bytes[3]);
  EXPECT_TRUE(Acks().empty());
  Come(0, 0, 3, "abc", 0);  // whose acknowledgement tells
  ASSERT_EQ(Acks().front().ack.posted, 4u);
  Come(1, 0, 3, "def", 1);
  Come(2, 0, 3, "ghi", 2);
  EXPECT_EQ(Acks().size(), 1u);
  Post(&bytes[4]);
  EXPECT_EQ(Acks().size(), 1u);
}

TEST_F(ReceiverTest, CreditIsAShareWhereManyReceiversWait) {
  std::string bytes(6, '-');
  Post(&bytes);
  EXPECT_EQ(Acks().front().ack.credit, kAllCredit);
  std::deque<CreditShare> others;
  for (int count = 0; count < 8; ++count) others.emplace_back(&pool_).Set(true, true);
  Come(0, 0, 6, "abc", 0);  // in the middle of a message, as the eight others are
  EXPECT_EQ(Acks().front().ack.credit, 1000u);
  others.resize(0);
  Come(0, 3, 6, "def", 1);
  EXPECT_EQ(Acks().front().ack.credit, kAllCredit);
}

TEST_F(ReceiverTest, BytesThatCameTwiceCountOnce) {
  std::string bytes(6, '-');
  const uint64_t group = Post(&bytes);
  Come(0, 0, 6, "abc", 0);
  Come(0, 0, 6, "abc", 0);
  uint64_t size;
  EXPECT_FALSE(receiver_.Done(group, &size));
  EXPECT_EQ(receiver_.duplicates(), 1u);
  Come(0, 3, 6, "def", 1);
  EXPECT_TRUE(receiver_.Done(group, &size));
  Come(0, 3, 6, "xxx", 1);  // long after it was done
  EXPECT_EQ(bytes, "abcdef");
  EXPECT_EQ(Acks().size(), 1u);  // what came twice is acknowledged too
}

TEST_F(ReceiverTest, ChunksBeyondTheWindowAreLeft) {
  std::string bytes(6, '-');
  Post(&bytes);
  Come(0, 0, 6, "abc", kChunkWindow);
  EXPECT_EQ(bytes, "------");
  EXPECT_TRUE(receiver_.failure().empty());
}

TEST_F(ReceiverTest, PathsThatAreNotThereAreLeft) {
  std::string bytes(3, '-');
  Post(&bytes);
  Come(0, 0, 3, "abc", 0, 0, 2);
  EXPECT_EQ(bytes, "---");
}

TEST_F(ReceiverTest, WhatContradictsItselfIsAFailure) {
  std::string bytes(6, '-');
  Post(&bytes);
  Come(0, 0, 6, "abc", 0);
  Come(0, 3, 5, "de", 1);
  EXPECT_THAT(receiver_.failure(), testing::HasSubstr("6 bytes by one packet and 5 by another"));
  EXPECT_EQ(bytes, "abc---");
}

TEST_F(ReceiverTest, AMessageThatIsTooLongTouchesNothing) {
  std::string bytes(6, '-');
  Post(&bytes);
  Come(0, 0, 7, "abc", 0);
  EXPECT_THAT(receiver_.failure(), testing::HasSubstr("7 bytes came for a buffer of 6"));
  EXPECT_EQ(bytes, "------");
}

TEST_F(ReceiverTest, ATagThatNobodyWaitsForIsAFailure) {
  std::string one(3, '-'), two(3, '-');
  const Receiver::Buffer buffers[] = {{one.data(), 3, 7}, {two.data(), 3, 8}};
  uint64_t group;
  ASSERT_TRUE(receiver_.Post(buffers, 2, &group));
  Come(0, 0, 3, "abc", 0, 8);
  EXPECT_EQ(two, "abc");
  Come(1, 0, 3, "def", 1, 8);
  EXPECT_THAT(receiver_.failure(), testing::HasSubstr("tag 8 came for 2 buffers"));
  EXPECT_EQ(one, "---");
}

TEST_F(ReceiverTest, SoManyGroupsAndNoMore) {
  std::string bytes(1, '-');
  for (int group = 0; group < Receiver::kMaxGroups; ++group) Post(&bytes);
  const Receiver::Buffer buffer{bytes.data(), 1, 0};
  uint64_t group;
  EXPECT_FALSE(receiver_.Post(&buffer, 1, &group));
  Come(0, 0, 0, "", 0);
  uint64_t size;
  EXPECT_TRUE(receiver_.Done(0, &size));
  EXPECT_TRUE(receiver_.Post(&buffer, 1, &group));
}

TEST_F(ReceiverTest, MemoryIsInUseUntilItsMessageIsThere) {
  std::string first(4, '-'), second(4, '-');
  Post(&first);
  Post(&second);
  EXPECT_TRUE(receiver_.Uses(first.data(), 1));
  EXPECT_TRUE(receiver_.Uses(first.data() + 3, 100));
  EXPECT_FALSE(receiver_.Uses(first.data() + 4, 1));
  EXPECT_FALSE(receiver_.Uses(first.data() - 1, 1));
  Come(0, 0, 4, "abcd", 0);
  EXPECT_FALSE(receiver_.Uses(first.data(), 4));
  EXPECT_TRUE(receiver_.Uses(second.data(), 4));
}

}  // namespace
}  // namespace harp
}  // namespace taco
