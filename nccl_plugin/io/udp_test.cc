// Real sockets over loopback. The kernel may drop what a queue cannot hold, so no more is under way
// than the smallest usual queue (208 KiB, in which a packet also pays for its bookkeeping) holds.
#include "nccl_plugin/io/udp.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace taco {
namespace harp {
namespace {

constexpr int kPatienceMs = 5000;
constexpr size_t kUnderWayPackets = 48;
constexpr size_t kUnderWayBytes = 70000;

bool MachineHasIpv6() {
  const int descriptor = socket(AF_INET6, SOCK_DGRAM, 0);
  if (descriptor < 0) return false;
  sockaddr_in6 loopback = {};
  loopback.sin6_family = AF_INET6;
  loopback.sin6_addr = in6addr_loopback;
  const int result = bind(descriptor, reinterpret_cast<sockaddr*>(&loopback), sizeof(loopback));
  close(descriptor);
  return result == 0;
}

bool WaitReadable(const PacketIo& io, int ms) {
  pollfd waiting = {io.descriptor(), POLLIN, 0};
  return poll(&waiting, 1, ms) == 1;
}

struct Came {
  std::string bytes;
  uint16_t path;
  Endpoint from;
};

// Receives until there are so many, `most` at a time.
std::vector<Came> ReceiveAll(PacketIo* io, size_t count, size_t most) {
  std::vector<Came> came;
  std::vector<PacketIo::Incoming> packets(most);
  while (came.size() < count) {
    const size_t got = io->Receive(packets.data(), most);
    EXPECT_LE(got, most);
    for (size_t i = 0; i < got; ++i) {
      const PacketIo::Incoming& packet = packets[i];
      came.push_back({std::string(reinterpret_cast<const char*>(packet.bytes), packet.size),
                      packet.path, packet.from});
    }
    if (got == 0 && !WaitReadable(*io, kPatienceMs)) {
      ADD_FAILURE() << "only " << came.size() << " of " << count << " packets came";
      break;
    }
  }
  return came;
}

struct Variant {
  const char* address;
  bool gso;
  bool gro;
};

class UdpLoopback : public testing::TestWithParam<Variant> {
 protected:
  void SetUp() override {
    const bool ipv6 = GetParam().address[0] == ':';
    if (ipv6 && !MachineHasIpv6()) GTEST_SKIP() << "no IPv6 here";
  }

  std::unique_ptr<PacketIo> Open(uint16_t paths) {
    UdpOptions options;
    options.address = GetParam().address;
    options.paths = paths;
    options.send_segmentation = GetParam().gso;
    options.receive_segmentation = GetParam().gro;
    std::string error;
    std::unique_ptr<PacketIo> io = OpenUdp(options, &error);
    EXPECT_NE(io, nullptr) << error;
    return io;
  }

  std::string RandomBytes(size_t size) {
    while (pool_.size() < 70000) pool_ += static_cast<char>(random_());
    return pool_.substr(random_() % 4000, size);
  }

  std::mt19937 random_{7};
  std::string pool_;  // bytes of which a packet takes some
};

PacketIo::Outgoing Packet(const std::string& bytes, size_t head, uint16_t path,
                          const Endpoint& to) {
  PacketIo::Outgoing packet;
  packet.head = reinterpret_cast<const uint8_t*>(bytes.data());
  packet.head_bytes = static_cast<uint32_t>(head);
  packet.body = packet.head + head;
  packet.body_bytes = static_cast<uint32_t>(bytes.size() - head);
  packet.path = path;
  packet.to = to;
  return packet;
}

TEST_P(UdpLoopback, HasOneEndpointAPath) {
  const auto io = Open(kMaxPaths);
  ASSERT_NE(io, nullptr);
  EXPECT_EQ(io->paths(), kMaxPaths);
  std::map<uint16_t, int> ports;
  for (uint16_t path = 0; path < io->paths(); ++path) ++ports[io->local(path).port];
  EXPECT_EQ(ports.size(), size_t{kMaxPaths});
  EXPECT_EQ(ports.count(0), 0u);
  PacketIo::Incoming packet;
  EXPECT_EQ(io->Receive(&packet, 1), 0u);
  EXPECT_FALSE(WaitReadable(*io, 0));
}

// Two receivers with three paths each, one sender with three: sizes that now repeat and now change,
// destinations that change in a batch. On each way from a path to a path every byte comes, once and
// in order.
TEST_P(UdpLoopback, EveryByteOfEverySizeComesOnEveryPath) {
  const auto sender = Open(3);
  const std::unique_ptr<PacketIo> receivers[] = {Open(3), Open(1)};
  ASSERT_TRUE(sender && receivers[0] && receivers[1]);
  const size_t largest = sender->max_packet();
  size_t size = 1;
  Endpoint to = receivers[0]->local(0);
  uint16_t path = 0;
  uint64_t sent = 0;
  for (int round = 0; round < 150; ++round) {
    std::vector<std::string> bytes;
    std::vector<PacketIo::Outgoing> packets;
    std::map<std::pair<uint16_t, uint16_t>, std::vector<std::string>> expected;  // by ports
    size_t counts[2] = {};
    size_t total = 0;
    bytes.reserve(kUnderWayPackets);
    const size_t most = 1 + random_() % kUnderWayPackets;
    while (packets.size() < most) {
      if (random_() % 6 == 0) {
        const size_t limits[] = {16, 1472, 9000, largest};
        size = 1 + random_() % limits[random_() % 4];
      }
      if (round == 0) size = largest;
      if (random_() % 12 == 0) path = random_() % 3;
      if (random_() % 12 == 0) to = receivers[0]->local(random_() % 3);
      if (random_() % 24 == 0) to = receivers[1]->local(0);
      total += size;
      if (total > kUnderWayBytes) break;
      bytes.push_back(RandomBytes(size));
      packets.push_back(
          Packet(bytes.back(), random_() % (std::min<size_t>(size, 40) + 1), path, to));
      expected[{sender->local(path).port, to.port}].push_back(bytes.back());
      ++counts[to.port == receivers[1]->local(0).port];
    }
    ASSERT_EQ(sender->Send(packets.data(), packets.size()), packets.size());
    sent += packets.size();
    std::map<std::pair<uint16_t, uint16_t>, std::vector<std::string>> found;
    for (int r = 0; r < 2; ++r) {
      for (const Came& came : ReceiveAll(receivers[r].get(), counts[r], 1 + random_() % 70)) {
        Endpoint from = sender->local(0);
        from.port = came.from.port;
        EXPECT_EQ(came.from, from);
        found[{came.from.port, receivers[r]->local(came.path).port}].push_back(came.bytes);
      }
    }
    ASSERT_TRUE(found == expected) << "round " << round;
  }
  EXPECT_EQ(sender->stats().packets_sent, sent);
  EXPECT_EQ(sender->stats().packets_lost, 0u);
  const uint64_t received =
      receivers[0]->stats().packets_received + receivers[1]->stats().packets_received;
  EXPECT_EQ(received, sent);
  EXPECT_EQ(receivers[0]->stats().bytes_received + receivers[1]->stats().bytes_received,
            sender->stats().bytes_sent);
}

TEST_P(UdpLoopback, AReceiverThatTakesOneAtATimeGetsAll) {
  const auto sender = Open(1);
  const auto receiver = Open(2);
  ASSERT_TRUE(sender && receiver);
  std::vector<std::string> bytes;
  std::vector<PacketIo::Outgoing> packets;
  for (size_t i = 0; i < 40; ++i) bytes.push_back(RandomBytes(i == 39 ? 3 : 1000));
  for (const std::string& b : bytes) packets.push_back(Packet(b, 3, 0, receiver->local(1)));
  ASSERT_EQ(sender->Send(packets.data(), packets.size()), packets.size());
  if (GetParam().gso) {
    EXPECT_EQ(sender->stats().send_calls, 1u);
  }
  const std::vector<Came> came = ReceiveAll(receiver.get(), 40, 1);
  ASSERT_EQ(came.size(), 40u);
  for (size_t i = 0; i < 40; ++i) {
    EXPECT_EQ(came[i].bytes, bytes[i]) << i;
    EXPECT_EQ(came[i].path, 1);
    EXPECT_EQ(came[i].from, sender->local(0));
  }
  PacketIo::Incoming none;
  EXPECT_EQ(receiver->Receive(&none, 1), 0u);
}

TEST_P(UdpLoopback, ABusyPathStarvesNoOther) {
  const auto sender = Open(1);
  const auto receiver = Open(3);
  ASSERT_TRUE(sender && receiver);
  const std::string bytes = RandomBytes(100);
  bool other = false;
  for (int i = 0; i < 200 && !other; ++i) {
    std::vector<PacketIo::Outgoing> packets(4, Packet(bytes, 0, 0, receiver->local(0)));
    if (i == 5) packets.push_back(Packet(bytes, 0, 0, receiver->local(2)));
    ASSERT_EQ(sender->Send(packets.data(), packets.size()), packets.size());
    PacketIo::Incoming came;
    for (int k = 0; k < 2; ++k) {
      if (receiver->Receive(&came, 1) == 1) other = other || came.path == 2;
    }
  }
  EXPECT_TRUE(other);
}

TEST_P(UdpLoopback, APacketThatIsTooLargeIsLostAndTheNextGoes) {
  const auto sender = Open(1);
  const auto receiver = Open(1);
  ASSERT_TRUE(sender && receiver);
  const std::string large = RandomBytes(sender->max_packet() + 1);
  const std::string fits = RandomBytes(sender->max_packet());
  const std::vector<PacketIo::Outgoing> packets = {Packet(large, 40, 0, receiver->local(0)),
                                                   Packet(fits, 40, 0, receiver->local(0))};
  EXPECT_EQ(sender->Send(packets.data(), 2), 2u);
  EXPECT_EQ(sender->stats().packets_lost, 1u);
  PacketIo::Stats stats = sender->stats();
  EXPECT_EQ(stats.error(EMSGSIZE), 1u);
  EXPECT_EQ(stats.segmentation, GetParam().gso);
  const std::vector<Came> came = ReceiveAll(receiver.get(), 1, 4);
  ASSERT_EQ(came.size(), 1u);
  EXPECT_TRUE(came[0].bytes == fits);
}

TEST_P(UdpLoopback, AClosedPortIsNoFailureAndTheNextPacketGoes) {
  const auto sender = Open(1);
  const auto receiver = Open(1);
  auto gone = Open(1);
  ASSERT_TRUE(sender && receiver && gone);
  const Endpoint closed = gone->local(0);
  gone.reset();
  const std::string bytes = RandomBytes(100);
  for (int i = 0; i < 20; ++i) {
    const PacketIo::Outgoing lost = Packet(bytes, 40, 0, closed);
    const PacketIo::Outgoing goes = Packet(bytes, 40, 0, receiver->local(0));
    EXPECT_EQ(sender->Send(&lost, 1), 1u);
    PacketIo::Incoming none;
    EXPECT_EQ(sender->Receive(&none, 1), 0u);
    EXPECT_EQ(sender->Send(&goes, 1), 1u);
    EXPECT_EQ(ReceiveAll(receiver.get(), 1, 1).size(), 1u);
  }
}

TEST_P(UdpLoopback, AnEndpointThatIsNoneIsLost) {
  const auto sender = Open(1);
  ASSERT_NE(sender, nullptr);
  const std::string bytes = RandomBytes(100);
  const std::vector<PacketIo::Outgoing> packets(3, Packet(bytes, 40, 0, Endpoint()));
  EXPECT_EQ(sender->Send(packets.data(), 3), 3u);
  EXPECT_EQ(sender->stats().packets_lost, 3u);
  EXPECT_EQ(sender->stats().segmentation, GetParam().gso);
}

INSTANTIATE_TEST_SUITE_P(Kinds, UdpLoopback,
                         testing::Values(Variant{"127.0.0.1", true, true},
                                         Variant{"127.0.0.1", true, false},
                                         Variant{"127.0.0.1", false, true},
                                         Variant{"127.0.0.1", false, false},
                                         Variant{"::1", true, true}, Variant{"::1", false, false}),
                         [](const auto& info) {
                           const Variant& v = info.param;
                           return std::string(v.address[0] == ':' ? "Ipv6" : "Ipv4") +
                                  (v.gso ? "Gso" : "") + (v.gro ? "Gro" : "");
                         });

}  // namespace
}  // namespace harp
}  // namespace taco
