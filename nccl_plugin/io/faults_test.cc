#include "nccl_plugin/io/faults.h"

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nccl_plugin/io/wire_for_test.h"

namespace taco {
namespace harp {
namespace {

constexpr uint8_t kHead[] = {'h', 'e', 'a', 'd'};
constexpr uint8_t kBody[] = {'b', 'o', 'd', 'y'};

std::deque<std::string> SentWith(const Faults& faults, size_t count) {
  std::deque<std::string> sent;
  const auto io = WithFaults(std::make_unique<WireForTest>(&sent), faults);
  const std::vector<PacketIo::Outgoing> packets(count, {kHead, kBody, 4, 4, 0, Endpoint()});
  EXPECT_EQ(io->Send(packets.data(), count), count);
  return sent;
}

TEST(Faults, NoneChangesNothing) {
  for (const std::string& each : SentWith({}, 100)) EXPECT_EQ(each, "headbody");
}

TEST(Faults, AsManyAreLostDoubledAndChangedAsWasAskedFor) {
  Faults faults;
  faults.loss = 0.1;
  EXPECT_NEAR(static_cast<double>(SentWith(faults, 10000).size()), 9000, 150);
  faults = Faults();
  faults.duplicate = 0.1;
  EXPECT_NEAR(static_cast<double>(SentWith(faults, 10000).size()), 11000, 150);
  faults = Faults();
  faults.corrupt = 0.1;
  int changed = 0;
  for (const std::string& each : SentWith(faults, 10000)) {
    ASSERT_EQ(each.size(), 8u);
    changed += each != "headbody";
  }
  EXPECT_NEAR(changed, 1000, 150);
  EXPECT_EQ(SentWith(faults, 500), SentWith(faults, 500));  // a seed, one run
}

TEST(Faults, AllCanBeLost) {
  Faults faults;
  faults.loss = 1;
  EXPECT_EQ(SentWith(faults, 1000).size(), 0u);
}

TEST(Faults, WhatAFullQueueDidNotTakeIsTold) {
  std::deque<std::string> sent;
  auto sink = std::make_unique<WireForTest>(&sent);
  WireForTest* below = sink.get();
  Faults faults;
  faults.corrupt = 0.3;
  const auto io = WithFaults(std::move(sink), faults);
  const std::vector<PacketIo::Outgoing> packets(50, {kHead, kBody, 4, 4, 0, Endpoint()});
  size_t taken = 0;
  while (taken < 50) {
    below->room = 3;
    taken += io->Send(packets.data() + taken, 50 - taken);
  }
  EXPECT_EQ(sent.size(), 50u);
}

TEST(Faults, TextIsReadOrNamed) {
  Faults faults;
  std::string error;
  ASSERT_TRUE(ParseFaults("loss=0.01,seed=7,corrupt=0.5", &faults, &error));
  EXPECT_EQ(faults.loss, 0.01);
  EXPECT_EQ(faults.corrupt, 0.5);
  EXPECT_EQ(faults.duplicate, 0);
  EXPECT_EQ(faults.seed, 7u);
  ASSERT_TRUE(ParseFaults("", &faults, &error));
  EXPECT_FALSE(faults.any());
  for (const char* text : {"loss", "loss=", "loss=x", "loss=2", "loss=-1", "late=0.1", "=1",
                           "loss=0.6,corrupt=0.6", "loss=0.1;"}) {
    EXPECT_FALSE(ParseFaults(text, &faults, &error)) << text;
    EXPECT_FALSE(error.empty());
  }
}

}  // namespace
}  // namespace harp
}  // namespace taco
