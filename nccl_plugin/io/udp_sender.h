// The sending half of `udp`. Packets that follow each other to one endpoint with one size (the last
// may be shorter) are one message, which the kernel or the interface cuts (UDP_SEGMENT); up to 64
// messages of one path are one system call (sendmmsg).
#ifndef NCCL_PLUGIN_IO_UDP_SENDER_H_
#define NCCL_PLUGIN_IO_UDP_SENDER_H_

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <vector>

#include "nccl_plugin/io/packet_io.h"

namespace taco {
namespace harp {

class UdpSender {
 public:
  static constexpr size_t kMessages = 64;
  static constexpr size_t kVectors = 512;  // of all messages of a call: two a packet
  static constexpr size_t kSegments = 64;  // of a message: UDP_MAX_SEGMENTS of the first kernels
  static constexpr size_t kMessageBytes = 65507;

  using SendCall = int (*)(int socket, mmsghdr* messages, unsigned count, int flags);

  // `sockets`: one a path. `call`: sendmmsg, or what a test puts in its place. `stats` outlives it.
  UdpSender(std::vector<int> sockets, bool segmentation, PacketIo::Stats* stats,
            SendCall call = ::sendmmsg);
  UdpSender(const UdpSender&) = delete;
  UdpSender& operator=(const UdpSender&) = delete;

  // As PacketIo::Send.
  size_t Send(const PacketIo::Outgoing* packets, size_t count);

 private:
  struct Message {
    sockaddr_storage to;
    alignas(cmsghdr) std::array<uint8_t, CMSG_SPACE(sizeof(uint16_t))> control;
    uint32_t packets;
    uint32_t bytes;
  };

  size_t Plan(const PacketIo::Outgoing* packets, size_t count);
  size_t PlanMessage(const PacketIo::Outgoing* packets, size_t count, size_t index, size_t* vector);
  void SetSegment(size_t index, uint16_t bytes);

  const std::vector<int> sockets_;
  PacketIo::Stats* const stats_;
  const SendCall call_;
  std::array<mmsghdr, kMessages> headers_ = {};
  std::array<Message, kMessages> messages_ = {};
  std::array<iovec, kVectors> vectors_ = {};
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_UDP_SENDER_H_
