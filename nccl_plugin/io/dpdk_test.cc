#include "nccl_plugin/io/dpdk.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace taco {
namespace harp {
namespace {

using testing::HasSubstr;

TEST(DpdkAddresses, AreReadWithNetworksAndGateways) {
  std::string error;
  const auto all = ParseDpdkAddresses("10.9.0.1/24;192.168.7.9/30,192.168.7.10;10.0.0.1/0", &error);
  ASSERT_TRUE(all) << error;
  ASSERT_EQ(all->size(), 3u);
  EXPECT_EQ(ToText((*all)[0].address), "10.9.0.1:0");
  EXPECT_EQ((*all)[0].prefix, 24);
  EXPECT_EQ((*all)[0].gateway.family, Family::kNone);
  EXPECT_EQ(ToText((*all)[1].gateway), "192.168.7.10:0");
  EXPECT_EQ((*all)[2].prefix, 0);
}

TEST(DpdkAddresses, MayBeOfIpv6) {
  std::string error;
  const auto all = ParseDpdkAddresses("fd09::1/64;fd09:1::7/48,fd09:1::fe", &error);
  ASSERT_TRUE(all) << error;
  ASSERT_EQ(all->size(), 2u);
  EXPECT_EQ(ToText((*all)[0].address), "[fd09::1]:0");
  EXPECT_EQ((*all)[0].prefix, 64);
  EXPECT_EQ(ToText((*all)[1].gateway), "[fd09:1::fe]:0");
}

class NoDpdkAddress : public testing::TestWithParam<const char*> {};

TEST_P(NoDpdkAddress, IsRefusedWithAnExample) {
  std::string error;
  EXPECT_FALSE(ParseDpdkAddresses(GetParam(), &error));
  EXPECT_THAT(error, HasSubstr("10.9.0.1/24"));
}

INSTANTIATE_TEST_SUITE_P(Dpdk, NoDpdkAddress,
                         testing::Values("", "10.9.0.1", "10.9.0.1/", "10.9.0.1/33", "10.9.0.1/a",
                                         "10.9.0.1/-1", "10.9.0.1:5/24", "fd00::1/129", "0.0.0.0/8",
                                         "fd00::1", "::/0", "ff02::1/64", "fd00::1/64,10.9.0.1",
                                         "fd00::1/64,fd00:1::1", "fe80::1%1/64", "10.9.0.1/24,",
                                         "10.9.0.1/24,10.9.1.1", "10.9.0/24",
                                         "10.9.0.1,10.9.0.2/24", "10.9.0.1/24;x"));

TEST(Dpdk, WithoutItsLibraryItSaysHowToGetIt) {
  std::string error;
  const auto addresses = ParseDpdkAddresses("10.9.0.1/24", &error);
  EXPECT_TRUE(FindDpdkPlaces("", *addresses, &error).empty());
  EXPECT_THAT(error, HasSubstr("libdpdk-dev"));
}

}  // namespace
}  // namespace harp
}  // namespace taco
