#include "nccl_plugin/io/port.h"

#include <sched.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <map>
#include <utility>

#include "nccl_plugin/io/clock.h"
#include "nccl_plugin/io/per_process.h"

namespace taco {
namespace harp {
namespace {

constexpr uint16_t kFirstUdpPort = 49152;  // of those that are nobody's (RFC 6335)
constexpr size_t kLeastLimit = 64;

// Slots of an inbox: where there are many queues, each brings little.
size_t SlotsOf(size_t queues) {
  size_t slots = 1024;
  while (slots > 128 && slots * queues > 2048) slots /= 2;
  return slots;
}

}  // namespace

bool Inbox::Put(const Entry& entry, size_t limit) {
  static_assert(alignof(Inbox) == 64 && offsetof(Inbox, released_) % 64 == 0 &&
                    offsetof(Inbox, written_) == offsetof(Inbox, released_) + 64 &&
                    offsetof(Inbox, slots_) == offsetof(Inbox, written_) + 64,
                "the reader and whoever looks write lines of their own");
  const uint64_t at = written_.load(std::memory_order_relaxed);
  if (used() >= limit) {
    dropped_.store(dropped() + 1, std::memory_order_relaxed);
    return false;
  }
  entries_[at & (slots_ - 1)] = entry;
  written_.store(at + 1, std::memory_order_release);
  return true;
}

size_t Inbox::Reclaim(uint64_t* handles, size_t most) {
  const uint64_t released = released_.load(std::memory_order_acquire);
  size_t count = 0;
  for (; count < most && reclaimed_ != released; ++count) {
    handles[count] = entries_[reclaimed_++ & (slots_ - 1)].handle;
  }
  return count;
}

size_t Inbox::Empty(uint64_t* handles, size_t most) {
  released_.store(written_.load());
  return Reclaim(handles, most);
}

Inboxes::Inboxes(size_t queues) {
  const size_t slots = SlotsOf(queues);
  for (size_t queue = 0; queue < queues; ++queue) each_.push_back(std::make_unique<Inbox>(slots));
}

size_t Inboxes::unread() const {
  size_t sum = 0;
  for (const auto& inbox : each_) sum += inbox->unread();
  return sum;
}

uint64_t Inboxes::dropped() const {
  uint64_t sum = 0;
  for (const auto& inbox : each_) sum += inbox->dropped();
  return sum;
}

void Port::Flag::Wait() {
  while (!Take()) sched_yield();
}

Port::Port(std::unique_ptr<FrameDevice> device)
    : device_(std::move(device)),
      facts_(device_->facts()),
      owner_of_(new std::atomic<uint32_t>[UINT16_MAX + 1]()),
      receiving_(new Flag[facts_.receive_queues]),
      sending_(new Flag[facts_.send_queues]) {
  // Ports of a former run of the program are not taken again at once: their packets may still come.
  next_udp_port_ = static_cast<uint16_t>(Now() >> 20);
}

Port::~Port() = default;

void Port::SetLimit() {
  const size_t part = facts_.frames / 2 / std::max<size_t>(owner_count_, 1);
  limit_.store(std::clamp(part, kLeastLimit, SlotsOf(facts_.receive_queues)));
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

bool Port::Add(Inboxes* inboxes, const std::vector<uint16_t>& udp_ports,
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
  free->store(inboxes);
  ++owner_count_;
  SetLimit();
  const auto owner = static_cast<uint32_t>(free - owners_.begin());
  for (size_t path = 0; path < udp_ports.size(); ++path) {
    owner_of_[udp_ports[path]].store(256 * (1 + owner) + static_cast<uint32_t>(path));
  }
  return true;
}

void Port::Remove(Inboxes* inboxes, const std::vector<uint16_t>& udp_ports) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const uint16_t port : udp_ports) {
    device_->Drop(port);
    owner_of_[port].store(0);
  }
  for (size_t queue = 0; queue < facts_.receive_queues; ++queue) receiving_[queue].Wait();
  std::find(owners_.begin(), owners_.end(), inboxes)->store(nullptr);
  uint64_t handles[kBurst];
  for (size_t queue = 0; queue < facts_.receive_queues; ++queue) {
    for (size_t count; (count = (*inboxes)[queue].Empty(handles, kBurst)) != 0;) {
      device_->GiveBack(queue, handles, count);
    }
  }
  --owner_count_;
  SetLimit();
  for (size_t queue = 0; queue < facts_.receive_queues; ++queue) receiving_[queue].Leave();
}

template <typename Act>
auto Port::WhileNobodySends(const Act& act) {
  for (size_t queue = 0; queue < facts_.send_queues; ++queue) sending_[queue].Wait();
  const auto result = act();
  for (size_t queue = 0; queue < facts_.send_queues; ++queue) sending_[queue].Leave();
  return result;
}

void* Port::AddMemory(const void* bytes, size_t size) {
  return WhileNobodySends([&] { return device_->AddMemory(bytes, size); });
}

bool Port::RemoveMemory(void* memory) {
  return WhileNobodySends([&] { return device_->RemoveMemory(memory); });
}

void Port::Reclaim(size_t queue, Inbox* inbox) {
  uint64_t handles[kBurst];
  size_t count;
  do {
    count = inbox->Reclaim(handles, kBurst);
    if (count != 0) device_->GiveBack(queue, handles, count);
  } while (count == kBurst);
}

void Port::Look(Inboxes* mine, size_t wanted, size_t first, PacketIo::Stats* stats) {
  for (size_t turn = 0; turn < facts_.receive_queues; ++turn) {
    const size_t queue = (first + turn) % facts_.receive_queues;
    if (!receiving_[queue].Take()) continue;
    LookAt(queue, mine, stats);
    receiving_[queue].Leave();
    if (mine->unread() >= wanted) return;
  }
}

void Port::LookAt(size_t queue, Inboxes* mine, PacketIo::Stats* stats) {
  Inbox& inbox = (*mine)[queue];
  Reclaim(queue, &inbox);
  FrameDevice::Frame frames[kBurst];
  // The caller's may be behind those of others. So often at most: they are to get on, too.
  for (int turn = 0; turn < kTurns; ++turn) {
    const size_t count = device_->Receive(queue, frames, kBurst, stats);
    if (count != 0) Deliver(queue, frames, count, Now());
    if (count < kBurst || inbox.unread() != 0) break;
  }
}

void Port::Deliver(size_t queue, const FrameDevice::Frame* frames, size_t count, int64_t now) {
  uint64_t unwanted[kBurst];
  size_t unwanted_count = 0;
  for (size_t index = 0; index < count; ++index) {
    if (index + 2 < count) __builtin_prefetch(frames[index + 2].bytes);
    if (DeliverOne(queue, frames[index], now)) continue;
    unwanted[unwanted_count++] = frames[index].handle;
  }
  if (unwanted_count != 0) device_->GiveBack(queue, unwanted, unwanted_count);
}

bool Port::DeliverOne(size_t queue, const FrameDevice::Frame& frame, int64_t now) {
  UdpFrame udp;
  if (!ParseUdpFrame(frame.bytes, frame.size, &udp) || udp.to.address != facts_.address.address ||
      udp.to.family != facts_.address.family) {
    ShowOther(frame);
    return false;
  }
  const uint32_t owner = owner_of_[udp.to.port].load(std::memory_order_acquire);
  Inboxes* const inboxes = owner == 0 ? nullptr : owners_[owner / 256 - 1].load();
  if (inboxes == nullptr) return false;
  Inbox& inbox = (*inboxes)[queue];
  if (inbox.worth_reclaiming()) Reclaim(queue, &inbox);
  Inbox::Entry entry;
  entry.handle = frame.handle;
  entry.incoming.bytes = udp.payload;
  entry.incoming.size = udp.size;
  entry.incoming.path = static_cast<uint16_t>(owner % 256);
  entry.incoming.from = udp.from;
  entry.incoming.from.scope = facts_.address.scope;
  entry.incoming.waited_ns = now;
  return inbox.Put(entry, limit_.load(std::memory_order_relaxed));
}

// It may be an answer, or want one. If somebody else has to do with neighbours just now it is lost,
// and who sent it asks again.
void Port::ShowOther(const FrameDevice::Frame& frame) {
  if (!neighbours_.Take()) return;
  size_t queue = 0;
  while (queue < facts_.send_queues && !sending_[queue].Take()) ++queue;
  const bool can_send = queue < facts_.send_queues;
  device_->OnOther(frame, can_send ? queue : FrameDevice::kNoQueue);
  if (can_send) sending_[queue].Leave();
  neighbours_.Leave();
}

bool Port::Loop(const FrameDevice::Pieces& pieces) {
  constexpr size_t kQueue = 0;
  if (!receiving_[kQueue].Take()) return false;
  FrameDevice::Frame frame;
  frame.size = pieces.size();
  uint8_t* room = device_->Borrow(kQueue, frame.size, &frame.handle);
  if (room != nullptr) {
    frame.bytes = room;
    const auto put = [&](const uint8_t* from, uint32_t size) {
      if (size != 0) std::memcpy(room, from, size);
      room += size;
    };
    put(pieces.header, pieces.header_bytes);
    put(pieces.head, pieces.head_bytes);
    put(pieces.body, pieces.body_bytes);
    Deliver(kQueue, &frame, 1, Now());
  }
  receiving_[kQueue].Leave();
  return room != nullptr;
}

std::shared_ptr<Port> SharedPort(const std::string& of_device,
                                 const std::function<std::unique_ptr<FrameDevice>()>& make) {
  struct Ports {
    std::mutex mutex;
    std::map<std::string, std::weak_ptr<Port>> by_device;
  };
  static PerProcess<Ports> of_processes;  // the parent's rings are the parent's to use
  Ports& ports = of_processes.Get();
  const std::lock_guard<std::mutex> lock(ports.mutex);
  std::weak_ptr<Port>& known = ports.by_device[of_device];
  if (std::shared_ptr<Port> port = known.lock()) return port;
  std::unique_ptr<FrameDevice> device = make();
  if (device == nullptr) return nullptr;
  auto port = std::make_shared<Port>(std::move(device));
  known = port;
  return port;
}

}  // namespace harp
}  // namespace taco
