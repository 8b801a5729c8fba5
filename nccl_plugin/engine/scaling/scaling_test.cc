// 1 to 16 engines in the model of caches: what a packet costs must not depend on their number, or
// they share a line that they should not.
//
// Two machines. On each, engine i has two connections to engine i of the other, and their user is a
// thread of its own. The wire is a ring of packets, which counts as a device: HARP's own code is
// watched and no more. Processors take turns, a microsecond each of a clock that is this test's.

#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "nccl_plugin/engine/receive_connection.h"
#include "nccl_plugin/engine/scaling/caches.h"
#include "nccl_plugin/engine/send_connection.h"

namespace {
int64_t clock_ns = 1'000'000'000;
}  // namespace

extern "C" int __wrap_clock_gettime(clockid_t, timespec* time) {
  time->tv_sec = clock_ns / 1'000'000'000;
  time->tv_nsec = clock_ns % 1'000'000'000;
  return 0;
}

namespace taco {
namespace harp {
namespace {

constexpr int kConnections = 2;  // of an engine
constexpr size_t kDepth = 8;
constexpr size_t kMost = 64 << 10;
constexpr int64_t kTurn = 5'000;

// One direction, or both ends' packets for one.
struct Slots {
  static constexpr size_t kCount = 256, kBytes = 1536;
  struct Slot {
    uint8_t bytes[kBytes];
    uint32_t size;
  };
  std::vector<Slot> slots = std::vector<Slot>(kCount);
  uint64_t written = 0, read = 0;
};

class WireEnd final : public PacketIo {
 public:
  WireEnd(Slots* out, Slots* in, uint8_t number) : out_(out), in_(in) {
    local_.address[0] = number;
    local_.family = Family::kIpv4;
    local_.port = 1000;
  }

  size_t Send(const Outgoing* packets, size_t count) override {
    const Unwatched unwatched;
    for (size_t index = 0; index < count; ++index) {
      if (out_->written - out_->read == Slots::kCount) return index;
      Slots::Slot& slot = out_->slots[out_->written++ % Slots::kCount];
      const Outgoing& each = packets[index];
      std::copy_n(each.head, each.head_bytes, slot.bytes);
      if (each.body_bytes != 0)
        std::copy_n(each.body, each.body_bytes, slot.bytes + each.head_bytes);
      slot.size = each.head_bytes + each.body_bytes;
      WrittenByDevice(slot.bytes, slot.size);
      ++stats_.packets_sent;
    }
    return count;
  }
  size_t Receive(Incoming* packets, size_t most) override {
    const Unwatched unwatched;
    in_->read = seen_;  // the views of the last call have ended
    size_t count = 0;
    for (; count < most && seen_ < in_->written; ++count) {
      const Slots::Slot& slot = in_->slots[seen_++ % Slots::kCount];
      packets[count] = Incoming();
      packets[count].bytes = slot.bytes;
      packets[count].size = slot.size;
      packets[count].from = local_;
    }
    return count;
  }
  size_t max_packet() const override { return 1456; }
  uint16_t paths() const override { return 1; }
  Endpoint local(uint16_t) const override { return local_; }
  int descriptor() const override { return -1; }
  const Stats& stats() const override { return stats_; }
  const std::string& notes() const override { return notes_; }

 private:
  Slots *out_, *in_;
  uint64_t seen_ = 0;
  Endpoint local_;
  Stats stats_;
  std::string notes_;
};

// A connection and both its users.
class Line {
 public:
  explicit Line(const std::shared_ptr<CreditPool>& credit) {
    Settings settings;
    sender = std::make_unique<SendConnection>(std::make_unique<WireEnd>(&forth_, &back_, 1),
                                              Endpoint(), Secret(), 11, "test", settings, clock_ns);
    Hello hello;
    hello.paths = 1;
    hello.features = kFeatureChecksum;
    hello.chunk_bytes = 1408;
    receiver =
        std::make_unique<ReceiveConnection>(std::make_unique<WireEnd>(&back_, &forth_, 2), hello,
                                            11, Endpoint(), 22, settings, credit, clock_ns);
    // The WELCOME comes again after 20 ms, as no listener has sent the first.
    for (int turn = 0; turn < 100 && sender->state() != Connection::State::kOpen; ++turn) {
      clock_ns += 1'000'000;
      sender->Move(clock_ns);
      receiver->Move(clock_ns);
    }
    EXPECT_EQ(sender->state(), Connection::State::kOpen);
    sender->UseEngine();
    receiver->UseEngine();
  }

  // One of 16 messages is large, as most bytes are and few messages.
  static size_t SizeOf(uint64_t message) { return message % 16 == 0 ? kMost : 8; }

  void MoveSendersUser(uint64_t messages) {
    uint64_t size;
    while (done_ < begun_ && sender->Test(sends_[done_ % kDepth], &size)) ++done_;
    while (begun_ < messages && begun_ - done_ < kDepth) {
      void* bytes = out_.data() + begun_ % kDepth * kMost;
      sends_[begun_ % kDepth] = sender->Send(bytes, SizeOf(begun_), 0);
      if (sends_[begun_ % kDepth] == nullptr) return;
      ++begun_;
    }
  }
  void MoveReceiversUser(uint64_t messages) {
    uint64_t size;
    while (filled_ < posted_ && receiver->Test(receives_[filled_ % kDepth], &size)) ++filled_;
    while (posted_ < messages && posted_ - filled_ < kDepth) {
      const Receiver::Buffer buffer{in_.data() + posted_ % kDepth * kMost, kMost, 0};
      receives_[posted_ % kDepth] = receiver->Post(&buffer, 1);
      if (receives_[posted_ % kDepth] == nullptr) return;
      ++posted_;
    }
  }
  bool Done(uint64_t messages) const { return done_ == messages && filled_ == messages; }
  uint64_t packets() const { return sender->sender()->Stats(0).packets; }

  std::unique_ptr<SendConnection> sender;
  std::unique_ptr<ReceiveConnection> receiver;

 private:
  Slots forth_, back_;
  std::vector<uint8_t> out_ = std::vector<uint8_t>(kDepth * kMost, 5), in_ = out_;
  Request *sends_[kDepth] = {}, *receives_[kDepth] = {};
  uint64_t begun_ = 0, done_ = 0, posted_ = 0, filled_ = 0;
};

struct Outcome {
  double cycles = 0;                         // of the busiest engine, for all
  double packets = 0;                        // of all
  double first = 0, second = 0, shared = 0;  // misses a packet, of engines and users
  double speed() const { return packets / cycles; }
};

void Run(std::vector<std::unique_ptr<Line>>* lines, int engines, uint64_t messages) {
  // Of each machine an engine and a user, by turns.
  const auto play = [&](int engine, int role, auto what) {
    for (int connection = 0; connection < kConnections; ++connection) {
      PlayProcessor(4 * engine + role);
      what((*lines)[engine * kConnections + connection].get());
      PlayProcessor(-1);
    }
  };
  for (int turn = 0; turn < 1'000'000; ++turn) {
    bool all = true;
    for (const auto& line : *lines) all = all && line->Done(messages);
    if (all) return;
    clock_ns += kTurn;
    for (int engine = 0; engine < engines; ++engine) {
      play(engine, 0, [&](Line* line) { line->MoveSendersUser(messages); });
      play(engine, 1, [](Line* line) { line->sender->MoveIfFree(); });
      play(engine, 2, [&](Line* line) { line->MoveReceiversUser(messages); });
      play(engine, 3, [](Line* line) { line->receiver->MoveIfFree(); });
    }
  }
  FAIL() << "it never ends";
}

Outcome Measure(int engines) {
  constexpr uint64_t kWarm = 64, kMessages = 448;
  ForgetCaches();
  const auto credit = std::make_shared<CreditPool>(size_t{100'000} * kConnections * engines);
  std::vector<std::unique_ptr<Line>> lines;
  for (int line = 0; line < kConnections * engines; ++line) {
    lines.push_back(std::make_unique<Line>(credit));
  }
  const auto packets = [&] {
    double sum = 0;
    for (const auto& line : lines) sum += static_cast<double>(line->packets());
    return sum;
  };
  Run(&lines, engines, kWarm);
  const double before = packets();
  std::vector<CacheCounts> from;
  for (int processor = 0; processor < 4 * engines; ++processor) {
    from.push_back(CountsOf(processor));
  }
  Run(&lines, engines, kMessages);
  Outcome outcome;
  outcome.packets = packets() - before;
  for (int processor = 0; processor < 4 * engines; ++processor) {
    const CacheCounts to = CountsOf(processor), was = from[processor];
    outcome.first += static_cast<double>(to.first_misses - was.first_misses) / outcome.packets;
    outcome.second += static_cast<double>(to.second_misses - was.second_misses) / outcome.packets;
    outcome.shared +=
        static_cast<double>(to.taken + to.upgrades - was.taken - was.upgrades) / outcome.packets;
    if (processor % 2 == 0) continue;  // a user
    outcome.cycles = std::max(outcome.cycles, static_cast<double>(to.cycles() - was.cycles()));
  }
  return outcome;
}

TEST(Scaling, AnEnginesPacketsCostTheSameHoweverManyEnginesThereAre) {
  const Outcome one = Measure(1);
  std::printf("engines  packets  misses a packet: first level, second, shared  cycles  times\n");
  for (const int engines : {1, 2, 4, 8, 16}) {
    const Outcome seen = engines == 1 ? one : Measure(engines);
    std::printf("%7d %8.0f %31.2f %7.2f %7.3f %7.0f %6.2f\n", engines, seen.packets, seen.first,
                seen.second, seen.shared, seen.cycles * engines / seen.packets,
                seen.speed() / one.speed());
    EXPECT_GT(seen.speed() / one.speed(), 0.9 * engines);
    EXPECT_LT(seen.first, 1.1 * one.first) << engines;
    EXPECT_LT(seen.second, 1.1 * one.second) << engines;
    EXPECT_LT(seen.shared, one.shared + 0.5) << engines;
  }
}

}  // namespace
}  // namespace harp
}  // namespace taco
