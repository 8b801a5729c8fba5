// The receiving half of `udp`. A system call (recvmmsg) fills up to 16 slots, each with a message:
// one packet, or several that the kernel has put together (UDP_GRO) and that are handed out one by
// one.
//
//   slots   handed out ... at_ (at offset_) ... filled_ ... free
#ifndef NCCL_PLUGIN_IO_UDP_RECEIVER_H_
#define NCCL_PLUGIN_IO_UDP_RECEIVER_H_

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include <array>
#include <memory>
#include <vector>

#include "nccl_plugin/io/packet_io.h"

namespace taco {
namespace harp {

class UdpReceiver {
 public:
  static constexpr size_t kSlots = PacketIo::kLeft;
  // Any message fits. Not a power of two: the beginnings of the slots are then in different sets
  // of the processor's caches.
  static constexpr size_t kSlotBytes = 65536 + 128;

  // `sockets`: one a path, each watched by `epoll` with its path as data. `stats` outlives it.
  UdpReceiver(std::vector<int> sockets, int epoll, PacketIo::Stats* stats);
  UdpReceiver(const UdpReceiver&) = delete;
  UdpReceiver& operator=(const UdpReceiver&) = delete;

  // As PacketIo::Receive.
  size_t Receive(PacketIo::Incoming* packets, size_t most);

 private:
  struct Slot {
    sockaddr_storage address;
    alignas(cmsghdr)
        std::array<uint8_t, CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(timespec))> control;
    Endpoint from;
    uint32_t size;
    uint32_t segment;  // size of each packet but the last
    uint16_t path;
    int64_t waited_ns;
  };

  size_t HandOut(PacketIo::Incoming* packets, size_t most);
  bool FindReady();
  void Fill(uint16_t path, size_t most);

  const std::vector<int> sockets_;
  const int epoll_;
  PacketIo::Stats* const stats_;
  const std::unique_ptr<uint8_t[]> bytes_;  // of the slots
  std::array<mmsghdr, kSlots> headers_ = {};
  std::array<iovec, kSlots> vectors_ = {};
  std::array<Slot, kSlots> slots_ = {};
  size_t filled_ = 0;
  size_t at_ = 0;
  uint32_t offset_ = 0;
  std::array<epoll_event, kMaxPaths> ready_ = {};  // paths with something to read
  size_t ready_count_ = 0;
  size_t ready_at_ = 0;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_UDP_RECEIVER_H_
