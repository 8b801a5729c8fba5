// A connection over two interfaces of each side: 127.0.0.1 and 127.0.0.2 stand for them.

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "nccl_plugin/engine/listener.h"
#include "nccl_plugin/engine/net.h"
#include "nccl_plugin/engine/send_connection.h"
#include "nccl_plugin/io/clock.h"
#include "nccl_plugin/io/packet_io_around.h"
#include "nccl_plugin/io/udp.h"

namespace taco {
namespace harp {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

// Of whose interfaces one can be cut off.
class Cut final : public PacketIoAround {
 public:
  Cut(std::unique_ptr<PacketIo> io, std::atomic<int>* which)
      : PacketIoAround(std::move(io)), which_(which) {}
  size_t Send(const Outgoing* packets, size_t count) override {
    for (size_t i = 0; i < count; ++i) {
      if (packets[i].path % 2 == which_->load()) continue;
      if (io_->Send(packets + i, 1) == 0) return i;
    }
    return count;
  }

 private:
  std::atomic<int>* const which_;
};

class MergedTest : public testing::Test {
 protected:
  // `interfaces` of 1 or 2.
  std::unique_ptr<PacketIo> Open(int interfaces, int paths) {
    UdpOptions options;
    options.address = "127.0.0.1";
    options.interface = "lo";
    if (interfaces == 2) options.others = {{"127.0.0.2", "lo"}};
    options.paths = static_cast<uint16_t>(paths);
    std::string error;
    std::unique_ptr<PacketIo> io = OpenUdp(options, &error);
    EXPECT_NE(io, nullptr) << error;
    return std::make_unique<Cut>(std::move(io), &cut_);
  }

  void Connect(int sender_interfaces, int receiver_interfaces) {
    Settings settings;
    settings.dead_seconds = 3;
    const Secret secret = {1, 2, 3};
    listener_ = std::make_unique<Listener>(
        Open(receiver_interfaces, 1),
        [=](std::string*) { return Open(receiver_interfaces, receiver_interfaces); }, secret,
        settings, nullptr, [] { return uint64_t{77}; });
    sender_ = std::make_unique<SendConnection>(Open(sender_interfaces, 2 * sender_interfaces),
                                               listener_->endpoint(), secret, 55, "test", settings,
                                               Now(), sender_interfaces);
    ASSERT_TRUE(Within([&] {
      if (receiver_ == nullptr) receiver_ = listener_->Accept();
      return receiver_ != nullptr && sender_->state() == Connection::State::kOpen;
    }));
  }

  bool Within(const std::function<bool()>& holds) {
    const int64_t end = Now() + 20 * kSecond;
    while (!holds()) {
      const int64_t now = Now();
      if (now > end) return false;
      sender_->Move(now);
      listener_->Move(now);
      listener_->MoveWaiting(now);
      if (receiver_ != nullptr) receiver_->Move(now);
    }
    return true;
  }

  // A message of random bytes arrives.
  void Transfer(size_t size) {
    std::vector<uint8_t> out(size), in(size);
    std::mt19937_64 random(size);
    for (uint8_t& byte : out) byte = static_cast<uint8_t>(random());
    const Receiver::Buffer buffer{in.data(), size, 0};
    Request* receive = receiver_->Post(&buffer, 1);
    Request* send = sender_->Send(out.data(), size, 0);
    ASSERT_NE(receive, nullptr);
    ASSERT_NE(send, nullptr);
    uint64_t sizes[8];
    bool sent = false, received = false;
    ASSERT_TRUE(Within([&] {
      sent = sent || sender_->Test(send, sizes);
      received = received || receiver_->Test(receive, sizes);
      return sent && received;
    })) << sender_->failure();
    EXPECT_EQ(out, in);
  }

  // Bytes that the paths of an interface of the sender's have carried.
  uint64_t Carried(int interface) const {
    uint64_t bytes = 0;
    for (int path = interface; path < sender_->paths(); path += 2) {
      bytes += sender_->sender()->Stats(path).bytes;
    }
    return bytes;
  }

  std::atomic<int> cut_{-1};
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<SendConnection> sender_;
  std::unique_ptr<ReceiveConnection> receiver_;
};

TEST_F(MergedTest, BothInterfacesCarryBytes) {
  Connect(2, 2);
  for (int i = 0; i < 8; ++i) Transfer(3'000'000);
  EXPECT_GT(Carried(0), 1'000'000u);
  EXPECT_GT(Carried(1), 1'000'000u);
}

TEST_F(MergedTest, SidesWithUnlikeNumbersOfInterfacesUnderstandEachOther) {
  for (const auto& [sender, receiver] : {std::pair(1, 2), std::pair(2, 1)}) {
    receiver_ = nullptr;
    Connect(sender, receiver);
    Transfer(2'000'000);
    Transfer(0);
    Transfer(5);
  }
}

TEST_F(MergedTest, AnInterfaceThatIsCutOffIsDoneWithout) {
  Connect(2, 2);
  Transfer(3'000'000);
  cut_ = 1;
  const uint64_t before = Carried(0);
  for (int i = 0; i < 4; ++i) Transfer(3'000'000);
  EXPECT_GT(Carried(0) - before, 10'000'000u);
  cut_ = -1;
  ASSERT_TRUE(Within([&] { return !sender_->sender()->Stats(1).black; }));
  const uint64_t mended = Carried(1);
  for (int i = 0; i < 8; ++i) Transfer(3'000'000);
  EXPECT_GT(Carried(1) - mended, 1'000'000u);
}

// What a burst leaves in the socket is read by one look, not 16 packets of it: a look of the helper
// comes each 32 ms.
TEST_F(MergedTest, ALookReadsAllThatCame) {
  Connect(1, 1);
  Transfer(100'000);
  UdpOptions options;
  options.address = "127.0.0.1";
  options.paths = 1;
  std::string error;
  const auto stranger = OpenUdp(options, &error);
  ASSERT_NE(stranger, nullptr) << error;
  const uint8_t nothing[40] = {};
  PacketIo::Outgoing packet;
  packet.head = nothing;
  packet.head_bytes = sizeof(nothing);
  packet.to = receiver_->io().local(0);
  const uint64_t before = receiver_->io().stats().packets_received;
  for (int i = 0; i < 300;) i += static_cast<int>(stranger->Send(&packet, 1));
  ASSERT_TRUE(receiver_->Move(Now()));
  EXPECT_GE(receiver_->io().stats().packets_received, before + 300);
}

TEST(Merge, DevicesBecomeOneOrAreRefusedWithAReason) {
  setenv("HARP_IFACE", "=lo", 1);
  Net& net = Net::Get();
  net.Init(nullptr);
  ASSERT_EQ(net.devices(), 1);
  std::string error;
  EXPECT_EQ(net.Merge({0}, &error), 0);
  EXPECT_EQ(net.Merge({0, 0}, &error), -1);
  EXPECT_NE(error.find("comes twice"), std::string::npos);
  EXPECT_EQ(net.Merge({1}, &error), -1);
  EXPECT_EQ(net.Merge({}, &error), -1);
  EXPECT_EQ(net.Merge({0, 1, 2, 3, 4}, &error), -1);
  EXPECT_TRUE(net.Knows(0));
  EXPECT_FALSE(net.Knows(1));
  EXPECT_FALSE(net.Knows(-1));
  net.Finalize();
}

}  // namespace
}  // namespace harp
}  // namespace taco
