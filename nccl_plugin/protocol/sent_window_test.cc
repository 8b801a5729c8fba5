#include "nccl_plugin/protocol/sent_window.h"

#include <gtest/gtest.h>

#include <map>
#include <queue>
#include <random>
#include <tuple>
#include <vector>

namespace taco {
namespace harp {
namespace {

constexpr int64_t kMicrosecond = 1000;

// Settles every packet once, and only says what is true.
class Book : public SentWindow::Fate {
 public:
  void Acknowledged(uint64_t what, uint32_t bytes) override { Settle(what, bytes, true); }
  void Lost(uint64_t what, uint32_t bytes) override { Settle(what, bytes, false); }

  void Settle(uint64_t what, uint32_t bytes, bool acknowledged) {
    EXPECT_EQ(bytes, 100 + what % 7);
    EXPECT_TRUE(settled.emplace(what, acknowledged).second) << what << " is settled twice";
    lost += acknowledged ? 0 : 1;
  }

  std::map<uint64_t, bool> settled;
  uint64_t lost = 0;
};

struct Link {
  double loss = 0;
  int64_t delay = 50 * kMicrosecond;
  int64_t jitter = 0;
  double ack_loss = 0;
  uint64_t ack_every = 1;
};

struct Outcome {
  uint64_t arrived = 0;   // packets
  uint64_t lost = 0;      // as the sender believes
  uint64_t mistaken = 0;  // of these, those that had come
  uint64_t timeouts = 0;
};

// Sends packets a microsecond apart as long as the window has room, in virtual time.
Outcome Simulate(const Link& link, uint64_t packets, uint32_t seed) {
  std::mt19937_64 random(seed);
  const auto chance = [&](double p) { return std::uniform_real_distribution<>()(random) < p; };
  const auto flight = [&] {
    return link.delay + (link.jitter == 0 ? 0 : static_cast<int64_t>(random() % link.jitter));
  };
  using Event = std::tuple<int64_t, uint64_t, int, uint32_t>;  // when, order, kind, number or ack
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events;
  uint64_t order = 0;
  std::vector<AckFields> acks;
  SentWindow window;
  ReceiveWindow receiver;
  Book book;
  std::vector<bool> came(packets);
  Outcome outcome;
  uint64_t sent = 0;
  uint64_t since_ack = 0;
  int64_t now = 0;
  for (uint64_t turn = 0; turn < 60 * packets + 100000; ++turn) {
    if (sent == packets && window.idle()) break;
    const bool can_send = sent < packets && !window.full();
    int64_t next = std::min(can_send ? now + kMicrosecond : kNever, window.Deadline());
    if (!events.empty()) next = std::min(next, std::get<0>(events.top()));
    if (next == kNever) {
      ADD_FAILURE() << "nothing will ever happen";
      break;
    }
    now = std::max(now, next);
    while (!events.empty() && std::get<0>(events.top()) <= now) {
      const auto [when, unused, kind, value] = events.top();
      events.pop();
      if (kind == 1) {
        EXPECT_TRUE(window.OnAck(acks[value], now, now, &book));
        continue;
      }
      came[value] = true;
      ++outcome.arrived;
      receiver.Note(value);
      if (++since_ack < link.ack_every || chance(link.ack_loss)) continue;
      since_ack = 0;
      AckFields ack;
      receiver.Describe(&ack);
      acks.push_back(ack);
      events.emplace(now + flight(), ++order, 1, static_cast<uint32_t>(acks.size() - 1));
    }
    if (window.OnTime(now, &book) == SentWindow::Due::kTimeout) ++outcome.timeouts;
    if (sent < packets && !window.full()) {
      const uint64_t number = window.Add(now, sent, static_cast<uint32_t>(100 + sent % 7));
      EXPECT_EQ(number, sent);
      if (!chance(link.loss)) {
        events.emplace(now + flight(), ++order, 0, static_cast<uint32_t>(number));
      }
      ++sent;
    }
  }
  EXPECT_TRUE(window.idle());
  EXPECT_EQ(window.in_flight(), 0u);
  EXPECT_EQ(book.settled.size(), packets);
  for (const auto& [what, acknowledged] : book.settled) {
    if (acknowledged) {
      EXPECT_TRUE(came[what]) << what << " never came";
    } else {
      outcome.mistaken += came[what] ? 1 : 0;
    }
  }
  outcome.lost = book.lost;
  return outcome;
}

TEST(SentWindow, OnACleanLinkNothingIsLost) {
  const Outcome outcome = Simulate({}, 5000, 1);
  EXPECT_EQ(outcome.lost, 0u);
  EXPECT_EQ(outcome.timeouts, 0u);
}

TEST(SentWindow, LossIsFoundWithoutATimeout) {
  Link link;
  link.loss = 0.01;
  const Outcome outcome = Simulate(link, 20000, 2);
  EXPECT_EQ(outcome.mistaken, 0u);
  EXPECT_EQ(outcome.lost, 20000 - outcome.arrived);
  EXPECT_LE(outcome.timeouts, 1u);  // the last packets have none behind them
}

TEST(SentWindow, OvertakingIsNotLoss) {
  Link link;
  link.jitter = 10 * kMicrosecond;  // within a quarter of the round trip
  const Outcome outcome = Simulate(link, 20000, 3);
  EXPECT_EQ(outcome.lost, 0u);
}

TEST(SentWindow, EveryPacketIsSettledOnceInAllWeathers) {
  uint32_t seed = 10;
  for (double loss : {0.0, 0.02, 0.3, 1.0}) {
    for (int64_t jitter : {int64_t{0}, 40 * kMicrosecond, 3000 * kMicrosecond}) {
      for (double ack_loss : {0.0, 0.5}) {
        for (uint64_t every : {1, 16}) {
          SCOPED_TRACE(testing::Message() << loss << " " << jitter << " " << ack_loss);
          Simulate({loss, 50 * kMicrosecond, jitter, ack_loss, every}, 3000, ++seed);
        }
      }
    }
  }
}

TEST(SentWindow, ASilentPathIsProbedThenGivenUpLaterEachTime) {
  SentWindow window;
  Book book;
  window.Add(0, 0, 100);
  AckFields ack;
  EXPECT_TRUE(window.OnAck(ack, 100 * kMicrosecond, 100 * kMicrosecond, &book));
  EXPECT_EQ(window.Deadline(), kNever);
  int64_t now = 1000 * kMicrosecond;
  window.Add(now, 1, 101);
  EXPECT_EQ(window.Deadline(), now + 200 * kMicrosecond);
  EXPECT_EQ(window.OnTime(now, &book), SentWindow::Due::kNothing);
  // After two round trips, then two more, four, eight ...
  int64_t silent = 0;
  for (const int64_t probe : {2, 2, 4, 8, 16}) {
    silent += probe * 100 * kMicrosecond;
    EXPECT_EQ(window.Deadline(), now + silent);
    EXPECT_EQ(window.OnTime(window.Deadline(), &book), SentWindow::Due::kProbe);
    EXPECT_EQ(window.OldestInFlight(), 1u);
  }
  int64_t last = 0;
  for (uint64_t turn = 2; turn < 20; ++turn) {
    const int64_t begin = now;
    now = window.Deadline();
    EXPECT_GE(now - begin, last);
    last = now - begin;
    EXPECT_EQ(window.OnTime(now, &book), SentWindow::Due::kTimeout);
    EXPECT_TRUE(window.idle());
    window.Add(now, turn, static_cast<uint32_t>(100 + turn % 7));
  }
  EXPECT_EQ(last, 1024 * RoundTrip::kLeastTimeout);
  EXPECT_EQ(window.timeouts(), 18);
}

TEST(SentWindow, APathThatWasNeverHeardIsProbedByWhatOthersTake) {
  SentWindow window;
  Book book;
  window.Add(0, 0, 100);
  EXPECT_EQ(window.Deadline(), RoundTrip::kFirstTimeout);
  window.GuessRoundTrip(70 * kMicrosecond);
  EXPECT_EQ(window.Deadline(), 140 * kMicrosecond);
  EXPECT_EQ(window.OnTime(window.Deadline(), &book), SentWindow::Due::kProbe);
}

TEST(SentWindow, AcknowledgementsOfWhatWasNeverSentChangeNothing) {
  SentWindow window;
  Book book;
  AckFields ack;
  EXPECT_FALSE(window.OnAck(ack, 0, 0, &book));
  window.Add(0, 0, 100);
  ack.highest = 1;
  EXPECT_FALSE(window.OnAck(ack, 1, 1, &book));
  ack.highest = 0x80000000;
  EXPECT_FALSE(window.OnAck(ack, 1, 1, &book));
  EXPECT_TRUE(book.settled.empty());
  EXPECT_EQ(window.in_flight(), 100u);
}

// The least round trip holds while packets are under way without a pause, as each meets the queue
// of those before it; after a silence a path that takes longer is believed.
TEST(SentWindow, TheLeastRoundTripIsRenewedAfterASilence) {
  constexpr int64_t kSecond = 1'000'000'000;
  SentWindow window;
  Book book;
  uint64_t packets = 0;
  int64_t now = kSecond;
  const auto send = [&](int64_t at) {
    window.Add(at, packets, static_cast<uint32_t>(100 + packets % 7));
    ++packets;
  };
  const auto answer = [&](uint64_t which, int64_t at) {
    AckFields ack;
    ack.highest = static_cast<uint32_t>(which);
    window.OnAck(ack, at, at, &book);
  };
  send(now);
  answer(0, now + 50 * kMicrosecond);
  ASSERT_EQ(window.round_trip().least(), 50 * kMicrosecond);
  // Two under way at any time, for 30 s.
  send(now);
  for (int64_t step = 0; step < 30'000; ++step) {
    now += kSecond / 1000;
    send(now);
    answer(packets - 2, now + 300 * kMicrosecond);
  }
  EXPECT_EQ(window.round_trip().least(), 50 * kMicrosecond);
  answer(packets - 1, now + 300 * kMicrosecond);
  now += 10 * kSecond / 1000;
  send(now);
  answer(packets - 1, now + 90 * kMicrosecond);
  EXPECT_EQ(window.round_trip().least(), 90 * kMicrosecond);
}

TEST(SentWindow, IsFullAt1024) {
  SentWindow window;
  for (uint64_t i = 0; i < SentWindow::kSlots; ++i) {
    ASSERT_FALSE(window.full());
    window.Add(0, i, static_cast<uint32_t>(100 + i % 7));
  }
  EXPECT_TRUE(window.full());
}

}  // namespace
}  // namespace harp
}  // namespace taco
