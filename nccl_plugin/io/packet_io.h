// Start here. How packets leave the machine and come in, whatever carries them: an object has one
// interface, some paths over it, and moves packets in batches. `udp.h` opens the kind that works
// everywhere; `afxdp.h` and `dpdk.h` those that go past the kernel, over what `port.h` shares out.
//
//   Send      takes packets from the front of a batch, until a queue is full
//   Receive   gives what came, as views into the object's own memory
//
// Packets may be lost, doubled and overtaken: the protocol above repeats them, checks them and
// uses other paths. So nothing that the network does is a failure of a call; it is counted.
//
// One thread uses an object. Nothing is allocated and no lock is taken once it is open.
#ifndef NCCL_PLUGIN_IO_PACKET_IO_H_
#define NCCL_PLUGIN_IO_PACKET_IO_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "nccl_plugin/io/endpoint.h"
#include "nccl_plugin/protocol/packet.h"

namespace taco {
namespace harp {

class PacketIo {
 public:
  // A packet is its head and then its body. Both may be changed when Send returns, unless the body
  // is in memory that was registered.
  struct Outgoing {
    const uint8_t* head = nullptr;
    const uint8_t* body = nullptr;  // may be null where body_bytes is 0
    uint32_t head_bytes = 0;
    uint32_t body_bytes = 0;
    uint16_t path = 0;  // below paths()
    Endpoint to;
  };

  struct Incoming {
    const uint8_t* bytes = nullptr;
    uint32_t size = 0;
    uint16_t path = 0;  // where it came in, of ours
    Endpoint from;
    int64_t waited_ns = 0;  // since this machine had it; 0 where that is not known
  };

  // Counted since the object was opened.
  struct Stats {
    uint64_t packets_sent = 0;  // that the kind took over
    uint64_t bytes_sent = 0;    // of these, without the headers of UDP and below
    uint64_t packets_lost = 0;  // taken by Send, and refused by the network or the kernel
    uint64_t packets_received = 0;
    uint64_t bytes_received = 0;
    uint64_t refused = 0;     // packets that came and were not encrypted with the key
    uint64_t dropped = 0;     // that came and found no room, where that is known
    uint64_t send_calls = 0;  // of the system
    uint64_t receive_calls = 0;
    // Of packets, in both directions, as often as they were copied: in this process, by the kind
    // and what is below it; and by the kernel.
    uint64_t user_copied_bytes = 0;
    uint64_t kernel_copied_bytes = 0;
    uint64_t queue_full = 0;    // how often Send took less than it was given
    bool segmentation = false;  // whether batches are cut into packets below the system call

    // errors[e]: what errno e cost: packets lost for Send, calls for Receive. [0]: unknown ones.
    std::array<uint64_t, 134> errors = {};
    uint64_t& error(int number) {
      const bool known = number > 0 && static_cast<size_t>(number) < errors.size();
      return errors[known ? static_cast<size_t>(number) : 0];
    }
  };

  // Memory that its user has promised to leave in place. It must be released before it goes.
  class Memory {
   public:
    virtual ~Memory() = default;
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    // Waits until nothing reads it any more, and forgets it. False: something still does after two
    // seconds; it stays known, and Release may be called again. Any thread.
    virtual bool Release() = 0;

   protected:
    Memory() = default;
  };

  static constexpr size_t kLeft = 16;

  virtual ~PacketIo() = default;
  PacketIo(const PacketIo&) = delete;
  PacketIo& operator=(const PacketIo&) = delete;

  // Takes packets from the front, in order, and returns how many. Fewer than `count`: the queue of
  // the next one's path is full; try again later, or with the packets of other paths. Does not
  // block. Cheapest where packets to one endpoint on one path follow each other and have one size.
  virtual size_t Send(const Outgoing* packets, size_t count) = 0;

  // From now until its release this memory is there: bodies within it may be sent without a copy,
  // later than Send returns. What is written to it meanwhile may then be sent, and is for the
  // protocol to refuse. It outlives the object, and may be used by others of the same interface.
  // Null: this kind does nothing of the sort. Any thread.
  virtual std::unique_ptr<Memory> Register(const void* /*bytes*/, size_t /*size*/) {
    return nullptr;
  }

  // Gives up to `most` packets, in the order in which a path received them; 0: nothing is there.
  // As many as kLeft, or more: some may be left.
  // Does not block. The views are valid until the next call.
  virtual size_t Receive(Incoming* packets, size_t most) = 0;

  // The largest packet, head and body, that this interface takes whole. Larger ones are lost; a
  // network on the way may take less. Nothing is ever fragmented.
  virtual size_t max_packet() const = 0;

  virtual uint16_t paths() const = 0;
  virtual Endpoint local(uint16_t path) const = 0;

  // Readable (as for poll) when something came. For sleeping, once Receive has returned 0: before
  // that, packets may wait in the object. The object keeps it; do not read or close it. Of kinds
  // whose objects share an interface it tells of packets for all of them, and not of those that
  // another one has found: sleep for a bounded time. With dpdk it is always readable.
  virtual int descriptor() const = 0;

  virtual const Stats& stats() const = 0;

  // What is worse than was asked for, with its remedy: sentences for a log. Empty: all is well.
  virtual const std::string& notes() const = 0;

 protected:
  PacketIo() = default;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_PACKET_IO_H_
