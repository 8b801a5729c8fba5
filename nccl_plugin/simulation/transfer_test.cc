// Whole connections in virtual time: every byte arrives once, whatever the network does; and how
// long it takes is bounded.

#include "nccl_plugin/simulation/transfer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <vector>

#include "nccl_plugin/simulation/crowd.h"

namespace taco {
namespace harp {
namespace {

constexpr int64_t kMs = 1'000'000;

// Bits a nanosecond that arrive.
double Goodput(const Transfer& transfer) {
  return 8 * static_cast<double>(transfer.received_bytes()) /
         static_cast<double>(transfer.done_at());
}

TEST(Transfer, ACleanLinkIsFilled) {
  for (const int paths : {1, 8}) {
    Network network(1);
    LinkOptions link;
    link.delay_ns = 50'000;
    link.bits_per_ns = 10.0 / paths;
    Transfer::Options options;
    options.routes = Paths(&network, paths, link);
    options.messages.assign(40, 1 << 20);
    Transfer transfer(&network, options);
    RunAll(&network, {&transfer}, 1000 * kMs);
    ASSERT_TRUE(transfer.done()) << transfer.failure();
    EXPECT_EQ(transfer.failure(), "");
    EXPECT_GT(Goodput(transfer), 0.9 * 10 * 1408 / 1456) << paths;
    uint64_t lost = 0;
    for (int path = 0; path < paths; ++path) lost += transfer.sender().Stats(path).lost;
    EXPECT_EQ(lost, 0u);
  }
}

TEST(Transfer, ALostPacketInAHundredCostsLittle) {
  double clean = 0;
  for (const double loss : {0.0, 0.01}) {
    Network network(2);
    LinkOptions link;
    link.delay_ns = 50'000;
    link.loss = loss;
    Transfer::Options options;
    options.routes = Paths(&network, 1, link);
    options.messages.assign(60, 1 << 20);
    Transfer transfer(&network, options);
    RunAll(&network, {&transfer}, 2000 * kMs);
    ASSERT_TRUE(transfer.done()) << transfer.failure();
    if (loss == 0) {
      clean = Goodput(transfer);
    } else {
      EXPECT_GT(Goodput(transfer), 0.85 * clean);
    }
  }
}

TEST(Transfer, OneOfEightPathsGoesBlack) {
  Network network(3);
  LinkOptions link;
  link.delay_ns = 50'000;
  link.bits_per_ns = 1.25;
  Transfer::Options options;
  options.routes = Paths(&network, 8, link);
  options.messages.assign(100, 1 << 20);
  network.link(options.routes[3].forth[0]).black = {{20 * kMs, 60 * kMs}};
  Transfer transfer(&network, options);
  RunAll(&network, {&transfer}, 1000 * kMs);
  ASSERT_TRUE(transfer.done()) << transfer.failure();
  EXPECT_EQ(transfer.failure(), "");
  EXPECT_EQ(transfer.sender().Stats(3).blackouts, 1u);
  EXPECT_FALSE(transfer.sender().Stats(3).black);  // it came back
  EXPECT_LT(transfer.longest(), 12 * kMs);
}

TEST(Transfer, GoodputIsBackTenRoundTripsAfterAPathWentBlack) {
  Network network(7);
  LinkOptions link;
  link.delay_ns = 50'000;
  link.bits_per_ns = 1.25;
  Transfer::Options options;
  options.routes = Paths(&network, 8, link);
  options.messages.assign(100, 1 << 20);
  network.link(options.routes[5].forth[0]).black = {{20 * kMs, 1000 * kMs}};
  Transfer transfer(&network, options);
  transfer.Start();
  const auto bytes_at = [&](int64_t time) {
    while (network.now() < time && network.Step()) {
    }
    return static_cast<double>(transfer.receiver().copied());
  };
  const double from = bytes_at(10 * kMs), to = bytes_at(20 * kMs);
  const double after_from = bytes_at(21 * kMs), after_to = bytes_at(31 * kMs);
  // Seven of the eight links are left.
  EXPECT_GT((after_to - after_from) / (to - from), 0.95 * 7 / 8);
  EXPECT_EQ(transfer.failure(), "");
}

// Paths that come and go all the time, each 3 ms up and 2 ms down, one after the other.
TEST(Transfer, PathsThatFlapAreUsedWhileTheyAreThere) {
  Network network(10);
  LinkOptions link;
  link.delay_ns = 20'000;
  link.bits_per_ns = 2.5;
  Transfer::Options options;
  options.routes = Paths(&network, 4, link);
  options.messages.assign(100, 1 << 20);
  for (int path = 0; path < 4; ++path) {
    LinkOptions& forth = network.link(options.routes[path].forth[0]);
    for (int64_t at = (2 + path) * kMs; at < 1000 * kMs; at += 5 * kMs) {
      forth.black.push_back({at, at + 2 * kMs});
    }
  }
  Transfer transfer(&network, options);
  RunAll(&network, {&transfer}, 2000 * kMs);
  ASSERT_TRUE(transfer.done()) << transfer.failure();
  EXPECT_EQ(transfer.failure(), "");
  EXPECT_GT(Goodput(transfer), 10.0 / 4);  // of the 10 * 3 / 5 that are there
}

// Each path has a rate and a delay of its own, and another one back.
TEST(Transfer, UnequalPathsAreFilledEachByItsOwnRate) {
  Network network(11);
  Transfer::Options options;
  double rates = 0;
  for (int path = 0; path < 4; ++path) {
    LinkOptions forth, back;
    forth.bits_per_ns = 1 << path;  // 1, 2, 4 and 8 Gb/s
    forth.delay_ns = 80'000 >> path;
    back.bits_per_ns = 0.5;
    back.delay_ns = 10'000 << path;
    options.routes.push_back({{network.AddLink(forth)}, {network.AddLink(back)}});
    rates += forth.bits_per_ns;
  }
  options.messages.assign(100, 1 << 20);
  Transfer transfer(&network, options);
  RunAll(&network, {&transfer}, 2000 * kMs);
  ASSERT_TRUE(transfer.done()) << transfer.failure();
  EXPECT_GT(Goodput(transfer), 0.85 * rates * 1408 / 1456);
}

TEST(Transfer, AllPathsBlackForLongIsAFailure) {
  Network network(4);
  LinkOptions link;
  link.black = {{5 * kMs, 1'000'000 * kMs}};
  Transfer::Options options;
  options.routes = Paths(&network, 4, link);
  options.messages.assign(100, 1 << 20);
  options.sender.dead_ns = 2'000 * kMs;
  Transfer transfer(&network, options);
  RunAll(&network, {&transfer}, 10'000 * kMs);
  EXPECT_NE(transfer.failure().find("nothing was heard on any of 4 paths"), std::string::npos);
  EXPECT_GT(network.now(), 2'000 * kMs);
  EXPECT_LT(network.now(), 2'600 * kMs);
}

// One sender by CUBIC keeps a link busy whose queue is as long as its round trip.
TEST(Transfer, CubicFillsALink) {
  Network network(8);
  LinkOptions link;
  link.delay_ns = 50'000;
  link.queue_bytes = 125'000;
  Transfer::Options options;
  options.routes = Paths(&network, 1, link);
  options.messages.assign(200, 1 << 20);
  options.sender.congestion.cubic = true;
  Transfer transfer(&network, options);
  RunAll(&network, {&transfer}, 2000 * kMs);
  ASSERT_TRUE(transfer.done()) << transfer.failure();
  EXPECT_GT(Goodput(transfer), 0.85 * 10 * 1408 / 1456);
}

TEST(Transfer, EverythingAtOnceAndEveryByteIsThere) {
  // `make soak` sets TACO_SOAK_SECONDS.
  const uint64_t seeds = std::getenv("TACO_SOAK_SECONDS") == nullptr ? 400 : 20'000;
  for (uint64_t seed = 0; seed < seeds; ++seed) {
    Network network(seed);
    std::mt19937_64& random = network.random();
    const auto part = [&](double most) {
      return std::uniform_real_distribution<>(0, most)(random);
    };
    const int paths = 1 + static_cast<int>(random() % 8);
    Transfer::Options options;
    for (int path = 0; path < paths; ++path) {
      LinkOptions link;
      link.delay_ns = 1'000 + static_cast<int64_t>(random() % 200'000);
      link.bits_per_ns = 0.5 + part(10);
      link.queue_bytes = 20'000 + random() % 500'000;
      link.loss = part(0.1);
      link.duplicate = part(0.05);
      link.corrupt = part(0.05);
      link.late = part(0.2);
      link.late_ns = static_cast<int64_t>(random() % 300'000);
      for (int times = static_cast<int>(random() % 3); times > 0; --times) {
        const auto from = static_cast<int64_t>(random() % (40 * kMs));
        link.black.push_back({from, from + static_cast<int64_t>(random() % (30 * kMs))});
      }
      options.routes.push_back({{network.AddLink(link)}, {network.AddLink(link)}});
    }
    options.depth = 1 + static_cast<int>(random() % 32);
    options.group = 1 + static_cast<int>(random() % 8);
    options.sender.congestion.cubic = random() % 4 == 0;
    options.post_late_ns = random() % 2 == 0 ? 0 : static_cast<int64_t>(random() % kMs);
    const int count = 5 + static_cast<int>(random() % 40);
    for (int message = 0; message < count; ++message) {
      const uint64_t sizes[] = {0, 1, random() % 100, random() % 5000, random() % 300'000};
      options.messages.push_back(sizes[random() % 5]);
    }
    // Half of the receivers have a share of little credit.
    CreditPool credit(9'000 + random() % 500'000);
    std::deque<CreditShare> others;
    for (int count = 0; count < 8; ++count) others.emplace_back(&credit).Set(true, true);
    if (random() % 2 == 0) options.credit = &credit;
    if (options.depth * options.group > 32) options.depth = 32 / options.group;
    options.depth = std::max(options.depth, options.group);
    Transfer transfer(&network, options);
    RunAll(&network, {&transfer}, 20'000 * kMs);
    ASSERT_EQ(transfer.failure(), "") << seed;
    ASSERT_TRUE(transfer.done()) << seed << ": " << transfer.received_bytes() << " bytes";
  }
}

}  // namespace
}  // namespace harp
}  // namespace taco
