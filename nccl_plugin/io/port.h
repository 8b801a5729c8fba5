// One interface of the process, of which every connection has some UDP ports.
//
//   queue 0 --frames--> whoever looks --by UDP port--> inboxes 0 of A and B
//   queue 1 --frames--> whoever looks --by UDP port--> inboxes 1 of A and B
//
// A reads its inboxes, and so does B. Whoever wants packets looks: reads a burst from a queue and
// puts each frame into the inbox of the PortIo that owns its UDP port, without copying it. One
// looks at a queue at a time, by a flag that nobody waits for: who does not get it goes on to the
// next, or has its inboxes. The same holds for queues to send by, of which each PortIo keeps to
// one, so that its packets stay in order. A frame belongs to the inbox until its reader is done
// with it; the next one who looks at the queue gives it back:
//
//   inbox, a ring:   given back ..reclaimed_.. done with ..released_.. unread ..written_.. free
//
// Tables are read without a lock. UDP ports come and go under a mutex, and with all flags of
// receiving in hand.
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

// What came for one PortIo by one queue.
class Inbox {
 public:
  struct alignas(64) Entry {
    PacketIo::Incoming incoming;  // waited_ns: when it was found
    uint64_t handle = 0;
  };
  static_assert(sizeof(Entry) == 64, "an entry is a cache line");

  explicit Inbox(size_t slots) : slots_(slots), entries_(new Entry[slots]) {}  // a power of two

  // The reader's. Entries stay readable until they are released, in order.
  size_t unread() const {
    return written_.load(std::memory_order_acquire) - released_.load(std::memory_order_relaxed);
  }
  const Entry& at(size_t index) const {  // of those unread
    return entries_[(released_.load(std::memory_order_relaxed) + index) & (slots_ - 1)];
  }
  void Release(size_t count) {
    released_.store(released_.load(std::memory_order_relaxed) + count, std::memory_order_release);
  }

  // Of whoever looks. False: there are `limit` in it.
  bool Put(const Entry& entry, size_t limit);
  // Takes the handles of up to `most` entries that were released.
  size_t Reclaim(uint64_t* handles, size_t most);
  // Whether it pays to do so.
  bool worth_reclaiming() const { return used() >= slots_ / 8; }
  // All of them, once the reader is gone.
  size_t Empty(uint64_t* handles, size_t most);

  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  size_t used() const { return written_.load(std::memory_order_relaxed) - reclaimed_; }

  alignas(64) std::atomic<uint64_t> released_{0};  // by the reader
  alignas(64) std::atomic<uint64_t> written_{0};   // by whoever looks
  uint64_t reclaimed_ = 0;
  std::atomic<uint64_t> dropped_{0};
  alignas(64) const size_t slots_;
  const std::unique_ptr<Entry[]> entries_;
};

// Of one PortIo, one for each queue that packets come by.
class Inboxes {
 public:
  explicit Inboxes(size_t queues);
  size_t size() const { return each_.size(); }
  Inbox& operator[](size_t queue) { return *each_[queue]; }
  size_t unread() const;
  uint64_t dropped() const;

 private:
  std::vector<std::unique_ptr<Inbox>> each_;
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

  // Frames to these UDP ports go to the inboxes; the i-th is path i. They must be free.
  // `sockets`: those of the kernel that have them; empty: there are none.
  bool Add(Inboxes* inboxes, const std::vector<uint16_t>& udp_ports,
           const std::vector<int>& sockets, std::string* error);
  // From its return on nobody touches the inboxes.
  void Remove(Inboxes* inboxes, const std::vector<uint16_t>& udp_ports);
  // Some that are not in use.
  std::vector<uint16_t> Choose(size_t count);

  // For one more who sends.
  size_t ChooseSendQueue() { return next_send_queue_.fetch_add(1) % facts_.send_queues; }

  // Looks at the queues, from `first` on, but for those at which other threads look: frames go into
  // inboxes, until there are so many in the caller's, which are `mine`, or no more.
  void Look(Inboxes* mine, size_t wanted, size_t first, PacketIo::Stats* stats);

  // A queue to send by, while one lives that is true.
  class Sending {
   public:
    Sending(Port* port, size_t queue)
        : port_(port), queue_(queue), got_(port->sending_[queue].Take()) {}
    ~Sending() {
      if (got_) port_->sending_[queue_].Leave();
    }
    Sending(const Sending&) = delete;
    Sending& operator=(const Sending&) = delete;
    explicit operator bool() const { return got_; }
    size_t Send(const FrameDevice::Pieces* frames, size_t count, PacketIo::Stats* stats) {
      return port_->device_->Send(queue_, frames, count, stats);
    }
    // False: not now.
    bool Find(const Endpoint& to, int64_t now, Mac* mac, FrameDevice::Way* way) {
      if (!port_->neighbours_.Take()) return false;
      *way = port_->device_->Find(to, now, mac, queue_);
      port_->neighbours_.Leave();
      return true;
    }

   private:
    Port* const port_;
    const size_t queue_;
    const bool got_;
  };

  // As the device's: wait until nobody sends.
  void* AddMemory(const void* bytes, size_t size);
  bool RemoveMemory(void* memory);

  // Delivers a frame to a UDP port of this very interface. False: not now.
  bool Loop(const FrameDevice::Pieces& frame);

 private:
  static constexpr size_t kBurst = 64;
  static constexpr int kTurns = 16;

  // Who has it does what it stands for. Nobody waits for it who sends or receives.
  class alignas(64) Flag {
   public:
    bool Take() {
      return !taken_.load(std::memory_order_relaxed) &&
             !taken_.exchange(true, std::memory_order_acquire);
    }
    void Wait();
    void Leave() { taken_.store(false, std::memory_order_release); }

   private:
    std::atomic<bool> taken_{false};
  };

  // Of one queue, whose flag is taken.
  void LookAt(size_t queue, Inboxes* mine, PacketIo::Stats* stats);
  void Deliver(size_t queue, const FrameDevice::Frame* frames, size_t count, int64_t now);
  bool DeliverOne(size_t queue, const FrameDevice::Frame& frame, int64_t now);
  void Reclaim(size_t queue, Inbox* inbox);
  void ShowOther(const FrameDevice::Frame& frame);

  void SetLimit();
  template <typename Act>
  auto WhileNobodySends(const Act& act);

  const std::unique_ptr<FrameDevice> device_;
  const FrameDevice::Facts facts_;
  std::mutex mutex_;  // of what follows, for who changes it
  size_t owner_count_ = 0;
  std::unique_ptr<std::atomic<uint32_t>[]> owner_of_;  // a UDP port's: 256 * (1 + owner) + path
  std::array<std::atomic<Inboxes*>, kOwners> owners_ = {};
  std::atomic<size_t> limit_{0};  // of an inbox
  uint16_t next_udp_port_ = 0;
  std::atomic<size_t> next_send_queue_{0};
  const std::unique_ptr<Flag[]> receiving_;  // of each queue
  const std::unique_ptr<Flag[]> sending_;
  Flag neighbours_;
};

// The process's port of a device, made where there is none; null where `make` gives null. It goes
// with its last user.
std::shared_ptr<Port> SharedPort(const std::string& of_device,
                                 const std::function<std::unique_ptr<FrameDevice>()>& make);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_PORT_H_
