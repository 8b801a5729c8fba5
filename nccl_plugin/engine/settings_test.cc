#include "nccl_plugin/engine/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

namespace taco {
namespace harp {
namespace {

std::map<std::string, std::string>* environment = new std::map<std::string, std::string>;

Settings Read(const std::map<std::string, std::string>& variables) {
  *environment = variables;
  return ReadSettings([](const char* name) -> const char* {
    const auto found = environment->find(name);
    return found == environment->end() ? nullptr : found->second.c_str();
  });
}

TEST(Settings, NothingSetIsTheDefaults) {
  const Settings settings = Read({});
  EXPECT_TRUE(settings.problems.empty());
  EXPECT_EQ(settings.ToText(),
            "HARP_IO=auto HARP_IFACE= HARP_PATHS=4 HARP_DEAD_SECONDS=30 HARP_CONNECT_SECONDS=10 "
            "HARP_CHECKSUM=1 HARP_SEGMENTATION=1 HARP_CONGESTION=swift HARP_QUEUE_US=100 "
            "HARP_CREDIT_BYTES=0 HARP_SOCKET_BYTES=4194304 HARP_STATS= HARP_STATS_SECONDS=5");
}

TEST(Settings, WhatIsSetCounts) {
  const Settings settings = Read({{"HARP_IO", "udp"},
                                  {"HARP_IFACE", "=eth1"},
                                  {"NCCL_SOCKET_IFNAME", "eth"},
                                  {"HARP_PATHS", "64"},
                                  {"HARP_DEAD_SECONDS", "0.5"},
                                  {"HARP_CHECKSUM", "0"},
                                  {"HARP_CONGESTION", "cubic"},
                                  {"HARP_QUEUE_US", ""}});
  EXPECT_TRUE(settings.problems.empty());
  EXPECT_EQ(settings.io, "udp");
  EXPECT_EQ(settings.interfaces, "=eth1");
  EXPECT_EQ(settings.paths, 64);
  EXPECT_EQ(settings.dead_seconds, 0.5);
  EXPECT_FALSE(settings.checksum);
  EXPECT_EQ(settings.congestion, "cubic");
  EXPECT_EQ(settings.queue_us, 100);
  EXPECT_EQ(Read({{"NCCL_SOCKET_IFNAME", "eth"}}).interfaces, "eth");
}

TEST(Settings, NonsenseIsNamedAndTheDefaultTaken) {
  for (const char* value : {"0", "65", "8.5", "eight", "8x", "nan", "-1", "1e99"}) {
    const Settings settings = Read({{"HARP_PATHS", value}});
    EXPECT_EQ(settings.paths, 4) << value;
    EXPECT_THAT(settings.problems,
                testing::ElementsAre(testing::HasSubstr(std::string("HARP_PATHS=") + value +
                                                        " is no whole number from 1 to 64")));
  }
  const Settings settings =
      Read({{"HARP_IO", "dpdk"}, {"HARP_DEAD_SECONDS", "inf"}, {"HARP_CONGESTION", "reno"}});
  EXPECT_EQ(settings.congestion, "swift");
  EXPECT_EQ(settings.io, "udp");
  EXPECT_EQ(settings.dead_seconds, 30);
  EXPECT_THAT(settings.problems,
              testing::ElementsAre(testing::HasSubstr("HARP_IO=dpdk is not there"),
                                   testing::HasSubstr("HARP_CONGESTION=reno is neither"),
                                   testing::HasSubstr("HARP_DEAD_SECONDS=inf is no number")));
}

}  // namespace
}  // namespace harp
}  // namespace taco
