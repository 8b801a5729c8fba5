#include "nccl_plugin/protocol/receive_window.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

namespace taco {
namespace harp {
namespace {

using Arrival = ReceiveWindow::Arrival;

TEST(Expand, IsTheClosest) {
  EXPECT_EQ(Expand(5, 0), 5u);
  EXPECT_EQ(Expand(0xFFFFFFFF, 0), 0xFFFFFFFFu);  // not below 0
  EXPECT_EQ(Expand(2, 0xFFFFFFFE), 0x100000002u);
  EXPECT_EQ(Expand(0xFFFFFFFE, 0x100000002), 0xFFFFFFFEu);
  EXPECT_EQ(Expand(7, (uint64_t{9} << 32) + 8), (uint64_t{9} << 32) + 7);
}

// The slow, obvious one: a set of all that came.
class Model {
 public:
  Arrival Note(uint64_t number) {
    if (!came_.empty() && number + ReceiveWindow::kPackets <= highest()) return Arrival::kOld;
    return came_.insert(number).second ? Arrival::kNew : Arrival::kDuplicate;
  }

  uint64_t highest() const { return *came_.rbegin(); }
  bool Has(uint64_t number) const { return came_.count(number) != 0; }

 private:
  std::set<uint64_t> came_;
};

void Compare(const Model& model, const ReceiveWindow& window) {
  ASSERT_EQ(window.highest(), model.highest());
  AckFields ack;
  window.Describe(&ack);
  ASSERT_EQ(ack.highest, static_cast<uint32_t>(model.highest()));
  ASSERT_LE(ack.words, kMaxAckWords);
  for (uint64_t below = 0; below < ReceiveWindow::kPackets + 70; ++below) {
    if (below > model.highest()) break;
    const uint64_t number = model.highest() - below;
    const bool wanted = below < ReceiveWindow::kPackets && model.Has(number);
    ASSERT_EQ(Acknowledges(ack, static_cast<uint32_t>(number)), wanted)
        << number << " below " << model.highest();
  }
  if (ack.words > 0) {
    ASSERT_NE(ack.bitmap[ack.words - 1], 0u);
  }
}

struct Weather {
  double loss = 0;
  uint64_t reorder = 1;  // packets within which the order is arbitrary
  double duplicate = 0;
  uint64_t jump = 0;  // now and then so many numbers are left out
};

void Simulate(const Weather& weather, uint64_t start, uint32_t seed) {
  std::mt19937_64 random(seed);
  const auto chance = [&](double p) { return std::uniform_real_distribution<>()(random) < p; };
  std::vector<std::pair<uint64_t, uint64_t>> order;  // (when, number)
  uint64_t number = start;
  for (uint64_t i = 0; i < 3000; ++i, ++number) {
    if (weather.jump != 0 && chance(0.002)) number += random() % weather.jump;
    if (chance(weather.loss)) continue;
    order.emplace_back(number + random() % weather.reorder, number);
    if (chance(weather.duplicate)) order.emplace_back(number + random() % 2500, number);
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  Model model;
  ReceiveWindow window;
  EXPECT_TRUE(window.empty());
  uint64_t count = 0;
  for (const auto& [when, each] : order) {
    ASSERT_EQ(window.Note(static_cast<uint32_t>(each)), model.Note(each)) << each;
    if (++count % 37 == 0) {
      ASSERT_NO_FATAL_FAILURE(Compare(model, window));
    }
  }
  Compare(model, window);
}

TEST(ReceiveWindow, AsTheModelInAllWeathers) {
  const std::vector<Weather> weathers = {
      {},
      {0.01, 1, 0, 0},
      {0.3, 1, 0.1, 0},
      {0.01, 64, 0.05, 0},
      {0.05, 1500, 0.3, 0},
      {0.9, 20, 0, 0},
      {0.02, 8, 0.02, 5000},
      {0, 1, 0, 1025},
  };
  uint32_t seed = 0;
  for (const Weather& weather : weathers) {
    for (uint64_t start : {uint64_t{0}, uint64_t{1}, uint64_t{0xFFFFFC00} - 300}) {
      ASSERT_NO_FATAL_FAILURE(Simulate(weather, start, ++seed)) << seed;
    }
  }
}

TEST(ReceiveWindow, ALongRunNeedsNoBitmap) {
  ReceiveWindow window;
  for (uint32_t number = 0; number < 5000; ++number) window.Note(number);
  AckFields ack;
  window.Describe(&ack);
  EXPECT_EQ(ack.highest, 4999u);
  EXPECT_EQ(ack.run, ReceiveWindow::kPackets - 1);
  EXPECT_EQ(ack.words, 0);
}

}  // namespace
}  // namespace harp
}  // namespace taco
