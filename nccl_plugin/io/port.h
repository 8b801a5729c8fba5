// One interface of the process, of which every connection has some UDP ports.
//
//   device --frames--> whoever looks --by UDP port--> inbox of A   read by A
//                                                     inbox of B   read by B
//
// Whoever wants packets looks: reads a burst from the device and puts each frame into the inbox of
// the PortIo that owns its UDP port, without copying it. One looks at a time, by a flag that nobody
// waits for: who does not get it has its inbox. The same holds for sending. A frame belongs to the
// inbox until its reader is done with it; the next one who looks gives it back to the device:
//
//   inbox, a ring:   given back ..reclaimed_.. done with ..released_.. unread ..written_.. free
//
// Tables are read without a lock. UDP ports come and go under a mutex, and with both flags in hand.
#ifndef NCCL_PLUGIN_IO_PORT_H_
#define NCCL_PLUGIN_IO_PORT_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "nccl_plugin/io/frame_device.h"
#include "nccl_plugin/io/packet_io.h"

namespace taco {
namespace harp {

// What came for one PortIo.
class Inbox {
 public:
  static constexpr size_t kSlots = 1024;

  struct Entry {
    PacketIo::Incoming incoming;  // waited_ns: when it was found
    uint64_t handle = 0;
  };
  static_assert(sizeof(Entry) <= 64, "an entry is a cache line");

  // The reader's. Entries stay readable until they are released, in order.
  size_t unread() const {
    return written_.load(std::memory_order_acquire) - released_.load(std::memory_order_relaxed);
  }
  const Entry& at(size_t index) const {  // of those unread
    return entries_[(released_.load(std::memory_order_relaxed) + index) % kSlots];
  }
  void Release(size_t count) {
    released_.store(released_.load(std::memory_order_relaxed) + count, std::memory_order_release);
  }

  // Of whoever looks. False: there are `limit` in it.
  bool Put(const Entry& entry, size_t limit);
  // Takes the handles of up to `most` entries that were released.
  size_t Reclaim(uint64_t* handles, size_t most);
  // Whether it pays to do so.
  bool worth_reclaiming() const { return used() >= kSlots / 8; }
  // All of them, once the reader is gone.
  size_t Empty(uint64_t* handles, size_t most);

  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  size_t used() const { return written_.load(std::memory_order_relaxed) - reclaimed_; }

  alignas(64) std::atomic<uint64_t> released_{0};  // by the reader
  alignas(64) std::atomic<uint64_t> written_{0};   // by whoever looks
  uint64_t reclaimed_ = 0;
  std::atomic<uint64_t> dropped_{0};
  alignas(64) std::array<Entry, kSlots> entries_;
};

class Port {
 public:
  static constexpr size_t kOwners = 1000;  // of UDP ports, at a time

  explicit Port(std::unique_ptr<FrameDevice> device);
  ~Port();
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  const FrameDevice::Facts& facts() const { return facts_; }
  int descriptor() const { return device_->descriptor(); }

  // Frames to these UDP ports go to the inbox; the i-th is its path i. They must be free.
  // `sockets`: those of the kernel that have them; empty: there are none.
  bool Add(Inbox* inbox, const std::vector<uint16_t>& udp_ports, const std::vector<int>& sockets,
           std::string* error);
  // From its return on nobody touches the inbox.
  void Remove(Inbox* inbox, const std::vector<uint16_t>& udp_ports);
  // Some that are not in use.
  std::vector<uint16_t> Choose(size_t count);

  // Looks, unless another thread does: frames go into inboxes. `mine`: the caller's.
  void Look(Inbox* mine, PacketIo::Stats* stats);

  // The device's way of sending, while one lives that is true.
  class Sending {
   public:
    explicit Sending(Port* port) : port_(port), got_(!port->sending_.exchange(true)) {}
    ~Sending() {
      if (got_) port_->sending_.store(false);
    }
    Sending(const Sending&) = delete;
    Sending& operator=(const Sending&) = delete;
    explicit operator bool() const { return got_; }
    FrameDevice* operator->() const { return port_->device_.get(); }

   private:
    Port* const port_;
    const bool got_;
  };

  // Delivers a frame to a UDP port of this very interface. False: not now.
  bool Loop(const FrameDevice::Pieces& frame);

 private:
  static constexpr size_t kBurst = 64;
  static constexpr int kTurns = 16;

  void Deliver(const FrameDevice::Frame* frames, size_t count, int64_t now);
  bool DeliverOne(const FrameDevice::Frame& frame, int64_t now);
  void Reclaim(Inbox* inbox);
  void SetLimit();
  void TakeReceiving();

  const std::unique_ptr<FrameDevice> device_;
  const FrameDevice::Facts facts_;
  std::mutex mutex_;  // of what follows, for who changes it
  size_t owner_count_ = 0;
  std::unique_ptr<std::atomic<uint32_t>[]> owner_of_;  // a UDP port's: 256 * (1 + owner) + path
  std::array<std::atomic<Inbox*>, kOwners> owners_ = {};
  std::atomic<size_t> limit_{Inbox::kSlots};  // of an inbox
  uint16_t next_udp_port_ = 0;
  alignas(64) std::atomic<bool> receiving_{false};
  alignas(64) std::atomic<bool> sending_{false};
};

// The process's port of a device, made where there is none; null where `make` gives null. It goes
// with its last user.
std::shared_ptr<Port> SharedPort(const std::string& of_device,
                                 const std::function<std::unique_ptr<FrameDevice>()>& make);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_PORT_H_
