// What sends and receives whole Ethernet frames: the part of `afxdp` and `dpdk` that differs. Port
// (port.h) shares one out among the connections of the process.
//
// A device has queues to receive by and queues to send by, each of which one thread at a time uses.
// The other calls are by one thread at a time each, of which some keep all queues to themselves;
// the Port sees to all of that. Sending and receiving allocate nothing and lock nothing.
#ifndef NCCL_PLUGIN_IO_FRAME_DEVICE_H_
#define NCCL_PLUGIN_IO_FRAME_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "nccl_plugin/io/endpoint.h"
#include "nccl_plugin/io/frame.h"
#include "nccl_plugin/io/packet_io.h"

namespace taco {
namespace harp {

class FrameDevice {
 public:
  struct Frame {
    const uint8_t* bytes = nullptr;
    uint32_t size = 0;
    uint64_t handle = 0;  // by which it is given back
  };

  // A frame to be sent, in pieces: headers, and the two of a packet.
  struct Pieces {
    const uint8_t* header = nullptr;
    const uint8_t* head = nullptr;
    const uint8_t* body = nullptr;
    uint32_t header_bytes = 0;
    uint32_t head_bytes = 0;
    uint32_t body_bytes = 0;
    uint32_t packet_bytes() const { return head_bytes + body_bytes; }
    uint32_t size() const { return header_bytes + packet_bytes(); }
  };

  struct Facts {
    Endpoint address;  // without a port
    Mac mac = {};
    size_t max_ip = 0;  // the largest IP packet that goes and comes whole
    size_t receive_queues = 1;
    size_t send_queues = 1;
    size_t frames = 0;  // of a queue: how many may be with receivers at a time
    // How often each byte of a packet that comes was copied, by the device and what is below it: in
    // this process, and by the kernel. Send counts its own.
    int user_copies_received = 0;
    int kernel_copies_received = 0;
    std::string notes;
  };

  // Where an address is.
  enum class Way {
    kFrames,   // behind a known address of Ethernet
    kUnknown,  // not known yet, or there is no way; asked for where that helps
    kLocal,    // it is the device's own, or its machine's
  };

  virtual ~FrameDevice() = default;
  FrameDevice(const FrameDevice&) = delete;
  FrameDevice& operator=(const FrameDevice&) = delete;

  virtual const Facts& facts() const = 0;

  // Receiving, by a queue. Frames stay until they are given back to it.
  virtual size_t Receive(size_t queue, Frame* frames, size_t most, PacketIo::Stats* stats) = 0;
  virtual void GiveBack(size_t queue, const uint64_t* handles, size_t count) = 0;
  // Room for a frame that does not come from the wire, as if it had been received. Null: none.
  virtual uint8_t* Borrow(size_t /*queue*/, size_t, uint64_t*) { return nullptr; }

  // Sending, by a queue. Takes frames from the front and returns how many; the pieces are free
  // then, but for bodies in memory that was added. Calls of the system and copies of packets
  // (without the frames' headers) are counted in `stats`.
  virtual size_t Send(size_t queue, const Pieces* frames, size_t count, PacketIo::Stats* stats) = 0;

  // Neighbours, one thread at a time for both; each may send by `queue`, which is the caller's.
  virtual Way Find(const Endpoint& to, int64_t now, Mac* mac, size_t queue) = 0;
  // Is shown what is no UDP for us, before it is given back. kNoQueue: it cannot answer now.
  static constexpr size_t kNoQueue = ~size_t{0};
  virtual void OnOther(const Frame&, size_t /*queue*/) {}

  // By who keeps all sending to itself: memory from which bodies may be sent without a copy, after
  // Send has returned; null: they are copied. And its end; false: some of it is still to be sent,
  // so it has to be called again.
  virtual void* AddMemory(const void*, size_t) { return nullptr; }
  virtual bool RemoveMemory(void*) { return true; }

  // Setting up: from now on frames to this UDP port are to come here, or no longer. `socket`: the
  // kernel's that has the port; -1: there is none.
  virtual bool Claim(uint16_t port, int socket, std::string* error) = 0;
  virtual void Drop(uint16_t port) = 0;

  // As PacketIo::descriptor.
  virtual int descriptor() const = 0;

 protected:
  FrameDevice() = default;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_FRAME_DEVICE_H_
