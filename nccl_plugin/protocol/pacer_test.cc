#include "nccl_plugin/protocol/pacer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace taco {
namespace harp {
namespace {

constexpr int64_t kTick = Pacer::kTick;

TEST(Pacer, NoneRestsAtFirst) {
  Pacer pacer;
  pacer.Turn(1'000'000'000);
  EXPECT_FALSE(pacer.Rests(0));
  EXPECT_EQ(pacer.Deadline(), kNever);
  pacer.Rest(0, 1000, 2000);  // over before it begins
  EXPECT_FALSE(pacer.Rests(0));
}

TEST(Pacer, ARestEndsWithinATick) {
  Pacer pacer;
  pacer.Rest(63, 100'000, 10);
  EXPECT_TRUE(pacer.Rests(63));
  EXPECT_FALSE(pacer.Rests(62));
  pacer.Turn(99'999);
  EXPECT_TRUE(pacer.Rests(63));
  EXPECT_GE(pacer.Deadline(), 100'000);
  EXPECT_LT(pacer.Deadline(), 100'000 + kTick);
  pacer.Turn(pacer.Deadline());
  EXPECT_FALSE(pacer.Rests(63));
  EXPECT_EQ(pacer.Deadline(), kNever);
}

// Against a list of all rests, at any times, rests longer than the wheel and looks after long.
TEST(Pacer, AgreesWithAList) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](int64_t most) { return static_cast<int64_t>(random() % most); };
    Pacer pacer;
    std::map<int, int64_t> list;
    int64_t now = below(int64_t{1} << 40);
    for (int step = 0; step < 5000; ++step) {
      const auto path = static_cast<int>(below(kMaxPaths));
      ASSERT_EQ(pacer.Rests(path), list.count(path) != 0) << seed << " " << step;
      if (list.count(path) == 0 && below(3) != 0) {
        const int64_t until = now + below(below(10) == 0 ? 200 * kTick : 8 * kTick);
        pacer.Rest(path, until, now);
        if (until > now) list[path] = until;
      }
      now += below(below(50) == 0 ? 300 * kTick : kTick / 2);
      pacer.Turn(now);
      for (auto each = list.begin(); each != list.end();) {
        // Up to a tick later.
        const bool over = each->second <= now;
        const bool surely = each->second + kTick <= now;
        const bool rests = pacer.Rests(each->first);
        ASSERT_TRUE(over || rests) << seed << " " << step;
        ASSERT_FALSE(surely && rests) << seed << " " << step;
        each = rests ? std::next(each) : list.erase(each);
      }
      if (list.empty()) {
        ASSERT_EQ(pacer.Deadline(), kNever);
        continue;
      }
      int64_t first = kNever;
      for (const auto& [_, until] : list) first = std::min(first, until);
      // Never too late; for long rests it may be too early, and there is another.
      ASSERT_GT(pacer.Deadline(), now - kTick);
      ASSERT_LT(pacer.Deadline(), first + kTick) << seed << " " << step;
    }
  }
}

}  // namespace
}  // namespace harp
}  // namespace taco
