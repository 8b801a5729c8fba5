#include "nccl_plugin/io/udp_sender.h"

#include <netinet/in.h>
#include <netinet/udp.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "nccl_plugin/io/socket_address.h"

namespace taco {
namespace harp {
namespace {

using Outgoing = PacketIo::Outgoing;

size_t SizeOf(const Outgoing& packet) { return size_t{packet.head_bytes} + packet.body_bytes; }

// The packet stays with the caller. ENOBUFS and ENOMEM are full queues of other kinds.
bool IsFull(int error) { return error == EAGAIN || error == ENOBUFS || error == ENOMEM; }

// EIO: the interface computes no checksums, or IPsec is on the way. EINVAL: also a packet that is
// too large, in kernels before 6.14, and an address that is none.
bool MayRefuseSegmentation(int error) {
  return error == EIO || error == EINVAL || error == EOPNOTSUPP;
}

iovec VectorOf(const uint8_t* bytes, size_t size) {
  return {const_cast<uint8_t*>(bytes), size};  // the kernel only reads it
}

}  // namespace

UdpSender::UdpSender(std::vector<int> sockets, bool segmentation, PacketIo::Stats* stats,
                     SendCall call)
    : sockets_(std::move(sockets)), stats_(stats), call_(call) {
  stats_->segmentation = segmentation;
  for (size_t i = 0; i < kMessages; ++i) headers_[i].msg_hdr.msg_name = &messages_[i].to;
}

size_t UdpSender::Send(const Outgoing* packets, size_t count) {
  size_t taken = 0;
  bool doubt = false;  // whether a message was refused because it was to be cut: a packet tells
  while (taken < count) {
    assert(packets[taken].path < sockets_.size());
    const size_t planned = Plan(packets + taken, doubt ? 1 : count - taken);
    const int socket = sockets_[packets[taken].path];
    const int sent = call_(socket, headers_.data(), static_cast<unsigned>(planned), MSG_DONTWAIT);
    ++stats_->send_calls;
    for (int i = 0; i < sent; ++i) {
      taken += messages_[i].packets;
      stats_->packets_sent += messages_[i].packets;
      stats_->bytes_sent += messages_[i].bytes;
      stats_->kernel_copied_bytes += messages_[i].bytes;
    }
    if (sent > 0) {
      if (doubt) stats_->segmentation = false;  // for good: the packet was not at fault
      doubt = false;
      continue;
    }
    const int error = sent < 0 ? errno : EAGAIN;
    if (error == EINTR) continue;
    if (IsFull(error)) {
      ++stats_->queue_full;
      break;
    }
    // What failed is the first message: an error of a later one comes with the next call.
    const size_t failed = messages_[0].packets;
    doubt = failed > 1 && MayRefuseSegmentation(error);
    if (doubt) continue;
    taken += failed;
    stats_->packets_lost += failed;
    stats_->error(error) += failed;
  }
  return taken;
}

// Lays out messages of one path for the packets at the front; returns how many messages.
size_t UdpSender::Plan(const Outgoing* packets, size_t count) {
  size_t index = 0;
  size_t vector = 0;
  size_t planned = 0;
  while (planned < count && index < kMessages && vector + 2 <= kVectors &&
         packets[planned].path == packets[0].path) {
    planned += PlanMessage(packets + planned, count - planned, index, &vector);
    ++index;
  }
  return index;
}

// Lays out one message; returns of how many packets.
size_t UdpSender::PlanMessage(const Outgoing* packets, size_t count, size_t index, size_t* vector) {
  const Outgoing& first = packets[0];
  const size_t segment = SizeOf(first);
  const size_t most = stats_->segmentation && segment > 0 ? std::min(count, kSegments) : 1;
  Message& message = messages_[index];
  msghdr& header = headers_[index].msg_hdr;
  header.msg_namelen = ToSocketAddress(first.to, &message.to);
  header.msg_iov = &vectors_[*vector];
  size_t bytes = 0;
  size_t size = segment;
  size_t joined = 0;
  do {
    const Outgoing& packet = packets[joined];
    vectors_[(*vector)++] = VectorOf(packet.head, packet.head_bytes);
    if (packet.body_bytes > 0) vectors_[(*vector)++] = VectorOf(packet.body, packet.body_bytes);
    bytes += size;
    ++joined;
    if (size < segment || joined >= most || *vector + 2 > kVectors) break;
    size = SizeOf(packets[joined]);
  } while (size > 0 && size <= segment && bytes + size <= kMessageBytes &&
           packets[joined].path == first.path && packets[joined].to == first.to);
  header.msg_iovlen = static_cast<size_t>(&vectors_[0] + *vector - header.msg_iov);
  message.packets = static_cast<uint32_t>(joined);
  message.bytes = static_cast<uint32_t>(bytes);
  SetSegment(index, joined > 1 ? static_cast<uint16_t>(segment) : 0);
  return joined;
}

// Has the message cut into packets of so many bytes; 0: not.
void UdpSender::SetSegment(size_t index, uint16_t bytes) {
  msghdr& header = headers_[index].msg_hdr;
  header.msg_control = bytes > 0 ? messages_[index].control.data() : nullptr;
  header.msg_controllen = bytes > 0 ? messages_[index].control.size() : 0;
  if (bytes == 0) return;
  cmsghdr* control = CMSG_FIRSTHDR(&header);
  control->cmsg_level = SOL_UDP;
  control->cmsg_type = UDP_SEGMENT;
  control->cmsg_len = CMSG_LEN(sizeof(bytes));
  std::memcpy(CMSG_DATA(control), &bytes, sizeof(bytes));
}

}  // namespace harp
}  // namespace taco
