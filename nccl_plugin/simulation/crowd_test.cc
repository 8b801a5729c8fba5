// Many connections at once in virtual time: one receiver of many senders, flows that share a link,
// thousands of ranks.

#include "nccl_plugin/simulation/crowd.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

namespace taco {
namespace harp {
namespace {

constexpr int64_t kMs = 1'000'000;

// How long the last of many senders takes, over what the shared link needs for all bytes. Each
// begins at some time of the first 20 us.
double Incast(uint64_t seed, int senders, int paths, uint64_t queue, uint64_t message) {
  Network network(seed);
  LinkOptions link;
  link.queue_bytes = queue;
  Crowd all(&network, senders, paths, link, std::vector<uint64_t>(4, message));
  RunAll(&network, all.all, 10'000 * kMs, 20'000);
  int64_t last = 0;
  for (const Transfer* each : all.all) {
    EXPECT_TRUE(each->done()) << each->failure();
    last = std::max(last, each->done_at());
  }
  const double ideal = senders * 4.0 * static_cast<double>(message) * 8 / link.bits_per_ns;
  return static_cast<double>(last) / ideal;
}

struct Case {
  int senders, paths;
  uint64_t message;
};
const Case kCases[] = {{8, 1, 256 << 10}, {8, 4, 64 << 10},  {64, 1, 64 << 10},
                       {64, 4, 64 << 10}, {64, 8, 64 << 10}, {256, 4, 32 << 10}};

// The worst of some seeds.
double Worst(const Case& each, uint64_t queue) {
  double worst = 0;
  for (const uint64_t seed : {1, 2, 3}) {
    worst = std::max(worst, Incast(seed, each.senders, each.paths, queue, each.message));
  }
  return worst;
}

TEST(Crowd, ManySendersToOne) {
  for (const Case& each : kCases) {
    EXPECT_LT(Worst(each, 1'000'000), 1.2)
        << each.senders << " senders, " << each.paths << " paths, " << each.message;
  }
}

// Of 100 KB, where most of what senders send at first is lost.
TEST(Crowd, ManySendersToOneThroughAShortQueue) {
  for (const Case& each : kCases) {
    EXPECT_LT(Worst(each, 100'000), 2)
        << each.senders << " senders, " << each.paths << " paths, " << each.message;
  }
}

// A ring of ranks, as of an allreduce, whose links they share with nobody.
TEST(Crowd, ThousandsOfRanksInOneProcess) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr int kRanks = 256;
#else
  constexpr int kRanks = 2048;  // each end has some 200 KB of state
#endif
  Network network(12);
  std::vector<int> up, down;
  for (int rank = 0; rank < kRanks; ++rank) {
    up.push_back(network.AddLink(LinkOptions()));
    down.push_back(network.AddLink(LinkOptions()));
  }
  std::vector<std::unique_ptr<Transfer>> made;
  std::vector<Transfer*> all;
  for (int rank = 0; rank < kRanks; ++rank) {
    const int next = (rank + 1) % kRanks;
    Transfer::Options options;
    options.routes = {{{up[rank], down[next]}, {up[next], down[rank]}}};
    options.messages.assign(2, 20'000);
    made.push_back(std::make_unique<Transfer>(&network, options));
    all.push_back(made.back().get());
  }
  RunAll(&network, all, 1000 * kMs, 20'000);
  for (const Transfer* each : all) {
    ASSERT_TRUE(each->done()) << each->failure();
    ASSERT_EQ(each->failure(), "");
    EXPECT_LT(each->done_at(), 1 * kMs);
  }
}

// Jain's index of what flows have got of a link in 100 ms (1: all alike), and what they filled of
// it.
struct Sharing {
  double index, filled;
};
Sharing Share(int flows, bool cubic, uint64_t queue) {
  Network network(6);
  LinkOptions shared;
  shared.delay_ns = 30'000;
  shared.queue_bytes = queue;
  Crowd senders(&network, flows, 2, shared, std::vector<uint64_t>(2000, 1 << 20),
                [=](int) { return cubic; });
  RunAll(&network, senders.all, 100 * kMs, 20'000);
  double sum = 0, squares = 0;
  for (const Transfer* each : senders.all) {
    const auto bytes = static_cast<double>(each->received_bytes());
    sum += bytes;
    squares += bytes * bytes;
  }
  return {sum * sum / (flows * squares), 8 * sum / (100.0 * kMs) / shared.bits_per_ns};
}

TEST(Crowd, FlowsShareALinkFairly) {
  for (const int flows : {2, 6}) {
    for (const bool cubic : {false, true}) {
      const Sharing seen = Share(flows, cubic, 1'000'000);
      EXPECT_GT(seen.index, 0.87) << flows << ", cubic: " << cubic;
      EXPECT_GT(seen.filled, 0.9) << flows << " flows, cubic: " << cubic;  // whole messages count
    }
  }
}

// As of a link between two switches. Without small windows and rests between packets half of all
// packets were lost through a short queue, and through a long one the first flows got most.
TEST(Crowd, ManyPairsShareALink) {
  struct Case {
    int pairs;
    uint64_t queue;
    double index, lost;
  };
  for (const Case& each : {Case{32, 1'000'000, 0.98, 0.01}, Case{64, 1'000'000, 0.98, 0.05},
                           Case{32, 100'000, 0.9, 0.2}, Case{64, 100'000, 0.9, 0.3}}) {
    Network network(3);
    LinkOptions shared;
    shared.delay_ns = 20'000;
    shared.queue_bytes = each.queue;
    constexpr int kPaths = 4;
    Crowd pairs(
        &network, each.pairs, kPaths, shared, std::vector<uint64_t>(4000, 16 << 10),
        [](int) { return false; }, false);
    RunAll(&network, pairs.all, 60 * kMs, 20'000);
    double sum = 0, squares = 0;
    uint64_t sent = 0, lost = 0;
    for (const Transfer* transfer : pairs.all) {
      const auto bytes = static_cast<double>(transfer->sender().acknowledged_bytes());
      sum += bytes;
      squares += bytes * bytes;
      for (int path = 0; path < kPaths; ++path) {
        sent += transfer->sender().Stats(path).packets;
        lost += transfer->sender().Stats(path).lost;
      }
    }
    const double part = static_cast<double>(lost) / static_cast<double>(sent);
    EXPECT_GT(sum * sum / (each.pairs * squares), each.index) << each.pairs << " " << each.queue;
    EXPECT_LT(part, each.lost) << each.pairs << " " << each.queue;
    EXPECT_GT(8 * sum / (60.0 * kMs) / shared.bits_per_ns, 0.93) << each.pairs << " " << each.queue;
  }
}

// Beside flows that fill the queue, as TCP does, Swift gives way, and CUBIC gets its share.
TEST(Crowd, CubicGetsItsShareBesideFlowsThatFillTheQueue) {
  double share[2];
  for (const bool cubic : {false, true}) {
    Network network(9);
    LinkOptions shared;
    shared.delay_ns = 50'000;
    shared.queue_bytes = 500'000;
    Crowd senders(&network, 4, 1, shared, std::vector<uint64_t>(2000, 1 << 20),
                  [&](int sender) { return sender != 0 || cubic; });
    RunAll(&network, senders.all, 100 * kMs);
    double sum = 0;
    for (const Transfer* each : senders.all) sum += static_cast<double>(each->received_bytes());
    share[cubic] = static_cast<double>(senders.all[0]->received_bytes()) / sum;
  }
  EXPECT_LT(share[false], 0.1);
  EXPECT_GT(share[true], 0.15);
}

}  // namespace
}  // namespace harp
}  // namespace taco
