#include "nccl_plugin/protocol/swift.h"

#include <gtest/gtest.h>

namespace taco {
namespace harp {
namespace {

constexpr int64_t kUs = 1000;

// A path whose round trip is as the test says.
class Path {
 public:
  void Ack(int packets, int64_t round_trip) {
    now_ += round_trip / 4;
    round_trip_.Add(round_trip, now_);
    swift_.OnAck(packets, round_trip_, round_trip_, now_);
  }
  Swift& swift() { return swift_; }
  const RoundTrip& round_trip() const { return round_trip_; }

 private:
  Swift swift_;
  RoundTrip round_trip_;
  int64_t now_ = 0;
};

TEST(Swift, ItDoublesUntilTheDelayIsSeen) {
  Path path;
  const double first = path.swift().window();
  for (int packet = 0; packet < 16; ++packet) path.Ack(1, 50 * kUs);
  EXPECT_DOUBLE_EQ(path.swift().window(), first + 16);
  path.Ack(1, 5000 * kUs);
  const double shrunk = path.swift().window();
  EXPECT_LT(shrunk, first + 16);
  // From then on it grows by a packet a window.
  for (int packet = 0; packet < 16; ++packet) path.Ack(1, 50 * kUs);
  EXPECT_GT(path.swift().window(), shrunk);
  EXPECT_LT(path.swift().window(), shrunk + 2);
}

TEST(Swift, ItShrinksByHalfAtMostAndOnceARoundTrip) {
  Path path;
  for (int packet = 0; packet < 200; ++packet) path.Ack(1, 50 * kUs);
  const double before = path.swift().window();
  path.Ack(1, 100'000 * kUs);
  EXPECT_GE(path.swift().window(), 0.5 * before - 1e-9);
  const double once = path.swift().window();
  path.swift().OnAck(1, path.round_trip(), path.round_trip(), 0);
  EXPECT_DOUBLE_EQ(path.swift().window(), once);
}

TEST(Swift, ItStaysWithinItsBounds) {
  Path path;
  for (int packet = 0; packet < 5000; ++packet) path.Ack(16, 50 * kUs);
  EXPECT_LE(path.swift().window(), SwiftOptions().most_window);
  for (int packet = 0; packet < 500; ++packet) path.Ack(1, 50'000 * kUs);
  EXPECT_GE(path.swift().window(), SwiftOptions().least_window);
  for (int times = 0; times < 20; ++times) path.swift().OnTimeout();
  EXPECT_DOUBLE_EQ(path.swift().window(), SwiftOptions().least_window);
}

TEST(Swift, LossOfAHundredthChangesNothingAndOfATenthDoes) {
  for (const int lost : {1, 10}) {
    Path path;
    for (int packet = 0; packet < 400; ++packet) path.Ack(1, 50 * kUs);
    const double before = path.swift().window();
    for (int round = 0; round < 40; ++round) {
      path.swift().OnLoss(lost);
      path.Ack(100 - lost, 50 * kUs);
    }
    if (lost == 1) {
      EXPECT_GE(path.swift().window(), before);
    } else {
      EXPECT_LT(path.swift().window(), before);
    }
  }
}

// As of a queue that is full before the target is met: 60 us, where 100 us and more are allowed.
TEST(Swift, AnyLossInAQueueShorterThanTheTargetHalves) {
  for (const bool queued : {false, true}) {
    Path path;
    for (int packet = 0; packet < 400; ++packet) path.Ack(1, 50 * kUs);
    for (int packet = 0; packet < 600; ++packet) path.Ack(1, queued ? 110 * kUs : 50 * kUs);
    const double before = path.swift().window();
    path.swift().OnLoss(1);
    for (int packet = 0; packet < 8; ++packet) path.Ack(1, queued ? 110 * kUs : 50 * kUs);
    if (queued) {
      EXPECT_NEAR(path.swift().window(), before / 2, 2);
    } else {
      EXPECT_GE(path.swift().window(), before);
    }
  }
}

// Windows of many flows in such a queue are small, and so is what they grow by, until it is empty.
TEST(Swift, SmallWindowsGrowSlowlyWhereQueuesAreShort) {
  Path path;
  for (int packet = 0; packet < 1000; ++packet) path.Ack(1, 50 * kUs);
  for (int round = 0; round < 200 && path.swift().window() > 0.6; ++round) {
    path.swift().OnLoss(1);
    for (int quarter = 0; quarter < 5; ++quarter) path.Ack(quarter == 0 ? 1 : 0, 110 * kUs);
  }
  const double small = path.swift().window();
  EXPECT_GT(small, 0.2);
  EXPECT_LE(small, 0.6);
  for (int packet = 0; packet < 4; ++packet) path.Ack(1, 110 * kUs);
  EXPECT_GT(path.swift().window(), small);
  EXPECT_LT(path.swift().window(), small + 0.8);
  for (int packet = 0; packet < 12; ++packet) path.Ack(1, 50 * kUs);
  EXPECT_GT(path.swift().window(), 4);
}

TEST(Swift, AfterATimeoutItDoublesUpToHalfOfWhatItWas) {
  Path path;
  for (int packet = 0; packet < 84; ++packet) path.Ack(1, 50 * kUs);
  ASSERT_DOUBLE_EQ(path.swift().window(), 100);
  path.swift().OnTimeout();
  EXPECT_DOUBLE_EQ(path.swift().window(), 1);
  path.swift().OnTimeout();  // of the same silence
  EXPECT_DOUBLE_EQ(path.swift().window(), 0.5);
  for (int packet = 0; packet < 50; ++packet) path.Ack(1, 50 * kUs);
  EXPECT_DOUBLE_EQ(path.swift().window(), 50.5);
  for (int packet = 0; packet < 50; ++packet) path.Ack(1, 50 * kUs);
  EXPECT_LT(path.swift().window(), 52);
}

TEST(Swift, WhatTheReceiverTakesHasABoundOfItsOwn) {
  RoundTrip network, whole;
  Swift swift;
  int64_t now = 0;
  const auto ack = [&](int64_t waits) {
    now += 1000 * kUs;
    network.Add(50 * kUs, now);
    whole.Add(50 * kUs + waits, now);
    swift.OnAck(1, whole, network, now);
  };
  for (int packet = 0; packet < 10; ++packet) ack(400 * kUs);
  EXPECT_DOUBLE_EQ(swift.window(), SwiftOptions().first_window + 10);
  for (int packet = 0; packet < 10; ++packet) ack(4000 * kUs);
  EXPECT_LT(swift.window(), SwiftOptions().first_window);
}

TEST(Swift, SmallWindowsAreAllowedLongerQueues) {
  Path path;
  path.Ack(1, 50 * kUs);
  const int64_t wide = path.swift().Target(path.round_trip());
  path.swift().OnTimeout();
  EXPECT_GT(path.swift().Target(path.round_trip()), wide);
}

}  // namespace
}  // namespace harp
}  // namespace taco
