#include "nccl_plugin/protocol/cubic.h"

#include <gtest/gtest.h>

#include <cmath>

namespace taco {
namespace harp {
namespace {

constexpr int64_t kMs = 1'000'000;

// A path of a constant round trip, which acknowledges a window each.
class Path {
 public:
  explicit Path(int64_t round_trip = kMs) : each_(round_trip) { round_trip_.Add(each_, 0); }

  // One round trip; gives the window after it.
  double Round() {
    now_ += each_;
    const int packets = std::max(1, static_cast<int>(cubic_.window()));
    for (int packet = 0; packet < packets; ++packet) cubic_.OnAck(1, round_trip_, now_);
    return cubic_.window();
  }
  // A packet is lost in it.
  double LossyRound() {
    cubic_.OnLoss(1);
    now_ += each_;
    cubic_.OnAck(1, round_trip_, now_);
    return cubic_.window();
  }
  Cubic& cubic() { return cubic_; }
  int64_t now() const { return now_; }
  const RoundTrip& round_trip() const { return round_trip_; }

 private:
  const int64_t each_;
  Cubic cubic_{16, 1024};
  RoundTrip round_trip_;
  int64_t now_ = 0;
};

TEST(Cubic, ItDoublesUntilTheFirstLossWhichTakesThreeTenths) {
  Path path;
  EXPECT_DOUBLE_EQ(path.Round(), 32);
  EXPECT_DOUBLE_EQ(path.Round(), 64);
  EXPECT_DOUBLE_EQ(path.LossyRound(), 64 * 0.7);
}

TEST(Cubic, LossesOfOneRoundTripCountOnce) {
  Path path;
  for (int i = 0; i < 3; ++i) path.Round();
  const double once = path.LossyRound();
  path.cubic().OnLoss(5);
  path.cubic().OnAck(1, path.round_trip(), path.now());
  EXPECT_GE(path.cubic().window(), once);
}

// With a long round trip the curve is above Reno's: flat where the loss was, steep beyond.
TEST(Cubic, ItComesBackAlongTheCurve) {
  Path path(100 * kMs);
  for (int i = 0; i < 4; ++i) path.Round();
  ASSERT_DOUBLE_EQ(path.cubic().window(), 256);
  const double after = path.LossyRound();
  const double k = std::cbrt(256 * 0.3 / 0.4);  // 5.8 s
  const int rounds = static_cast<int>(k * 10);
  double half = 0, whole = 0, previous = after;
  for (int round = 0; round < rounds; ++round) {
    const double window = path.Round();
    EXPECT_GE(window, previous);
    previous = window;
    if (round == rounds / 2) half = window;
    whole = window;
  }
  EXPECT_NEAR(whole, 256, 3);
  EXPECT_GT(half, after + 0.8 * (256 - after));
  for (int round = 0; round < 2 * rounds; ++round) path.Round();
  EXPECT_GT(path.cubic().window(), 256 + 0.4 * k * k * k);
}

// With a short one the curve hardly moves, and Reno's growth counts: about half a packet each.
TEST(Cubic, ItIsNeverSlowerThanReno) {
  Path path(kMs / 10);
  for (int i = 0; i < 4; ++i) path.Round();
  const double after = path.LossyRound();
  for (int round = 0; round < 100; ++round) path.Round();
  EXPECT_NEAR(path.cubic().window(), after + 53, 6);
}

TEST(Cubic, ASecondLossFurtherDownGivesRoomToOthers) {
  Path path(100 * kMs);
  for (int i = 0; i < 4; ++i) path.Round();
  path.LossyRound();
  path.Round();
  const double before = path.cubic().window();
  ASSERT_LT(before, 256);
  path.LossyRound();
  // Flat near 0.85 of where it was, not near where it was.
  double least_growth = 1e9, flat_at = 0, previous = path.cubic().window();
  for (int round = 0; round < 60; ++round) {
    const double window = path.Round();
    if (window - previous < least_growth) {
      least_growth = window - previous;
      flat_at = window;
    }
    previous = window;
  }
  EXPECT_NEAR(flat_at, before * 0.85, 12);
}

TEST(Cubic, ItStaysWithinItsBounds) {
  Path path;
  for (int round = 0; round < 200; ++round) path.Round();
  EXPECT_DOUBLE_EQ(path.cubic().window(), 1024);
  for (int round = 0; round < 200; ++round) path.LossyRound();
  EXPECT_GE(path.cubic().window(), 1);
  path.cubic().OnTimeout();
  EXPECT_DOUBLE_EQ(path.cubic().window(), 1);
}

TEST(Cubic, AfterATimeoutItDoublesUpToSevenTenths) {
  Path path;
  for (int i = 0; i < 3; ++i) path.Round();
  ASSERT_DOUBLE_EQ(path.cubic().window(), 128);
  path.cubic().OnTimeout();
  path.cubic().OnTimeout();
  for (int doubled = 2; doubled <= 64; doubled *= 2) EXPECT_DOUBLE_EQ(path.Round(), doubled);
  EXPECT_LT(path.Round(), 100);
}

}  // namespace
}  // namespace harp
}  // namespace taco
