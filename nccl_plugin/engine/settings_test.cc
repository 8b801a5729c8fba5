#include "nccl_plugin/engine/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <map>
#include <string>
#include <vector>

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
            "HARP_IO=auto HARP_IFACE= HARP_PATHS=4 HARP_ENGINES=0 HARP_DEAD_SECONDS=30 "
            "HARP_CONNECT_SECONDS=10 "
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

TEST(Settings, WhatDpdkIsGivenIsShownWithDpdk) {
  const Settings settings = Read({{"HARP_IO", "dpdk"},
                                  {"HARP_DPDK_ADDRESS", "10.9.0.1/24"},
                                  {"HARP_DPDK_ARGS", "--no-pci -m 64"},
                                  {"HARP_DPDK_MTU", "9000"}});
  EXPECT_TRUE(settings.problems.empty());
  EXPECT_EQ(settings.dpdk_address, "10.9.0.1/24");
  EXPECT_EQ(settings.dpdk_args, "--no-pci -m 64");
  EXPECT_EQ(settings.dpdk_mtu, 9000);
  EXPECT_THAT(settings.ToText(), testing::HasSubstr("HARP_DPDK_ADDRESS=10.9.0.1/24"));
}

TEST(Settings, AKeyIsReadAndNotShown) {
  const std::string digits(64, '7');
  Settings settings = Read({{"HARP_KEY", digits}});
  ASSERT_TRUE(settings.key);
  EXPECT_EQ((*settings.key)[5], 0x77);
  EXPECT_FALSE(settings.checksum);
  EXPECT_THAT(settings.ToText(), testing::HasSubstr("HARP_KEY=set"));
  EXPECT_THAT(settings.ToText(), testing::Not(testing::HasSubstr("777")));
  EXPECT_TRUE(Read({{"HARP_KEY", digits}, {"HARP_CHECKSUM", "1"}}).checksum);

  const std::string file = testing::TempDir() + "key";
  std::ofstream(file) << digits << "\n";
  EXPECT_TRUE(Read({{"HARP_KEY_FILE", file}}).key);
}

TEST(Settings, AKeyThatCannotBeHadIsAProblem) {
  for (const auto& [name, value, why] :
       std::vector<std::array<std::string, 3>>{{"HARP_KEY", "secret", "64 hexadecimal digits"},
                                               {"HARP_KEY_FILE", "/nowhere/key", "cannot be read"},
                                               {"HARP_KEY_FILE", "/dev/null", "holds no key"}}) {
    const Settings settings = Read({{name, value}});
    EXPECT_FALSE(settings.key);
    EXPECT_THAT(settings.key_problem, testing::HasSubstr(why));
    EXPECT_THAT(settings.ToText(), testing::HasSubstr("HARP_KEY=unusable"));
    EXPECT_TRUE(settings.checksum);
  }
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
      Read({{"HARP_IO", "rdma"}, {"HARP_DEAD_SECONDS", "inf"}, {"HARP_CONGESTION", "reno"}});
  EXPECT_EQ(settings.congestion, "swift");
  EXPECT_EQ(settings.io, "auto");
  EXPECT_EQ(settings.dead_seconds, 30);
  EXPECT_THAT(settings.problems,
              testing::ElementsAre(testing::HasSubstr("HARP_IO=rdma is none of auto, udp, afxdp"),
                                   testing::HasSubstr("HARP_CONGESTION=reno is neither"),
                                   testing::HasSubstr("HARP_DEAD_SECONDS=inf is no number")));
}

}  // namespace
}  // namespace harp
}  // namespace taco
