#include "nccl_plugin/protocol/packet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace taco {
namespace harp {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes Sealed(uint8_t* fields, size_t size, const std::string& bytes) {
  SealPacket(fields, size, bytes.data(), bytes.size());
  Bytes datagram(fields, fields + size);
  datagram.insert(datagram.end(), bytes.begin(), bytes.end());
  return datagram;
}

Bytes Data(PacketHeader header, const DataFields& data, const std::string& bytes) {
  uint8_t fields[kDataHeaderBytes];
  header.type = PacketType::kData;
  return Sealed(fields, WriteData(header, data, fields), bytes);
}

Bytes Ack(PacketHeader header, const AckFields& ack) {
  uint8_t fields[kAckHeaderBytes + 8 * kMaxAckWords];
  header.type = PacketType::kAck;
  return Sealed(fields, WriteAck(header, ack, fields), "");
}

Bytes Control(PacketType type, const std::string& bytes) {
  uint8_t fields[kHeaderBytes];
  PacketHeader header;
  header.type = type;
  return Sealed(fields, WriteControl(header, fields), bytes);
}

ParseResult Parse(const Bytes& datagram, Packet* packet, bool checked = false) {
  return ParsePacket(datagram.data(), datagram.size(), checked, packet);
}

ParseResult Parse(const Bytes& datagram, bool checked = false) {
  Packet packet;
  return Parse(datagram, &packet, checked);
}

TEST(Packet, DataComesBackAsItWas) {
  std::mt19937_64 random(1);
  for (int turn = 0; turn < 500; ++turn) {
    PacketHeader header;
    header.flags = kFlagSmall;
    header.path = static_cast<uint16_t>(random());
    header.connection = random();
    header.number = static_cast<uint32_t>(random());
    header.time_us = static_cast<uint32_t>(random());
    const std::string bytes(1 + random() % 2000, static_cast<char>(random()));
    DataFields data;
    data.message = static_cast<uint32_t>(random());
    data.offset = random() % (kMaxMessageBytes - bytes.size());
    const uint64_t room = kMaxMessageBytes - data.offset - bytes.size();
    data.length = data.offset + bytes.size() + (turn % 3 == 0 ? 0 : random() % room);
    data.tag = static_cast<int32_t>(random());
    data.chunk = static_cast<uint32_t>(random());
    if (data.length == data.offset + bytes.size()) header.flags |= kFlagLast;
    Packet packet;
    const Bytes datagram = Data(header, data, bytes);
    ASSERT_EQ(Parse(datagram, &packet), ParseResult::kOk);
    EXPECT_EQ(packet.header.type, PacketType::kData);
    EXPECT_EQ(packet.header.flags, header.flags);
    EXPECT_EQ(packet.header.path, header.path);
    EXPECT_EQ(packet.header.connection, header.connection);
    EXPECT_EQ(packet.header.number, header.number);
    EXPECT_EQ(packet.header.time_us, header.time_us);
    EXPECT_EQ(packet.data.message, data.message);
    EXPECT_EQ(packet.data.offset, data.offset);
    EXPECT_EQ(packet.data.length, data.length);
    EXPECT_EQ(packet.data.tag, data.tag);
    EXPECT_EQ(packet.data.chunk, data.chunk);
    EXPECT_EQ(std::string(packet.bytes, packet.bytes + packet.size), bytes);
  }
}

TEST(Packet, AcksComeBackAsTheyWere) {
  std::mt19937_64 random(2);
  for (size_t words = 0; words <= kMaxAckWords; ++words) {
    AckFields ack;
    ack.highest = static_cast<uint32_t>(random());
    ack.echo_us = static_cast<uint32_t>(random());
    ack.delay_us = static_cast<uint16_t>(random());
    ack.queue_us = static_cast<uint16_t>(random());
    ack.run = static_cast<uint16_t>(random());
    ack.credit = random();
    ack.posted = static_cast<uint32_t>(random());
    ack.words = static_cast<uint8_t>(words);
    for (size_t word = 0; word < words; ++word) ack.bitmap[word] = random();
    Packet packet;
    ASSERT_EQ(Parse(Ack(PacketHeader(), ack), &packet), ParseResult::kOk);
    EXPECT_EQ(packet.ack.highest, ack.highest);
    EXPECT_EQ(packet.ack.echo_us, ack.echo_us);
    EXPECT_EQ(packet.ack.delay_us, ack.delay_us);
    EXPECT_EQ(packet.ack.queue_us, ack.queue_us);
    EXPECT_EQ(packet.ack.run, ack.run);
    EXPECT_EQ(packet.ack.credit, ack.credit);
    EXPECT_EQ(packet.ack.posted, ack.posted);
    EXPECT_EQ(packet.ack.words, ack.words);
    EXPECT_EQ(packet.ack.bitmap, ack.bitmap);
  }
}

TEST(Packet, StandsOnTheWireAsThePageSays) {
  PacketHeader header;
  header.flags = kFlagLast | kFlagAckNow;
  header.path = 0x0102;
  header.connection = 0x1112131415161718;
  header.number = 0x21222324;
  header.time_us = 0x31323334;
  const Bytes datagram =
      Data(header, {0x41424344, 0x515253545556, 0x515253545558, 0x61626364, 0x71727374}, "xy");
  const Bytes wanted = {0x15, 0x03, 0x02, 0x01,  // version and type, flags, path
                        0x00, 0x00, 0x00, 0x00,  // the checksum, which is left out here
                        0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,  // connection
                        0x24, 0x23, 0x22, 0x21, 0x34, 0x33, 0x32, 0x31,  // number, time
                        0x44, 0x43, 0x42, 0x41,                          // message
                        0x56, 0x55, 0x54, 0x53, 0x52, 0x51,              // offset
                        0x58, 0x55, 0x54, 0x53, 0x52, 0x51,              // length
                        0x64, 0x63, 0x62, 0x61, 0x74, 0x73, 0x72, 0x71,
                        'x',  'y'};  // tag, chunk, bytes
  Bytes seen = datagram;
  for (size_t byte = 4; byte < 8; ++byte) seen.at(byte) = 0;
  EXPECT_EQ(seen, wanted);
}

TEST(Packet, EveryChangedBitIsSeen) {
  Bytes datagram = Data(PacketHeader(), {7, 100, 4000}, std::string(300, 'q'));
  for (size_t bit = 0; bit < 8 * datagram.size(); ++bit) {
    datagram[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    EXPECT_NE(Parse(datagram), ParseResult::kOk) << bit;
    datagram[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
  }
  EXPECT_EQ(Parse(datagram), ParseResult::kOk);
}

TEST(Packet, EveryCutIsSeen) {
  AckFields ack;
  ack.words = 3;
  for (const Bytes& whole : {Data(PacketHeader(), {7, 100, 4000}, "some bytes"),
                             Ack(PacketHeader(), ack), Control(PacketType::kProbe, "cookie")}) {
    for (size_t size = 0; size < whole.size(); ++size) {
      EXPECT_NE(Parse(Bytes(whole.begin(), whole.begin() + size)), ParseResult::kOk) << size;
    }
  }
}

TEST(Packet, ACheckedOneNeedsNoChecksum) {
  Bytes datagram = Data(PacketHeader(), {7, 100, 4000}, "bytes");
  datagram[5] ^= 1;
  EXPECT_EQ(Parse(datagram), ParseResult::kChecksum);
  EXPECT_EQ(Parse(datagram, true), ParseResult::kOk);
}

TEST(Packet, SizesThatContradictEachOther) {
  PacketHeader last;
  last.flags = kFlagLast;
  EXPECT_EQ(Parse(Data(last, {1, 0, 0}, "")), ParseResult::kOk);
  EXPECT_EQ(Parse(Data(PacketHeader(), {1, 0, 0}, "")), ParseResult::kRange);
  EXPECT_EQ(Parse(Data(PacketHeader(), {1, 5, 10}, "")), ParseResult::kRange);
  EXPECT_EQ(Parse(Data(last, {1, 6, 10}, "12345")), ParseResult::kRange);
  EXPECT_EQ(Parse(Data(last, {1, kMaxMessageBytes, 10}, "12345")), ParseResult::kRange);
  EXPECT_EQ(Parse(Data(PacketHeader(), {1, 5, 10}, "12345")), ParseResult::kRange);
  EXPECT_EQ(Parse(Data(last, {1, 5, 11}, "12345")), ParseResult::kRange);
  EXPECT_EQ(Parse(Data(last, {1, 5, 10}, "12345")), ParseResult::kOk);
  EXPECT_EQ(Parse(Control(PacketType::kClose, std::string(1025, 'x'))), ParseResult::kRange);
  EXPECT_EQ(Parse(Control(PacketType::kHello, std::string(9000, 0))), ParseResult::kOk);
  EXPECT_EQ(Parse(Bytes(65508, 0x15)), ParseResult::kRange);
}

TEST(Packet, WhatThisVersionDoesNotKnow) {
  Bytes datagram = Control(PacketType::kProbe, "");
  datagram[0] = 0x27;
  EXPECT_EQ(Parse(datagram, true), ParseResult::kVersion);
  for (int type : {0, 9, 15}) {
    datagram[0] = static_cast<uint8_t>(0x10 | type);
    EXPECT_EQ(Parse(datagram, true), ParseResult::kType);
  }
  datagram = Control(PacketType::kProbe, "");
  datagram[1] = 16;
  EXPECT_EQ(Parse(datagram, true), ParseResult::kType);
  AckFields ack;
  datagram = Ack(PacketHeader(), ack);
  datagram[38] = 17;
  EXPECT_EQ(Parse(datagram, true), ParseResult::kType);
  datagram[38] = 0;
  datagram[39] = 1;
  EXPECT_EQ(Parse(datagram, true), ParseResult::kType);
  datagram[39] = 0;
  datagram[53] = 1;
  EXPECT_EQ(Parse(datagram, true), ParseResult::kType);
}

TEST(Packet, EveryResultHasAText) {
  for (int result = 0; result <= static_cast<int>(ParseResult::kChecksum); ++result) {
    EXPECT_THAT(ToText(static_cast<ParseResult>(result)), testing::StartsWith("it"));
  }
}

}  // namespace
}  // namespace harp
}  // namespace taco
