// The sender before a kernel that refuses, on purpose, what a real one refuses now and then.
#include "nccl_plugin/io/udp_sender.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/udp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "nccl_plugin/io/socket_address.h"

namespace taco {
namespace harp {
namespace {

struct Datagram {
  int socket;
  std::string bytes;
  Endpoint to;
};

// Takes messages as sendmmsg does: cuts them, holds them against the kernel's limits, and tells of
// an error only when it is that of the first message.
class Kernel {
 public:
  Kernel() { current_ = this; }

  static int Call(int socket, mmsghdr* messages, unsigned count, int flags) {
    EXPECT_EQ(flags, MSG_DONTWAIT);
    ++current_->calls;
    for (unsigned i = 0; i < count; ++i) {
      const int error = current_->Take(socket, messages[i].msg_hdr);
      if (error == 0) continue;
      errno = error;
      return i > 0 ? static_cast<int>(i) : -1;
    }
    return static_cast<int>(count);
  }

  int refuse_segments = 0;       // errno for every message that is to be cut
  size_t largest = 65507;        // EMSGSIZE beyond
  bool old = false;              // EINVAL in its place where the message is to be cut
  int room = 1 << 30;            // messages until EAGAIN
  uint16_t closed_port = 0;      // ECONNREFUSED
  std::vector<int> next_errors;  // of the next messages; 0: none
  std::vector<Datagram> taken;
  std::vector<size_t> segments;  // packets of each message that was taken
  int calls = 0;

 private:
  int Take(int socket, const msghdr& header) {
    if (!next_errors.empty()) {
      const int error = next_errors.back();
      next_errors.pop_back();
      if (error != 0) return error;
    }
    std::string bytes;
    for (size_t i = 0; i < header.msg_iovlen; ++i) {
      const iovec& part = header.msg_iov[i];
      bytes.append(static_cast<const char*>(part.iov_base), part.iov_len);
    }
    size_t segment = bytes.size();
    const bool cut = header.msg_controllen > 0;
    if (cut) {
      const cmsghdr* control = CMSG_FIRSTHDR(&header);
      EXPECT_EQ(control->cmsg_level, SOL_UDP);
      EXPECT_EQ(control->cmsg_type, UDP_SEGMENT);
      uint16_t value = 0;
      std::memcpy(&value, CMSG_DATA(control), sizeof(value));
      segment = value;
      EXPECT_GT(segment, 0u);
      EXPECT_LE(bytes.size(), 65507u);
      EXPECT_LE((bytes.size() + segment - 1) / segment, 64u);
      if (refuse_segments != 0) return refuse_segments;
    }
    if (segment > largest) return cut && old ? EINVAL : EMSGSIZE;
    if (room-- <= 0) return EAGAIN;
    sockaddr_storage address;
    std::memcpy(&address, header.msg_name, header.msg_namelen);
    const Endpoint to = FromSocketAddress(address);
    if (to.port == closed_port) return ECONNREFUSED;
    const size_t before = taken.size();
    size_t at = 0;
    do {
      taken.push_back({socket, bytes.substr(at, segment), to});
      at += segment;
    } while (at < bytes.size());
    segments.push_back(taken.size() - before);
    return 0;
  }

  static Kernel* current_;
};

Kernel* Kernel::current_ = nullptr;

Endpoint Port(uint16_t port) {
  Endpoint endpoint = *ParseEndpoint("10.0.0.1");
  endpoint.port = port;
  return endpoint;
}

// Packets with heads and bodies of their own.
class Batch {
 public:
  void Add(size_t head, size_t body, uint16_t path, uint16_t port) {
    while (pool_.size() < 70000) pool_ += static_cast<char>(random_());
    bytes_.push_back(pool_.substr(random_() % 4000, head + body));
    PacketIo::Outgoing packet;
    packet.head_bytes = static_cast<uint32_t>(head);
    packet.body_bytes = static_cast<uint32_t>(body);
    packet.path = path;
    packet.to = Port(port);
    packets_.push_back(packet);
  }

  const std::vector<PacketIo::Outgoing>& packets() {
    for (size_t i = 0; i < packets_.size(); ++i) {
      packets_[i].head = reinterpret_cast<const uint8_t*>(bytes_[i].data());
      packets_[i].body = packets_[i].head + packets_[i].head_bytes;
    }
    return packets_;
  }

  bool Is(size_t i, const Datagram& datagram) const {
    return datagram.socket == 100 + packets_[i].path && datagram.bytes == bytes_[i] &&
           datagram.to == packets_[i].to;
  }
  size_t size() const { return packets_.size(); }
  size_t bytes(size_t i) const { return bytes_[i].size(); }

 private:
  std::mt19937 random_{1};
  std::string pool_;  // bytes of which a packet takes some
  std::vector<std::string> bytes_;
  std::vector<PacketIo::Outgoing> packets_;
};

struct Fixture {
  explicit Fixture(bool segmentation = true)
      : sender({100, 101, 102}, segmentation, &stats, Kernel::Call) {}

  size_t Send(Batch* batch) { return sender.Send(batch->packets().data(), batch->size()); }

  // Whether the kernel has all of the batch, in order.
  void ExpectAll(const Batch& batch) {
    ASSERT_EQ(kernel.taken.size(), batch.size());
    for (size_t i = 0; i < batch.size(); ++i) EXPECT_TRUE(batch.Is(i, kernel.taken[i])) << i;
  }

  Kernel kernel;
  PacketIo::Stats stats;
  UdpSender sender;
};

TEST(UdpSender, PacketsOfOneSizeAreOneMessageWhoseLastMayBeShorter) {
  Fixture f;
  Batch batch;
  for (int i = 0; i < 9; ++i) batch.Add(40, 1000, 0, 1);
  batch.Add(40, 7, 0, 1);     // ends the message
  batch.Add(40, 1000, 0, 1);  // begins another
  batch.Add(40, 1001, 0, 1);  // and another
  batch.Add(40, 1001, 0, 2);  // to another
  EXPECT_EQ(f.Send(&batch), batch.size());
  f.ExpectAll(batch);
  EXPECT_EQ(f.kernel.segments, (std::vector<size_t>{10, 1, 1, 1}));
  EXPECT_EQ(f.kernel.calls, 1);
}

TEST(UdpSender, AMessageHasAtMost64PacketsAnd65507Bytes) {
  Fixture f;
  Batch batch;
  for (int i = 0; i < 130; ++i) batch.Add(8, 0, 0, 1);
  for (int i = 0; i < 45; ++i) batch.Add(40, 1432, 1, 1);
  EXPECT_EQ(f.Send(&batch), batch.size());
  f.ExpectAll(batch);
  EXPECT_EQ(f.kernel.segments, (std::vector<size_t>{64, 64, 2, 44, 1}));
  EXPECT_EQ(f.kernel.calls, 2) << "one a path";
}

TEST(UdpSender, SplitsBetweenHeadAndBodyDoNotMatter) {
  Fixture f;
  Batch batch;
  batch.Add(0, 100, 0, 1);
  batch.Add(100, 0, 0, 1);
  batch.Add(24, 76, 0, 1);
  batch.Add(0, 0, 0, 1);
  batch.Add(0, 0, 0, 1);
  EXPECT_EQ(f.Send(&batch), batch.size());
  f.ExpectAll(batch);
  EXPECT_EQ(f.kernel.segments, (std::vector<size_t>{3, 1, 1}));
}

TEST(UdpSender, WithoutSegmentationEveryPacketIsAMessageOfTheSameCall) {
  Fixture f(false);
  Batch batch;
  for (int i = 0; i < 64; ++i) batch.Add(40, 1000, 0, 1);
  EXPECT_EQ(f.Send(&batch), batch.size());
  f.ExpectAll(batch);
  EXPECT_EQ(f.kernel.segments, std::vector<size_t>(64, 1));
  EXPECT_EQ(f.kernel.calls, 1);
}

TEST(UdpSender, GivesSegmentationUpForGoodWhenItIsRefused) {
  for (const int error : {EIO, EINVAL, EOPNOTSUPP}) {
    Fixture f;
    f.kernel.refuse_segments = error;
    Batch batch;
    for (int i = 0; i < 64; ++i) batch.Add(40, 1000, 0, 1);
    EXPECT_EQ(f.Send(&batch), batch.size());
    f.ExpectAll(batch);
    EXPECT_FALSE(f.stats.segmentation);
    EXPECT_EQ(f.stats.packets_lost, 0u);
    const int calls = f.kernel.calls;
    EXPECT_EQ(f.Send(&batch), batch.size());
    EXPECT_EQ(f.kernel.calls, calls + 1) << "it asks again";
  }
}

TEST(UdpSender, APacketThatIsTooLargeIsLostAndCostsNoSegmentation) {
  for (const bool old : {false, true}) {
    Fixture f;
    f.kernel.old = old;
    f.kernel.largest = 1472;
    Batch batch;
    for (int i = 0; i < 5; ++i) batch.Add(40, 1433, 0, 1);
    EXPECT_EQ(f.Send(&batch), batch.size());
    EXPECT_TRUE(f.kernel.taken.empty());
    EXPECT_EQ(f.stats.packets_lost, 5u);
    EXPECT_EQ(f.stats.error(EMSGSIZE), 5u);
    EXPECT_TRUE(f.stats.segmentation);
  }
}

TEST(UdpSender, WhatTheNetworkRefusesIsLostAndTheRestGoes) {
  Fixture f;
  f.kernel.closed_port = 7;
  Batch batch;
  for (int i = 0; i < 30; ++i) {
    const uint16_t port = i % 3 == 0 ? 7 : 8;
    batch.Add(8, 100, i % 2, port);
  }
  EXPECT_EQ(f.Send(&batch), batch.size());
  EXPECT_EQ(f.kernel.taken.size(), 20u);
  EXPECT_EQ(f.stats.packets_sent, 20u);
  EXPECT_EQ(f.stats.packets_lost, 10u);
  EXPECT_EQ(f.stats.error(ECONNREFUSED), 10u);
}

TEST(UdpSender, AFullQueueLeavesTheRestToTheCaller) {
  for (const int error : {EAGAIN, ENOBUFS, ENOMEM}) {
    Fixture f;
    f.kernel.next_errors = {error, 0, 0};  // from behind
    Batch batch;
    for (size_t i = 0; i < 5; ++i) batch.Add(8, 100 + i, 0, 1);
    EXPECT_EQ(f.Send(&batch), 5u) << "the error of the third is gone when it is tried again";
    f.kernel.room = 2;
    f.kernel.taken.clear();
    EXPECT_EQ(f.Send(&batch), 2u);
    EXPECT_EQ(f.stats.queue_full, 1u);
    f.kernel.room = 3;
    EXPECT_EQ(f.sender.Send(batch.packets().data() + 2, 3), 3u);
    f.ExpectAll(batch);
    EXPECT_EQ(f.stats.packets_lost, 0u);
  }
}

// Any packets, any errors at any time: each packet that Send took is with the kernel once or lost,
// in order, and none that it did not take.
TEST(UdpSender, TakesEveryPacketOnceWhateverTheKernelAnswers) {
  std::mt19937 random(3);
  const int kErrors[] = {EAGAIN, ENOBUFS,     EINTR,  EPERM,       EMSGSIZE,
                         EIO,    ENETUNREACH, EINVAL, ECONNREFUSED};
  for (int round = 0; round < 100; ++round) {
    Fixture f(random() % 4 != 0);
    if (random() % 4 == 0) f.kernel.refuse_segments = EIO;
    Batch batch;
    const size_t sizes[] = {0, 1, 8, 100, 1472, random() % 60000};
    size_t size = 8;
    uint16_t path = 0;
    for (size_t i = 0, n = random() % 300; i < n; ++i) {
      if (random() % 8 == 0) size = sizes[random() % 6];
      if (random() % 8 == 0) path = random() % 3;
      const size_t head = random() % (std::min<size_t>(size, 40) + 1);
      batch.Add(head, size - head, path, 1 + random() % 16 / 15);
    }
    for (int i = 0; i < 400; ++i) {
      f.kernel.next_errors.push_back(random() % 4 == 0 ? kErrors[random() % 9] : 0);
    }
    size_t taken = 0;
    size_t checked = 0;  // of the kernel's
    size_t lost = 0;
    for (int turn = 0; turn < 2000 && taken < batch.size(); ++turn) {
      const size_t before = taken;
      const size_t want = std::min<size_t>(batch.size() - taken, 1 + random() % 100);
      const size_t got = f.sender.Send(batch.packets().data() + taken, want);
      ASSERT_LE(got, want);
      taken += got;
      for (size_t i = before; i < taken; ++i) {
        const bool came = checked < f.kernel.taken.size() && batch.Is(i, f.kernel.taken[checked]);
        came ? ++checked : ++lost;
      }
      ASSERT_EQ(checked, f.kernel.taken.size()) << "what was not taken, or twice, or changed";
    }
    ASSERT_EQ(taken, batch.size());
    EXPECT_EQ(f.stats.packets_sent, checked);
    EXPECT_EQ(f.stats.packets_lost, lost);
    uint64_t errors = 0;
    for (const uint64_t count : f.stats.errors) errors += count;
    EXPECT_EQ(errors, lost);
  }
}

}  // namespace
}  // namespace harp
}  // namespace taco
