#include "nccl_plugin/engine/interfaces.h"

#include <gtest/gtest.h>

namespace taco {
namespace harp {
namespace {

TEST(Interfaces, NamesAreChosenAsNcclChoosesThem) {
  for (const char* name : {"eth0", "ens5", "bond0", "ib0"}) EXPECT_TRUE(Wanted(name, "")) << name;
  for (const char* name : {"lo", "docker0", "br-12", "virbr0", "veth1", "cni0"}) {
    EXPECT_FALSE(Wanted(name, "")) << name;
  }
  EXPECT_TRUE(Wanted("eth0", "eth"));
  EXPECT_TRUE(Wanted("eth0", "ib,eth"));
  EXPECT_FALSE(Wanted("eth0", "=eth"));
  EXPECT_TRUE(Wanted("eth0", "=eth1,eth0"));
  EXPECT_FALSE(Wanted("eth10", "=eth1,eth0"));
  EXPECT_FALSE(Wanted("docker0", "^docker,lo"));
  EXPECT_TRUE(Wanted("eth0", "^docker,lo"));
  EXPECT_TRUE(Wanted("lo2", "^=lo"));
  EXPECT_FALSE(Wanted("lo", "^=lo"));
  EXPECT_TRUE(Wanted("docker0", "docker"));
  EXPECT_FALSE(Wanted("eth0", ","));
}

TEST(Interfaces, TheLoopbackIsThereWhereItIsAskedFor) {
  const std::vector<Interface> found = FindInterfaces("=lo");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].name, "lo");
  EXPECT_EQ(found[0].address, "127.0.0.1");
  EXPECT_EQ(found[0].pci_path, "");
  EXPECT_GT(found[0].speed_mbps, 0);
  EXPECT_NE(found[0].guid, 0u);
  EXPECT_TRUE(FindInterfaces("=none_such").empty());
}

}  // namespace
}  // namespace harp
}  // namespace taco
