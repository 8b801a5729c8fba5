#include "nccl_plugin/io/joined.h"

#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nccl_plugin/io/wire_for_test.h"

namespace taco {
namespace harp {
namespace {

// Two paths each; packets of `left` and `right` are under way by themselves.
class TwoPaths : public WireForTest {
 public:
  using WireForTest::WireForTest;
  size_t Send(const Outgoing* packets, size_t count) override {
    for (size_t index = 0; index < count; ++index) seen.insert(packets[index].path);
    return WireForTest::Send(packets, count);
  }
  uint16_t paths() const override { return 2; }
  Endpoint local(uint16_t path) const override {
    Endpoint local;
    local.port = static_cast<uint16_t>(first + path);
    return local;
  }
  uint16_t first = 0;
  std::set<uint16_t> seen;
};

class JoinedTest : public testing::Test {
 protected:
  JoinedTest() {
    auto left = std::make_unique<TwoPaths>(&left_packets_);
    auto right = std::make_unique<TwoPaths>(&right_packets_);
    left->first = 100;
    right->first = 200;
    left_ = left.get();
    right_ = right.get();
    std::vector<std::unique_ptr<PacketIo>> parts;
    parts.push_back(std::move(left));
    parts.push_back(std::move(right));
    io_ = JoinIo(std::move(parts), &error_);
  }

  size_t Send(const std::vector<uint16_t>& paths) {
    std::vector<PacketIo::Outgoing> packets(paths.size());
    for (size_t index = 0; index < paths.size(); ++index) {
      packets[index].head = reinterpret_cast<const uint8_t*>("abcdefgh") + paths[index];
      packets[index].head_bytes = 1;
      packets[index].path = paths[index];
    }
    return io_->Send(packets.data(), packets.size());
  }

  std::deque<std::string> left_packets_, right_packets_;
  TwoPaths* left_;
  TwoPaths* right_;
  std::unique_ptr<PacketIo> io_;
  std::string error_;
};

TEST_F(JoinedTest, PathsTakeTurns) {
  EXPECT_EQ(io_->paths(), 4);
  EXPECT_EQ(io_->local(0).port, 100);
  EXPECT_EQ(io_->local(1).port, 200);
  EXPECT_EQ(io_->local(2).port, 101);
  EXPECT_EQ(io_->local(3).port, 201);
}

TEST_F(JoinedTest, PacketsGoByTheirPathsPart) {
  EXPECT_EQ(Send({0, 1, 3, 2, 2, 1}), 6u);
  EXPECT_EQ(left_packets_, (std::deque<std::string>{"a", "c", "c"}));
  EXPECT_EQ(right_packets_, (std::deque<std::string>{"b", "d", "b"}));
  EXPECT_EQ(left_->seen, (std::set<uint16_t>{0, 1}));
  EXPECT_EQ(right_->seen, (std::set<uint16_t>{0, 1}));
}

TEST_F(JoinedTest, AFullPartStopsTheBatchThere) {
  right_->room = 1;
  EXPECT_EQ(Send({0, 1, 2, 3, 2}), 3u);
  EXPECT_EQ(left_packets_.size(), 2u);
}

TEST_F(JoinedTest, WhatCameHasThePathOfTheWhole) {
  left_packets_ = {"l", "l"};
  right_packets_ = {"r"};
  PacketIo::Incoming got[8];
  ASSERT_EQ(io_->Receive(got, 8), 3u);
  for (size_t index = 0; index < 3; ++index) {
    EXPECT_EQ(got[index].path, *got[index].bytes == 'l' ? 0 : 1);
  }
}

TEST(Joined, OneIsItself) {
  std::deque<std::string> packets;
  std::vector<std::unique_ptr<PacketIo>> parts;
  parts.push_back(std::make_unique<WireForTest>(&packets));
  const PacketIo* const only = parts[0].get();
  std::string error;
  EXPECT_EQ(JoinIo(std::move(parts), &error).get(), only);
}

}  // namespace
}  // namespace harp
}  // namespace taco
