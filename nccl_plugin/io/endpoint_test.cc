#include "nccl_plugin/io/endpoint.h"

#include <gtest/gtest.h>
#include <net/if.h>
#include <sys/socket.h>

#include <random>

#include "nccl_plugin/io/socket_address.h"

namespace taco {
namespace harp {
namespace {

Endpoint RandomEndpoint(std::mt19937_64* random) {
  Endpoint endpoint;
  endpoint.family = (*random)() % 2 == 0 ? Family::kIpv4 : Family::kIpv6;
  const size_t bytes = endpoint.family == Family::kIpv4 ? 4 : 16;
  for (size_t i = 0; i < bytes; ++i) endpoint.address[i] = static_cast<uint8_t>((*random)() % 3);
  endpoint.port = static_cast<uint16_t>((*random)());
  if (endpoint.family == Family::kIpv6 && (*random)() % 2 == 0) {
    endpoint.scope = static_cast<uint32_t>((*random)());
  }
  return endpoint;
}

TEST(Endpoint, TextIsAsPeopleWriteIt) {
  for (const char* text : {"127.0.0.1:4242", "[::1]:4242", "[fe80::1%7]:1", "0.0.0.0:65535"}) {
    const std::optional<Endpoint> endpoint = ParseEndpoint(text);
    ASSERT_TRUE(endpoint) << text;
    EXPECT_EQ(ToText(*endpoint), text);
  }
  EXPECT_EQ(ToText(Endpoint()), "nowhere");
}

TEST(Endpoint, AnAddressAloneHasPortZero) {
  for (const char* text : {"10.1.2.3", "::1", "[::1]", "fe80::1%7", "::ffff:10.1.2.3"}) {
    const std::optional<Endpoint> endpoint = ParseEndpoint(text);
    ASSERT_TRUE(endpoint) << text;
    EXPECT_EQ(endpoint->port, 0);
  }
  EXPECT_EQ(ToText(*ParseEndpoint("::1")), "[::1]:0");
}

TEST(Endpoint, AScopeMayBeAName) {
  char name[IF_NAMESIZE] = "";
  if (if_indextoname(1, name) == nullptr) GTEST_SKIP() << "there is no interface 1";
  EXPECT_EQ(ParseEndpoint(std::string("[fe80::1%") + name + "]:9")->scope, 1u);
}

TEST(Endpoint, WhatIsNoNumericEndpointIsRefused) {
  for (const char* text : {"",
                           ":",
                           "localhost",
                           "localhost:1",
                           "1.2.3",
                           "1.2.3.4:",
                           "1.2.3.4:65536",
                           "1.2.3.4:-1",
                           "1.2.3.4: 1",
                           "1.2.3.4:1x",
                           "1.2.3.4%1:1",
                           "[1.2.3.4]:1",
                           "[::1",
                           "[::1]4",
                           "[::1]:",
                           "[]:1",
                           "[::1]:99999999999",
                           "::g",
                           "fe80::1%",
                           "fe80::1%no-such-interface",
                           "fe80::1%0",
                           "[[::1]]",
                           "1.2.3.4:00000000001"}) {
    EXPECT_FALSE(ParseEndpoint(text)) << text;
  }
  EXPECT_FALSE(ParseEndpoint(std::string("1.2.3.4\0", 8)));
}

TEST(Endpoint, EveryOneSurvivesTextAndSocketAddress) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 10000; ++i) {
    const Endpoint endpoint = RandomEndpoint(&random);
    const std::optional<Endpoint> read = ParseEndpoint(ToText(endpoint));
    ASSERT_TRUE(read) << ToText(endpoint);
    EXPECT_EQ(*read, endpoint);
    sockaddr_storage address;
    ToSocketAddress(endpoint, &address);
    EXPECT_EQ(FromSocketAddress(address), endpoint);
  }
}

TEST(Endpoint, EqualOnlyWhereEveryFieldIs) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 1000; ++i) {
    const Endpoint endpoint = RandomEndpoint(&random);
    Endpoint other = endpoint;
    EXPECT_EQ(other, endpoint);
    switch (i % 4) {
      case 0:
        other.address[random() % 16] ^= 1;
        break;
      case 1:
        other.port ^= 1;
        break;
      case 2:
        other.scope ^= 1;
        break;
      default:
        other.family = Family::kNone;
    }
    EXPECT_NE(other, endpoint);
  }
}

}  // namespace
}  // namespace harp
}  // namespace taco
