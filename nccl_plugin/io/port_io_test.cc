// PortIo and Port over devices in memory.
#include "nccl_plugin/io/port_io.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nccl_plugin/io/device_for_test.h"

namespace taco {
namespace harp {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

PacketIo::Outgoing Packet(const std::string& text, const Endpoint& to, uint16_t path = 0) {
  PacketIo::Outgoing packet;
  packet.head = reinterpret_cast<const uint8_t*>(text.data());
  packet.head_bytes = static_cast<uint32_t>(text.size() / 2);
  packet.body = packet.head + packet.head_bytes;
  packet.body_bytes = static_cast<uint32_t>(text.size()) - packet.head_bytes;
  packet.path = path;
  packet.to = to;
  return packet;
}

size_t SendText(PacketIo* io, const std::string& text, const Endpoint& to, uint16_t path = 0) {
  const PacketIo::Outgoing packet = Packet(text, to, path);
  return io->Send(&packet, 1);
}

std::string TextOf(const PacketIo::Incoming& packet) {
  return {reinterpret_cast<const char*>(packet.bytes), packet.size};
}

std::vector<std::string> ReceiveTexts(PacketIo* io) {
  std::vector<std::string> texts;
  PacketIo::Incoming packets[64];
  for (size_t count; (count = io->Receive(packets, 64)) != 0;) {
    for (size_t i = 0; i < count; ++i) texts.push_back(TextOf(packets[i]));
  }
  return texts;
}

// With so many queues.
class PortIoTest : public testing::TestWithParam<size_t> {
 protected:
  static constexpr size_t kFrames = 4096;
  const std::shared_ptr<Segment> segment_ = std::make_shared<Segment>();
  const Machine one_{segment_, 1, kFrames, GetParam()}, two_{segment_, 2, kFrames, GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Queues, PortIoTest, testing::Values(1, 2, 5));

TEST_P(PortIoTest, PacketsArriveWithPathAndSender) {
  const auto a = one_.Open(2);
  const auto b = two_.Open(3);
  EXPECT_EQ(SendText(a.get(), "hello", b->local(2), 1), 1u);
  PacketIo::Incoming got[4];
  ASSERT_EQ(b->Receive(got, 4), 1u);
  EXPECT_EQ(TextOf(got[0]), "hello");
  EXPECT_EQ(got[0].path, 2);
  EXPECT_EQ(got[0].from, a->local(1));
  EXPECT_GE(got[0].waited_ns, 0);
  EXPECT_EQ(b->Receive(got, 4), 0u);
  EXPECT_EQ(a->stats().packets_sent, 1u);
  EXPECT_EQ(a->stats().bytes_sent, 5u);
  EXPECT_EQ(a->stats().user_copied_bytes, 5u);
  EXPECT_EQ(a->stats().kernel_copied_bytes, 0u);
  EXPECT_EQ(b->stats().user_copied_bytes, 10u);
  EXPECT_EQ(b->stats().kernel_copied_bytes, 5u);
  EXPECT_EQ(b->stats().packets_received, 1u);
  EXPECT_EQ(b->stats().bytes_received, 5u);
}

TEST_P(PortIoTest, WhoeverLooksFindsForAll) {
  const auto a = one_.Open(1);
  const auto b = two_.Open(1), c = two_.Open(1);
  SendText(a.get(), "to b", b->local(0));
  SendText(a.get(), "to c", c->local(0));
  SendText(a.get(), "to b again", b->local(0));
  EXPECT_THAT(ReceiveTexts(c.get()), ElementsAre("to c"));
  EXPECT_THAT(ReceiveTexts(b.get()), ElementsAre("to b", "to b again"));
}

TEST_P(PortIoTest, ViewsStayUntilTheNextCallWhateverOthersDo) {
  const auto a = one_.Open(1);
  const auto b = two_.Open(1), c = two_.Open(1);
  SendText(a.get(), "stays", b->local(0));
  PacketIo::Incoming got[16];
  ASSERT_EQ(b->Receive(got, 16), 1u);
  for (int i = 0; i < 5000; ++i) {
    SendText(a.get(), "other", c->local(0));
    ReceiveTexts(c.get());
  }
  EXPECT_EQ(TextOf(got[0]), "stays");
}

TEST_P(PortIoTest, WhatIsForNobodyIsDroppedAndItsFrameGivenBack) {
  const auto a = one_.Open(1);
  const auto b = two_.Open(1);
  Endpoint nobody = b->local(0);
  nobody.port = static_cast<uint16_t>(nobody.port ^ 1);
  SendText(a.get(), "nobody's port", nobody);
  {
    const std::lock_guard<std::mutex> lock(segment_->mutex);
    segment_->waiting[{two_.device->facts().mac, 0}].push_back({1, 2, 3});
  }
  EXPECT_THAT(ReceiveTexts(b.get()), IsEmpty());
  EXPECT_EQ(two_.device->others, 1);  // that all frames are back the device checks at its end
}

TEST_P(PortIoTest, AnAddressThatIsNotThePortsIsNotTaken) {
  const auto a = one_.Open(1);
  const auto b = two_.Open(1);
  Endpoint other = b->local(0);
  other.address[2] = 7;  // to the same machine, by the last byte
  SendText(a.get(), "not mine", other);
  EXPECT_THAT(ReceiveTexts(b.get()), IsEmpty());
}

TEST_P(PortIoTest, AFullInboxDropsAndTakesAgain) {
  const Machine small(segment_, 3, 256, GetParam());  // half of which may wait
  const auto a = one_.Open(1);
  const auto b = small.Open(1), c = small.Open(1);
  for (int i = 0; i < 500; ++i) SendText(a.get(), std::to_string(i), b->local(0));
  SendText(a.get(), "for c", c->local(0));
  EXPECT_THAT(ReceiveTexts(c.get()), ElementsAre("for c")) << "b's packets do not hold it up";
  const std::vector<std::string> waited = ReceiveTexts(b.get());
  ASSERT_FALSE(waited.empty());
  EXPECT_LT(waited.size(), 200u);
  EXPECT_EQ(b->stats().dropped, 500 - waited.size());
  for (size_t i = 0; i < waited.size(); ++i) EXPECT_EQ(waited[i], std::to_string(i));
  SendText(a.get(), "later", b->local(0));
  EXPECT_THAT(ReceiveTexts(b.get()), ElementsAre("later"));
}

TEST_P(PortIoTest, SendTakesWhatFitsAndGoesOn) {
  const auto a = one_.Open(1);
  const auto b = two_.Open(1);
  std::vector<std::string> texts;
  for (int i = 0; i < 100; ++i) texts.push_back("packet " + std::to_string(i));
  std::vector<PacketIo::Outgoing> packets;
  for (const std::string& text : texts) packets.push_back(Packet(text, b->local(0)));
  std::vector<std::string> got;
  size_t sent = 0;
  for (int turn = 0; turn < 100 && sent < packets.size(); ++turn) {
    one_.device->room = static_cast<size_t>(turn % 40);
    const size_t taken = a->Send(packets.data() + sent, packets.size() - sent);
    EXPECT_LE(taken, static_cast<size_t>(turn % 40));
    sent += taken;
  }
  EXPECT_EQ(sent, packets.size());
  EXPECT_EQ(ReceiveTexts(b.get()), texts) << "each once, in order";
  EXPECT_EQ(a->stats().packets_sent, packets.size());
  EXPECT_GT(a->stats().queue_full, 0u);
}

TEST_P(PortIoTest, WhatHasNoWayOrIsTooLargeIsLostAmongTheOthers) {
  const auto a = one_.Open(1);
  const auto b = two_.Open(1);
  Endpoint unknown = b->local(0);
  unknown.address[3] = 200;
  const std::string first = "first", lost = "lost";
  const std::string large(a->max_packet() + 1, 'x'), largest(a->max_packet(), 'y');
  const PacketIo::Outgoing packets[] = {Packet(first, b->local(0)), Packet(lost, unknown),
                                        Packet(large, b->local(0)), Packet(largest, b->local(0))};
  EXPECT_EQ(a->Send(packets, 4), 4u);
  EXPECT_EQ(a->stats().packets_lost, 2u);
  EXPECT_THAT(ReceiveTexts(b.get()), ElementsAre("first", largest));
}

TEST_P(PortIoTest, AWayIsAskedForOnceInAWhile) {
  const auto a = one_.Open(1);
  const auto b = two_.Open(1);
  for (int i = 0; i < 100; ++i) SendText(a.get(), "x", b->local(0));
  EXPECT_LE(one_.device->asked, 3) << "a second may have passed, and another";
}

TEST_P(PortIoTest, OnesOwnAddressIsReachedWithoutTheWire) {
  const auto a = one_.Open(1), b = one_.Open(2);
  EXPECT_EQ(SendText(a.get(), "neighbour", b->local(1)), 1u);
  EXPECT_EQ(SendText(a.get(), "myself", a->local(0)), 1u);
  EXPECT_THAT(ReceiveTexts(b.get()), ElementsAre("neighbour"));
  EXPECT_THAT(ReceiveTexts(a.get()), ElementsAre("myself"));
}

TEST_P(PortIoTest, TheKernelTakesWhatHasNoWay) {
  // Stands for sockets: what goes through it comes out of it.
  class Kernel : public PacketIo {
   public:
    size_t Send(const Outgoing* packets, size_t count) override {
      for (size_t i = 0; i < count; ++i) {
        bytes_.append(packets[i].head, packets[i].head + packets[i].head_bytes);
        bytes_.append(packets[i].body, packets[i].body + packets[i].body_bytes);
      }
      return count;
    }
    size_t Receive(Incoming* packets, size_t) override {
      view_ = std::exchange(bytes_, "");
      if (view_.empty()) return 0;
      packets[0] = Incoming();
      packets[0].bytes = reinterpret_cast<const uint8_t*>(view_.data());
      packets[0].size = static_cast<uint32_t>(view_.size());
      return 1;
    }
    size_t max_packet() const override { return 1472; }
    uint16_t paths() const override { return 1; }
    Endpoint local(uint16_t) const override { return ParseEndpoint("10.9.0.1:777").value(); }
    int descriptor() const override { return -1; }
    const Stats& stats() const override { return stats_; }
    const std::string& notes() const override { return notes_; }

   private:
    std::string bytes_, view_, notes_;
    Stats stats_;
  };
  const auto a = one_.Open(1, 0, std::make_unique<Kernel>());
  EXPECT_EQ(a->local(0).port, 777) << "the kernel's ports are used";
  Endpoint unknown = a->local(0);
  unknown.address[3] = 200;
  EXPECT_EQ(SendText(a.get(), "aside", unknown), 1u);
  EXPECT_EQ(a->stats().packets_lost, 0u);
  std::vector<std::string> got;
  for (int look = 0; look < 1000 && got.empty(); ++look) got = ReceiveTexts(a.get());
  EXPECT_THAT(got, ElementsAre("aside"));
}

TEST_P(PortIoTest, PortsAreTheirOwnersUntilTheyGo) {
  auto a = one_.Open(4, 5000);
  EXPECT_THAT(one_.device->claimed, ElementsAre(5000, 5001, 5002, 5003));
  PortIoOptions options;
  options.port = 5003;
  options.paths = 2;
  std::string error;
  EXPECT_EQ(OpenPortIo(one_.port, std::move(options), &error), nullptr);
  EXPECT_THAT(error, HasSubstr("5003 is in use"));
  a.reset();
  EXPECT_THAT(one_.device->claimed, IsEmpty());
  EXPECT_NE(one_.Open(2, 5003), nullptr);
}

TEST_P(PortIoTest, ARefusedPortLeavesNothingBehind) {
  one_.device->refused = 5002;
  PortIoOptions options;
  options.port = 5000;
  options.paths = 4;
  std::string error;
  EXPECT_EQ(OpenPortIo(one_.port, std::move(options), &error), nullptr);
  EXPECT_EQ(error, "it is refused");
  EXPECT_THAT(one_.device->claimed, IsEmpty());
  EXPECT_NE(one_.Open(2, 5000), nullptr);
}

TEST_P(PortIoTest, ClosingWithPacketsWaitingGivesTheirFramesBack) {
  const auto a = one_.Open(1);
  auto b = two_.Open(1);
  const auto c = two_.Open(1);
  const Endpoint gone = b->local(0);
  for (int i = 0; i < 100; ++i) SendText(a.get(), "waits", gone);
  ReceiveTexts(c.get());  // they are in b's inbox now
  PacketIo::Incoming got[16];
  ASSERT_EQ(b->Receive(got, 16), 16u);
  b.reset();
  SendText(a.get(), "too late", gone);
  EXPECT_THAT(ReceiveTexts(c.get()), IsEmpty());
}

TEST_P(PortIoTest, ManyThreadsShareAPort) {
  constexpr int kThreads = 3, kPackets = 3000;
  const auto a = one_.Open(1);
  std::vector<std::unique_ptr<PacketIo>> receivers;
  for (int i = 0; i < kThreads; ++i) receivers.push_back(two_.Open(1));
  std::atomic<bool> sent{false};
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0}, received{0};
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      int last = -1;
      for (;;) {
        const bool all_sent = sent;
        const std::vector<std::string> texts =
            ReceiveTexts(receivers[static_cast<size_t>(i)].get());
        for (const std::string& text : texts) {
          const size_t colon = text.find(':');
          const int number = std::stoi(text.substr(colon + 1));
          if (std::stoi(text) != i || number <= last) ++wrong;
          last = number;
          ++received;
        }
        if (all_sent && texts.empty()) break;
      }
    });
  }
  // Others come and go meanwhile.
  std::thread guest([&] {
    while (!sent) two_.Open(2)->stats();
  });
  for (int number = 0; number < kPackets; ++number) {
    for (int to = 0; to < kThreads; ++to) {
      SendText(a.get(), std::to_string(to) + ":" + std::to_string(number),
               receivers[static_cast<size_t>(to)]->local(0));
    }
    if (number % 64 == 0) std::this_thread::yield();
  }
  sent = true;
  for (std::thread& thread : threads) thread.join();
  guest.join();
  EXPECT_EQ(wrong, 0) << "of another, or out of order";
  EXPECT_GT(received, 0);
}

TEST_P(PortIoTest, ManyThreadsSendByOnePort) {
  constexpr int kThreads = 3, kPackets = 2000;
  const auto b = two_.Open(1);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      const auto a = one_.Open(1);
      for (int number = 0; number < kPackets;) {
        number += static_cast<int>(SendText(a.get(), "x", b->local(0)));
        if (number % 16 == 0) std::this_thread::yield();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::lock_guard<std::mutex> lock(segment_->mutex);
  EXPECT_EQ(segment_->Waiting(two_.device->facts().mac), size_t{kThreads * kPackets});
}

TEST_P(PortIoTest, MemoryIsKnownUntilTheDeviceHasSentIt) {
  const char bytes[100] = {};
  auto a = one_.Open(1);
  const auto memory = a->Register(bytes, sizeof(bytes));
  ASSERT_NE(memory, nullptr);
  EXPECT_EQ(one_.device->memory.count(bytes), 1u);
  a.reset();  // it outlives what it was registered with
  one_.device->still_to_send = 5;
  EXPECT_TRUE(memory->Release());
  EXPECT_TRUE(one_.device->memory.empty());
  EXPECT_TRUE(memory->Release()) << "once more does nothing";
}

TEST_P(PortIoTest, MemoryThatTheDeviceKeepsIsNotReleased) {
  const char bytes[100] = {};
  const auto a = one_.Open(1);
  const auto memory = a->Register(bytes, sizeof(bytes));
  one_.device->still_to_send = 1 << 30;
  EXPECT_FALSE(memory->Release());
  one_.device->still_to_send = 0;
  EXPECT_TRUE(memory->Release());
}

TEST_P(PortIoTest, ADeviceThatCopiesKnowsNoMemory) {
  const char bytes[100] = {};
  one_.device->copies = true;
  EXPECT_EQ(one_.Open(1)->Register(bytes, sizeof(bytes)), nullptr);
}

// By one queue no two threads send at a time; by several they do.
TEST_P(PortIoTest, WhoSendsTakesTheQueuesInTurn) {
  std::vector<std::unique_ptr<PacketIo>> senders;
  for (size_t i = 0; i < 2 * GetParam(); ++i) senders.push_back(one_.Open(1));
  const auto b = two_.Open(1);
  const Port::Sending busy(one_.port.get(), one_.port->ChooseSendQueue());
  ASSERT_TRUE(static_cast<bool>(busy));
  size_t taken = 0;
  for (const auto& sender : senders) taken += SendText(sender.get(), "x", b->local(0));
  EXPECT_EQ(taken, 2 * GetParam() - 2);
}

TEST_P(PortIoTest, PacketsOfAllQueuesAreFoundByOneWhoReceives) {
  const auto b = two_.Open(8);
  std::vector<std::unique_ptr<PacketIo>> senders;
  for (int i = 0; i < 8; ++i) senders.push_back(one_.Open(8));
  size_t sent = 0;
  for (const auto& sender : senders) {
    for (uint16_t path = 0; path < 8; ++path) {
      sent += SendText(sender.get(), "x", b->local(path), path);
      sent += SendText(sender.get(), "x", b->local(0), path);
    }
  }
  EXPECT_EQ(sent, 128u);
  // Fewer than kLeft: there are no more.
  PacketIo::Incoming got[64];
  size_t received = 0, count;
  do {
    received += count = b->Receive(got, 64);
  } while (count >= PacketIo::kLeft);
  EXPECT_EQ(received, sent);
}

TEST(SharedPort, IsOneForItsUsersAndGoesWithTheLast) {
  const auto segment = std::make_shared<Segment>();
  int made = 0;
  const auto make = [&] {
    ++made;
    return std::make_unique<DeviceForTest>(segment, 1, 64);
  };
  auto first = SharedPort("test 1", make);
  EXPECT_EQ(SharedPort("test 1", make), first);
  EXPECT_EQ(made, 1);
  first.reset();
  EXPECT_NE(SharedPort("test 1", make), nullptr);
  EXPECT_EQ(made, 2);
  EXPECT_EQ(SharedPort("test 2", [] { return nullptr; }), nullptr);
}

}  // namespace
}  // namespace harp
}  // namespace taco
