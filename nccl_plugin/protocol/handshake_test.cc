#include "nccl_plugin/protocol/handshake.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace taco {
namespace harp {
namespace {

using Bytes = std::vector<uint8_t>;

Packet Parsed(const Bytes& datagram) {
  Packet packet;
  EXPECT_EQ(ParsePacket(datagram.data(), datagram.size(), false, &packet), ParseResult::kOk);
  return packet;
}

Hello AHello() {
  Hello hello;
  for (size_t index = 0; index < hello.secret.size(); ++index) {
    hello.secret[index] = static_cast<uint8_t>(7 * index + 1);
  }
  hello.features = kFeatureChecksum;
  hello.chunk_bytes = 8900;
  hello.paths = 64;
  hello.name = "host-17:4242";
  return hello;
}

Welcome AWelcome(size_t places) {
  Welcome welcome{8, 1, 1408, {}};
  for (size_t place = 0; place < places; ++place) {
    Welcome::Place made;
    made.family = place % 2 == 0 ? 4 : 6;
    made.address[15] = static_cast<uint8_t>(place);
    made.port = static_cast<uint16_t>(65535 - place);
    welcome.places.push_back(made);
  }
  return welcome;
}

TEST(Handshake, AWelcomeWithoutAPlaceOrWithAStrangeOneIsRefused) {
  Bytes whole(kHeaderBytes + kMaxControlBytes);
  const auto parses = [&](const Welcome& welcome) {
    Bytes datagram = whole;
    datagram.resize(WriteWelcome(1, welcome, datagram.data()));
    Welcome read;
    return ParseWelcome(Parsed(datagram), &read);
  };
  EXPECT_TRUE(parses(AWelcome(1)));
  EXPECT_FALSE(parses(AWelcome(0)));
  Welcome strange = AWelcome(2);
  strange.places[1].family = 5;
  EXPECT_FALSE(parses(strange));
  strange = AWelcome(2);
  strange.places[0].port = 0;
  EXPECT_FALSE(parses(strange));
}

TEST(Handshake, AHelloComesBackAndHasTheSizeThatWasAskedFor) {
  for (const size_t size : {size_t{0}, size_t{1472}, size_t{9000}, size_t{60000}}) {
    Bytes datagram(std::max(size, kMaxControlBytes));
    datagram.resize(WriteHello(0x1234567890, AHello(), size, datagram.data()));
    EXPECT_TRUE(size == 0 || datagram.size() == size);
    const Packet packet = Parsed(datagram);
    EXPECT_EQ(packet.header.connection, 0x1234567890u);
    Hello hello;
    ASSERT_TRUE(ParseHello(packet, &hello));
    EXPECT_EQ(hello.secret, AHello().secret);
    EXPECT_EQ(hello.features, AHello().features);
    EXPECT_EQ(hello.chunk_bytes, 8900u);
    EXPECT_EQ(hello.paths, 64);
    EXPECT_EQ(hello.name, "host-17:4242");
  }
}

TEST(Handshake, WelcomesRefusalsAndClosesComeBack) {
  Bytes datagram(kHeaderBytes + kMaxControlBytes);
  datagram.resize(WriteWelcome(7, AWelcome(kMaxPlaces), datagram.data()));
  Welcome welcome;
  ASSERT_TRUE(ParseWelcome(Parsed(datagram), &welcome));
  EXPECT_EQ(welcome.sender, 8u);
  EXPECT_EQ(welcome.features, 1u);
  EXPECT_EQ(welcome.chunk_bytes, 1408u);
  ASSERT_EQ(welcome.places.size(), kMaxPlaces);
  for (size_t place = 0; place < kMaxPlaces; ++place) {
    EXPECT_EQ(welcome.places[place].family, place % 2 == 0 ? 4 : 6);
    EXPECT_EQ(welcome.places[place].address[15], place);
    EXPECT_EQ(welcome.places[place].port, 65535 - place);
  }

  datagram.resize(kHeaderBytes + kMaxControlBytes);
  datagram.resize(WriteRefuse({9, std::string(300, 'x')}, datagram.data()));
  Refuse refuse;
  ASSERT_TRUE(ParseRefuse(Parsed(datagram), &refuse));
  EXPECT_EQ(refuse.sender, 9u);
  EXPECT_EQ(refuse.reason, std::string(kMaxReason, 'x'));

  datagram.resize(kHeaderBytes + kMaxControlBytes);
  datagram.resize(WriteClose(7, "bell\a", datagram.data()));
  std::string reason;
  ASSERT_TRUE(ParseClose(Parsed(datagram), &reason));
  EXPECT_EQ(reason, "bell?");
}

TEST(Handshake, EveryCutIsSeen) {
  Bytes whole(kHeaderBytes + kMaxControlBytes);
  Packet packet;
  const auto cut = [&](size_t size) {
    packet.bytes = whole.data() + kHeaderBytes;
    packet.size = size;
    return packet;
  };
  Hello hello;
  Welcome welcome;
  Refuse refuse;
  std::string reason;
  size_t size = WriteHello(1, AHello(), 0, whole.data()) - kHeaderBytes;
  for (size_t some = 0; some < size; ++some) EXPECT_FALSE(ParseHello(cut(some), &hello)) << some;
  size = WriteWelcome(1, AWelcome(2), whole.data()) - kHeaderBytes;
  for (size_t some = 0; some < size; ++some) EXPECT_FALSE(ParseWelcome(cut(some), &welcome));
  EXPECT_FALSE(ParseWelcome(cut(size + 1), &welcome));
  size = WriteRefuse({1, "no"}, whole.data()) - kHeaderBytes;
  for (size_t some = 0; some < size; ++some) EXPECT_FALSE(ParseRefuse(cut(some), &refuse));
  EXPECT_FALSE(ParseRefuse(cut(size + 1), &refuse));
  size = WriteClose(1, "why", whole.data()) - kHeaderBytes;
  for (size_t some = 0; some < size; ++some) EXPECT_FALSE(ParseClose(cut(some), &reason));
  EXPECT_FALSE(ParseClose(cut(size + 1), &reason));
}

TEST(Handshake, RandomBytesAreReadWithinTheirBounds) {
  std::mt19937_64 random(1);
  for (int turn = 0; turn < 20000; ++turn) {
    Bytes bytes(random() % 120);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    Packet packet;
    packet.bytes = bytes.data();
    packet.size = bytes.size();
    Hello hello;
    Welcome welcome;
    Refuse refuse;
    std::string reason;
    EXPECT_TRUE(!ParseHello(packet, &hello) || hello.name.size() <= kMaxName);
    ParseWelcome(packet, &welcome);
    ParseRefuse(packet, &refuse);
    ParseClose(packet, &reason);
  }
}

TEST(Handshake, SecretsAreComparedWhole) {
  Secret one = AHello().secret;
  EXPECT_TRUE(Same(one, AHello().secret));
  for (uint8_t& byte : one) {
    byte ^= 128;
    EXPECT_FALSE(Same(one, AHello().secret));
    byte ^= 128;
  }
}

}  // namespace
}  // namespace harp
}  // namespace taco
