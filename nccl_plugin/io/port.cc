#include "nccl_plugin/io/port.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <map>
#include <utility>

#include "nccl_plugin/io/clock.h"

namespace taco {
namespace harp {
namespace {

constexpr uint16_t kFirstUdpPort = 49152;  // of those that are nobody's (RFC 6335)
constexpr size_t kLeastLimit = 64;

}  // namespace

bool Inbox::Put(const Entry& entry, size_t limit) {
  static_assert(alignof(Inbox) == 64 && offsetof(Inbox, released_) % 64 == 0 &&
                    offsetof(Inbox, written_) == offsetof(Inbox, released_) + 64 &&
                    offsetof(Inbox, entries_) == offsetof(Inbox, written_) + 64,
                "the reader and whoever looks write lines of their own");
  const uint64_t at = written_.load(std::memory_order_relaxed);
  if (used() >= limit) {
    dropped_.store(dropped() + 1, std::memory_order_relaxed);
    return false;
  }
  entries_[at % kSlots] = entry;
  written_.store(at + 1, std::memory_order_release);
  return true;
}

size_t Inbox::Reclaim(uint64_t* handles, size_t most) {
  const uint64_t released = released_.load(std::memory_order_acquire);
  size_t count = 0;
  for (; count < most && reclaimed_ != released; ++count) {
    handles[count] = entries_[reclaimed_++ % kSlots].handle;
  }
  return count;
}

size_t Inbox::Empty(uint64_t* handles, size_t most) {
  released_.store(written_.load());
  return Reclaim(handles, most);
}

Port::Port(std::unique_ptr<FrameDevice> device)
    : device_(std::move(device)),
      facts_(device_->facts()),
      owner_of_(new std::atomic<uint32_t>[UINT16_MAX + 1]()) {
  // Ports of a former run of the program are not taken again at once: their packets may still come.
  next_udp_port_ = static_cast<uint16_t>(Now() >> 20);
}

Port::~Port() = default;

void Port::TakeReceiving() {
  while (receiving_.exchange(true)) sched_yield();
}

void Port::SetLimit() {
  const size_t part = facts_.frames / 2 / std::max<size_t>(owner_count_, 1);
  limit_.store(std::clamp(part, kLeastLimit, Inbox::kSlots));
}

std::vector<uint16_t> Port::Choose(size_t count) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<uint16_t> chosen;
  for (int turn = 0; chosen.size() < count && turn <= UINT16_MAX - kFirstUdpPort; ++turn) {
    const auto port =
        static_cast<uint16_t>(kFirstUdpPort + next_udp_port_++ % (UINT16_MAX - kFirstUdpPort + 1));
    if (owner_of_[port].load() == 0) chosen.push_back(port);
  }
  return chosen;
}

bool Port::Add(Inbox* inbox, const std::vector<uint16_t>& udp_ports,
               const std::vector<int>& sockets, std::string* error) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto free = std::find(owners_.begin(), owners_.end(), nullptr);
  if (free == owners_.end()) {
    *error = "the interface has " + std::to_string(kOwners) +
             " users in this process, as many as it can have";
    return false;
  }
  const auto taken = std::find_if(udp_ports.begin(), udp_ports.end(),
                                  [&](uint16_t port) { return owner_of_[port].load() != 0; });
  if (taken != udp_ports.end()) {
    *error = "UDP port " + std::to_string(*taken) + " is in use; choose another one, or 0";
    return false;
  }
  for (size_t path = 0; path < udp_ports.size(); ++path) {
    if (device_->Claim(udp_ports[path], sockets.empty() ? -1 : sockets[path], error)) continue;
    while (path-- != 0) device_->Drop(udp_ports[path]);
    return false;
  }
  free->store(inbox);
  ++owner_count_;
  SetLimit();
  const auto owner = static_cast<uint32_t>(free - owners_.begin());
  for (size_t path = 0; path < udp_ports.size(); ++path) {
    owner_of_[udp_ports[path]].store(256 * (1 + owner) + static_cast<uint32_t>(path));
  }
  return true;
}

void Port::Remove(Inbox* inbox, const std::vector<uint16_t>& udp_ports) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const uint16_t port : udp_ports) {
    device_->Drop(port);
    owner_of_[port].store(0);
  }
  TakeReceiving();
  std::find(owners_.begin(), owners_.end(), inbox)->store(nullptr);
  uint64_t handles[kBurst];
  for (size_t count; (count = inbox->Empty(handles, kBurst)) != 0;) {
    device_->GiveBack(handles, count);
  }
  --owner_count_;
  SetLimit();
  receiving_.store(false);
}

void Port::Reclaim(Inbox* inbox) {
  uint64_t handles[kBurst];
  size_t count;
  do {
    count = inbox->Reclaim(handles, kBurst);
    if (count != 0) device_->GiveBack(handles, count);
  } while (count == kBurst);
}

void Port::Look(Inbox* mine, PacketIo::Stats* stats) {
  if (receiving_.load(std::memory_order_relaxed) || receiving_.exchange(true)) return;
  if (mine != nullptr) Reclaim(mine);
  FrameDevice::Frame frames[kBurst];
  // The caller's may be behind those of others. So often at most: they are to get on, too.
  for (int turn = 0; turn < kTurns; ++turn) {
    const size_t count = device_->Receive(frames, kBurst, stats);
    if (count != 0) Deliver(frames, count, Now());
    if (count < kBurst || (mine != nullptr && mine->unread() != 0)) break;
  }
  receiving_.store(false);
}

void Port::Deliver(const FrameDevice::Frame* frames, size_t count, int64_t now) {
  uint64_t unwanted[kBurst];
  size_t unwanted_count = 0;
  for (size_t index = 0; index < count; ++index) {
    if (index + 2 < count) __builtin_prefetch(frames[index + 2].bytes);
    if (DeliverOne(frames[index], now)) continue;
    unwanted[unwanted_count++] = frames[index].handle;
  }
  if (unwanted_count != 0) device_->GiveBack(unwanted, unwanted_count);
}

bool Port::DeliverOne(const FrameDevice::Frame& frame, int64_t now) {
  UdpFrame udp;
  if (!ParseUdpFrame(frame.bytes, frame.size, &udp) || udp.to.address != facts_.address.address ||
      udp.to.family != facts_.address.family) {
    const Sending sending(this);
    device_->OnOther(frame, static_cast<bool>(sending));
    return false;
  }
  const uint32_t owner = owner_of_[udp.to.port].load(std::memory_order_acquire);
  Inbox* const inbox = owner == 0 ? nullptr : owners_[owner / 256 - 1].load();
  if (inbox == nullptr) return false;
  if (inbox->worth_reclaiming()) Reclaim(inbox);
  Inbox::Entry entry;
  entry.handle = frame.handle;
  entry.incoming.bytes = udp.payload;
  entry.incoming.size = udp.size;
  entry.incoming.path = static_cast<uint16_t>(owner % 256);
  entry.incoming.from = udp.from;
  entry.incoming.from.scope = facts_.address.scope;
  entry.incoming.waited_ns = now;
  return inbox->Put(entry, limit_.load(std::memory_order_relaxed));
}

bool Port::Loop(const FrameDevice::Pieces& pieces) {
  if (receiving_.exchange(true)) return false;
  FrameDevice::Frame frame;
  frame.size = pieces.size();
  uint8_t* room = device_->Borrow(frame.size, &frame.handle);
  if (room != nullptr) {
    frame.bytes = room;
    const auto put = [&](const uint8_t* from, uint32_t size) {
      if (size != 0) std::memcpy(room, from, size);
      room += size;
    };
    put(pieces.header, pieces.header_bytes);
    put(pieces.head, pieces.head_bytes);
    put(pieces.body, pieces.body_bytes);
    Deliver(&frame, 1, Now());
  }
  receiving_.store(false);
  return room != nullptr;
}

std::shared_ptr<Port> SharedPort(const std::string& of_device,
                                 const std::function<std::unique_ptr<FrameDevice>()>& make) {
  // A forked child has the parent's objects, whose rings are the parent's to use.
  const std::string name = of_device + " " + std::to_string(getpid());
  static auto* const mutex = new std::mutex;  // connections may outlive static destructors
  static auto* const ports = new std::map<std::string, std::weak_ptr<Port>>;
  const std::lock_guard<std::mutex> lock(*mutex);
  std::weak_ptr<Port>& known = (*ports)[name];
  if (std::shared_ptr<Port> port = known.lock()) return port;
  std::unique_ptr<FrameDevice> device = make();
  if (device == nullptr) return nullptr;
  auto port = std::make_shared<Port>(std::move(device));
  known = port;
  return port;
}

}  // namespace harp
}  // namespace taco
