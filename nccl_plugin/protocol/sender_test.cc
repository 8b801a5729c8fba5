// A sender and a receiver whose answers come when they are of little use. Whole transfers are
// tested in nccl_plugin/simulation.

#include "nccl_plugin/protocol/sender.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <vector>

#include "nccl_plugin/protocol/receiver.h"

namespace taco {
namespace harp {
namespace {

constexpr int64_t kMs = 1'000'000;

SenderOptions WithPaths(int paths) {
  SenderOptions options;
  options.paths = paths;
  options.dead_ns = 3000 * kMs;
  return options;
}

// A receiver reads a packet.
void Deliver(const Emission& each, int64_t now, Receiver* receiver) {
  std::vector<uint8_t> bytes(each.head, each.head + each.head_bytes);
  bytes.insert(bytes.end(), each.body, each.body + each.body_bytes);
  Packet packet;
  ASSERT_EQ(ParsePacket(bytes.data(), bytes.size(), false, &packet), ParseResult::kOk);
  if (packet.header.type == PacketType::kData) receiver->OnData(packet, now, now);
  if (packet.header.type == PacketType::kProbe) receiver->OnProbe(packet, now, now);
}

class SenderTest : public testing::Test {
 protected:
  static constexpr int kPaths = 64;

  SenderTest()
      : sender_(WithPaths(kPaths)), receiver_([credit = &pool_] {
          ReceiverOptions options;
          options.paths = kPaths;
          options.credit = credit;
          return options;
        }()) {}

  // What the sender writes now.
  std::vector<Emission> Written(int64_t now) {
    std::vector<Emission> all(64);
    all.resize(sender_.Poll(now, all.data(), all.size()));
    return all;
  }

  // The receiver reads packets, and the sender its answers.
  void Exchange(const std::vector<Emission>& packets, int64_t now) {
    for (const Emission& each : packets) Deliver(each, now, &receiver_);
    Emission answers[64];
    size_t count;
    while ((count = receiver_.Poll(now, answers, 64)) != 0) {
      for (size_t i = 0; i < count; ++i) {
        Packet packet;
        ASSERT_EQ(ParsePacket(answers[i].head, answers[i].head_bytes, false, &packet),
                  ParseResult::kOk);
        sender_.OnAck(packet, now, now);
      }
    }
  }

  int Black() const {
    int count = 0;
    for (int path = 0; path < kPaths; ++path) count += sender_.Stats(path).black ? 1 : 0;
    return count;
  }

  CreditPool pool_{1 << 20};
  Sender sender_;
  Receiver receiver_;
};

// The receiver's thread runs seldom and reads little, while more questions come: what it answers
// was given up long ago.
TEST_F(SenderTest, AnAnswerIsASignOfLifeHoweverLate) {
  std::vector<uint8_t> out(50'000, 7), in(out.size());
  const Receiver::Buffer buffer{in.data(), in.size(), 0};
  uint64_t group, message;
  ASSERT_TRUE(receiver_.Post(&buffer, 1, &group));
  int64_t now = 1;
  sender_.Ask();
  Exchange(Written(now), now + kMs / 10);
  ASSERT_TRUE(sender_.Send(out.data(), out.size(), 0, &message));
  std::deque<Emission> queue;
  const auto pass = [&] {
    now += kMs / 2;
    for (const Emission& each : Written(now)) queue.push_back(each);
  };
  while (Black() < kPaths) {
    pass();
    ASSERT_LT(now, 2000 * kMs);
  }
  for (int look = 0; look < 20'000 && !sender_.Done(message); ++look) {
    pass();
    ASSERT_EQ(sender_.failure(), "") << look << " " << queue.size();
    if (look % 20 != 0) continue;
    const size_t read = std::min<size_t>(queue.size(), 16);
    Exchange({queue.begin(), queue.begin() + static_cast<ptrdiff_t>(read)}, now);
    queue.erase(queue.begin(), queue.begin() + static_cast<ptrdiff_t>(read));
  }
  EXPECT_TRUE(sender_.Done(message));
  EXPECT_EQ(in, out);
}

// A question takes a number of the window, as data do.
TEST(SenderWindow, AFullOneAsksNothing) {
  SenderOptions options = WithPaths(1);
  options.congestion.swift.first_window = SentWindow::kSlots;
  Sender sender(options);
  CreditPool pool(1 << 30);
  ReceiverOptions ends;
  ends.paths = 1;
  ends.credit = &pool;
  Receiver receiver(ends);
  std::vector<uint8_t> out(3 * SentWindow::kSlots * options.chunk_bytes, 7), in(out.size());
  const Receiver::Buffer buffer{in.data(), in.size(), 0};
  uint64_t group, message;
  ASSERT_TRUE(receiver.Post(&buffer, 1, &group));
  int64_t now = 1;
  std::vector<Emission> emissions(64);
  // All that is written now, and what the receiver says to it, unless that gets lost.
  const auto exchange = [&](bool lost) {
    size_t written = 0, count;
    while ((count = sender.Poll(now, emissions.data(), emissions.size())) != 0) {
      written += count;
      for (size_t i = 0; i < count && !lost; ++i) {
        Deliver(emissions[i], now, &receiver);
        Emission answer;
        while (receiver.Poll(now + kMs, &answer, 1) != 0) {
          Packet ack;
          EXPECT_EQ(ParsePacket(answer.head, answer.head_bytes, false, &ack), ParseResult::kOk);
          sender.OnAck(ack, now, now + 1000);
        }
      }
    }
    return written;
  };
  sender.Ask();
  exchange(false);
  ASSERT_TRUE(sender.Send(out.data(), out.size(), 0, &message));
  EXPECT_EQ(exchange(true), SentWindow::kSlots);
  // Before the timeout of 5 ms, which gives all of them up, there are several probes.
  for (int step = 0; step < 400; ++step) {
    now += 10'000;
    EXPECT_EQ(exchange(true), 0u) << step;
  }
  for (int step = 0; step < 3000 && !sender.Done(message); ++step) {
    now += kMs;
    exchange(false);
  }
  EXPECT_TRUE(sender.Done(message));
  EXPECT_EQ(in, out);
}

// What was sent before a path went black says nothing about it.
TEST_F(SenderTest, AnAnswerToWhatCameBeforeIsNone) {
  std::vector<uint8_t> out(1000, 7), in(out.size());
  const Receiver::Buffer buffer{in.data(), in.size(), 0};
  uint64_t group, message;
  ASSERT_TRUE(receiver_.Post(&buffer, 1, &group));
  int64_t now = 1;
  sender_.Ask();
  Exchange(Written(now), now + kMs / 10);
  ASSERT_TRUE(sender_.Send(out.data(), out.size(), 0, &message));
  const std::vector<Emission> before = Written(now += kMs);
  ASSERT_FALSE(before.empty());
  while (Black() < kPaths) {
    ASSERT_LT(now, 2000 * kMs);
    Written(now += kMs / 2);
  }
  Exchange(before, now);
  EXPECT_EQ(Black(), kPaths);
}

}  // namespace
}  // namespace harp
}  // namespace taco
