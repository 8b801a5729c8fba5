// Both ends in one process, over the loopback's real sockets.

#include "nccl_plugin/engine/net.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "nccl_plugin/io/clock.h"
#include "nccl_plugin/io/udp.h"
#include "nccl_plugin/protocol/handshake.h"
#include "nccl_plugin/protocol/packet.h"

namespace taco {
namespace harp {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

std::string* logged = new std::string;

Net& StartedNet() {
  static Net* net = [] {
    setenv("HARP_IFACE", "=lo", 1);
    setenv("HARP_PATHS", "4", 1);
    setenv("HARP_DEAD_SECONDS", "1.5", 1);
    setenv("HARP_CONNECT_SECONDS", "1", 1);
    Net::Get().Init([](LogLevel, const char* text) { *logged += std::string(text) + "\n"; });
    return &Net::Get();
  }();
  return *net;
}

// Until something holds, at most 20 s.
bool Within(const std::function<bool()>& holds) {
  const int64_t end = Now() + 20 * kSecond;
  while (!holds()) {
    if (Now() > end) return false;
  }
  return true;
}

// What a call gives once it is not "not now": the helper may be at it.
template <typename Call>
Request* Begun(const Call& call) {
  Request* request = nullptr;
  EXPECT_TRUE(Within([&] { return (request = call()) != nullptr; }));
  return request;
}

struct Pair {
  explicit Pair(Net* net) : net(net) {
    Handle handle;
    listener = net->Listen(0, &handle);
    EXPECT_NE(listener, nullptr);
    bool failed = false;
    EXPECT_TRUE(Within([&] {
      if (sender == nullptr && !failed) sender = net->Connect(0, &handle, &failed);
      if (receiver == nullptr) receiver = net->Accept(listener);
      return failed || (sender != nullptr && receiver != nullptr);
    }));
    EXPECT_FALSE(failed);
  }
  ~Pair() {
    if (sender != nullptr) net->Close(sender);
    if (receiver != nullptr) net->Close(receiver);
    net->Close(listener);
  }

  Net* net;
  Listener* listener = nullptr;
  SendConnection* sender = nullptr;
  ReceiveConnection* receiver = nullptr;
};

std::vector<uint8_t> Bytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

TEST(Net, MessagesOfAllSizesArriveInTheirBuffers) {
  Pair pair(&StartedNet());
  uint64_t seed = 1;
  for (const size_t size : {size_t{0}, size_t{1}, size_t{8}, size_t{1407}, size_t{1408},
                            size_t{1409}, size_t{65536}, size_t{1 << 20}, size_t{5'000'001}}) {
    const std::vector<uint8_t> sent = Bytes(size, seed++);
    std::vector<uint8_t> received(size + 100, 0xEE);
    const Receiver::Buffer buffer{received.data(), size + 50, 7};
    Request* receive = Begun([&] { return pair.receiver->Post(&buffer, 1); });
    ASSERT_NE(receive, nullptr);
    Request* send = Begun([&] { return pair.sender->Send(sent.data(), size, 7); });
    ASSERT_NE(send, nullptr);
    uint64_t seen = ~uint64_t{0}, told = 0;
    bool is_sent = false, is_received = false;
    ASSERT_TRUE(Within([&] {
      is_sent = is_sent || pair.sender->Test(send, &told);
      is_received = is_received || pair.receiver->Test(receive, &seen);
      return is_sent && is_received;
    })) << size;
    EXPECT_EQ(seen, size);
    EXPECT_EQ(told, size);
    EXPECT_TRUE(std::equal(sent.begin(), sent.end(), received.begin()));
    for (size_t at = size; at < received.size(); ++at) ASSERT_EQ(received[at], 0xEE);
  }
}

TEST(Net, AGroupTakesItsMessagesByTag) {
  Pair pair(&StartedNet());
  std::vector<std::vector<uint8_t>> received(8, std::vector<uint8_t>(4000));
  std::vector<Receiver::Buffer> buffers;
  for (int index = 0; index < 8; ++index) {
    buffers.push_back({received[index].data(), received[index].size(), 100 - index});
  }
  Request* receive = Begun([&] { return pair.receiver->Post(buffers.data(), 8); });
  std::vector<std::vector<uint8_t>> sent;
  std::vector<Request*> sends;
  for (int index = 0; index < 8; ++index) {
    sent.push_back(Bytes(500 * index, 50 + index));
    sends.push_back(Begun(
        [&] { return pair.sender->Send(sent.back().data(), sent.back().size(), 93 + index); }));
  }
  uint64_t sizes[8];
  ASSERT_TRUE(Within([&] {
    pair.sender->Move(Now());
    return pair.receiver->Test(receive, sizes);
  }));
  for (int index = 0; index < 8; ++index) {
    const std::vector<uint8_t>& mine = sent[7 - index];  // its tag is 100 - index
    EXPECT_EQ(sizes[index], mine.size());
    EXPECT_TRUE(std::equal(mine.begin(), mine.end(), received[index].begin()));
  }
}

TEST(Net, AMessageThatIsTooLongIsAnErrorOnBothSides) {
  Pair pair(&StartedNet());
  std::vector<uint8_t> bytes(100);
  const Receiver::Buffer buffer{bytes.data(), 99, 0};
  ASSERT_NE(Begun([&] { return pair.receiver->Post(&buffer, 1); }), nullptr);
  ASSERT_NE(Begun([&] { return pair.sender->Send(bytes.data(), 100, 0); }), nullptr);
  ASSERT_TRUE(Within([&] {
    pair.sender->Move(Now());
    pair.receiver->Move(Now());
    return pair.sender->state() == Connection::State::kFailed &&
           pair.receiver->state() == Connection::State::kFailed;
  }));
  EXPECT_NE(pair.receiver->failure().find("100 bytes came for a buffer of 99"), std::string::npos);
  EXPECT_NE(pair.sender->failure().find("100 bytes came for a buffer of 99"), std::string::npos);
}

TEST(Net, AReceiverThatWaitsLearnsThatTheSenderHasClosed) {
  Pair pair(&StartedNet());
  uint8_t byte;
  const Receiver::Buffer buffer{&byte, 1, 0};
  Request* receive = Begun([&] { return pair.receiver->Post(&buffer, 1); });
  pair.net->Close(pair.sender);
  pair.sender = nullptr;
  uint64_t size;
  ASSERT_TRUE(Within([&] {
    EXPECT_FALSE(pair.receiver->Test(receive, &size));
    return pair.receiver->state() == Connection::State::kFailed;
  }));
  EXPECT_NE(pair.receiver->failure().find("has closed"), std::string::npos);
}

// Its memory is gone then: whoever went on would crash, as it is unmapped.
class Mapping {
 public:
  explicit Mapping(size_t size) : size_(size) {
    bytes_ = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  }
  ~Mapping() { munmap(bytes_, size_); }
  void* bytes() const { return bytes_; }
  size_t size() const { return size_; }

 private:
  const size_t size_;
  void* bytes_;
};

TEST(Net, ASenderWhoseMemoryIsTakenBackReadsItNoMore) {
  for (int turn = 0; turn < 20; ++turn) {
    auto memory = std::make_unique<Mapping>(8 << 20);
    std::vector<uint8_t> into(memory->size());
    Pair pair(&StartedNet());
    RegisteredMemory* registered = pair.net->Register(pair.sender, memory->bytes(), memory->size());
    const Receiver::Buffer buffer{into.data(), into.size(), 0};
    ASSERT_NE(Begun([&] { return pair.receiver->Post(&buffer, 1); }), nullptr);
    Request* send = Begun([&] { return pair.sender->Send(memory->bytes(), memory->size(), 0); });
    ASSERT_NE(send, nullptr);
    const int64_t until = Now() + turn * 100'000;
    while (Now() < until) pair.receiver->MoveIfFree();
    EXPECT_TRUE(pair.net->Deregister(registered));
    memory.reset();
    usleep(3000);  // the helper looks meanwhile
    uint64_t size;
    if (!pair.sender->Test(send, &size)) {
      EXPECT_EQ(pair.sender->state(), Connection::State::kFailed);
      EXPECT_NE(pair.sender->failure().find("taken back the memory"), std::string::npos);
    }
  }
}

TEST(Net, AReceiverWhoseMemoryIsTakenBackWritesItNoMore) {
  const std::vector<uint8_t> bytes(1 << 20, 7);  // sent until the pair is closed
  Pair pair(&StartedNet());
  auto memory = std::make_unique<Mapping>(1 << 20);
  RegisteredMemory* registered = pair.net->Register(pair.receiver, memory->bytes(), memory->size());
  const Receiver::Buffer buffer{memory->bytes(), memory->size(), 0};
  ASSERT_NE(Begun([&] { return pair.receiver->Post(&buffer, 1); }), nullptr);
  EXPECT_TRUE(pair.net->Deregister(registered));
  memory.reset();
  ASSERT_NE(Begun([&] { return pair.sender->Send(bytes.data(), bytes.size(), 0); }), nullptr);
  usleep(50'000);
  EXPECT_EQ(pair.receiver->state(), Connection::State::kFailed);
}

TEST(Net, MemoryWithoutMessagesUnderWayIsTakenBackUnnoticed) {
  std::vector<uint8_t> bytes(1000, 7), into(1000), other(1000);
  Pair pair(&StartedNet());
  RegisteredMemory* registered = pair.net->Register(pair.sender, bytes.data(), bytes.size());
  RegisteredMemory* unused = pair.net->Register(pair.sender, other.data(), other.size());
  const Receiver::Buffer buffer{into.data(), into.size(), 0};
  Request* receive = Begun([&] { return pair.receiver->Post(&buffer, 1); });
  Request* send = Begun([&] { return pair.sender->Send(bytes.data(), bytes.size(), 0); });
  EXPECT_TRUE(pair.net->Deregister(unused));
  uint64_t size;
  ASSERT_TRUE(Within([&] { return pair.sender->Test(send, &size); }));
  ASSERT_TRUE(Within([&] { return pair.receiver->Test(receive, &size); }));
  EXPECT_TRUE(pair.net->Deregister(registered));
  EXPECT_EQ(pair.sender->state(), Connection::State::kOpen);
}

// Somebody who knows the ports of both ends and how packets look, and not the connection's numbers.
TEST(Net, WhatStrangersSendChangesNothing) {
  Pair pair(&StartedNet());
  UdpOptions options;
  options.address = "127.0.0.1";
  options.paths = 1;
  std::string error;
  const std::unique_ptr<PacketIo> stranger = OpenUdp(options, &error);
  ASSERT_NE(stranger, nullptr) << error;
  std::mt19937_64 random(5);
  const std::vector<uint8_t> sent = Bytes(3'000'000, 1);
  std::vector<uint8_t> received(sent.size());
  const Receiver::Buffer buffer{received.data(), received.size(), 0};
  Request* receive = Begun([&] { return pair.receiver->Post(&buffer, 1); });
  Request* send = Begun([&] { return pair.sender->Send(sent.data(), sent.size(), 0); });
  uint8_t packet[kHeaderBytes + kMaxControlBytes];
  const auto forge = [&]() -> size_t {
    PacketHeader header;
    header.connection = random();
    header.number = static_cast<uint32_t>(random() % 3000);
    header.path = static_cast<uint16_t>(random() % 4);
    size_t size = 0;
    switch (random() % 4) {
      case 0:
        return WriteClose(header.connection, "go away", packet);
      case 1: {
        header.type = PacketType::kAck;
        AckFields ack;
        ack.highest = header.number;
        ack.run = 5;
        size = WriteAck(header, ack, packet);
        break;
      }
      case 2: {
        header.type = PacketType::kData;
        DataFields data;
        data.length = sent.size();
        data.offset = random() % 1'000'000;
        size = WriteData(header, data, packet) + 50;
        break;
      }
      default:
        for (uint8_t& byte : packet) byte = static_cast<uint8_t>(random());
        return 1 + random() % sizeof(packet);
    }
    SealPacket(packet, size, nullptr, 0);
    return size;
  };
  bool is_sent = false, is_received = false;
  uint64_t size;
  ASSERT_TRUE(Within([&] {
    for (Connection* end :
         {static_cast<Connection*>(pair.sender), static_cast<Connection*>(pair.receiver)}) {
      PacketIo::Outgoing out;
      out.head = packet;
      out.head_bytes = static_cast<uint32_t>(forge());
      const PacketIo& io = end->io();
      out.to = io.local(static_cast<uint16_t>(random() % io.paths()));
      stranger->Send(&out, 1);
    }
    is_sent = is_sent || pair.sender->Test(send, &size);
    is_received = is_received || pair.receiver->Test(receive, &size);
    return is_sent && is_received;
  }));
  EXPECT_EQ(sent, received);
  EXPECT_EQ(pair.sender->state(), Connection::State::kOpen);
  EXPECT_EQ(pair.receiver->state(), Connection::State::kOpen);
}

TEST(Net, AListenerThatIsGoneIsNamed) {
  Handle handle;
  Net& net = StartedNet();
  net.Close(net.Listen(0, &handle));
  bool failed = false;
  ASSERT_TRUE(Within([&] {
    EXPECT_EQ(net.Connect(0, &handle, &failed), nullptr);
    return failed;
  }));
  EXPECT_NE(logged->find("no answer from the listener at 127.0.0.1:"), std::string::npos);
}

TEST(Net, AHandleOfSomethingElseIsRefused) {
  Handle handle = {};
  bool failed = false;
  EXPECT_EQ(StartedNet().Connect(0, &handle, &failed), nullptr);
  EXPECT_TRUE(failed);
  EXPECT_NE(logged->find("handle of something else"), std::string::npos);
}

TEST(Net, AStrangerGetsNoAnswer) {
  Handle handle;
  Listener* listener = StartedNet().Listen(0, &handle);
  handle.secret[5] ^= 1;
  bool failed = false;
  ASSERT_TRUE(Within([&] {
    EXPECT_EQ(StartedNet().Connect(0, &handle, &failed), nullptr);
    EXPECT_EQ(StartedNet().Accept(listener), nullptr);
    return failed;
  }));
  StartedNet().Close(listener);
}

}  // namespace
}  // namespace harp
}  // namespace taco
