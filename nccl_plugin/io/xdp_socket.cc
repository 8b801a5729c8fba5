#include "nccl_plugin/io/xdp_socket.h"

#include <fcntl.h>
#include <linux/if_xdp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace taco {
namespace harp {
namespace {

// What older headers lack; numbers of the kernel's interface.
constexpr int kAfXdp = 44, kSolXdp = 283;
constexpr int kSoBusyPoll = 46, kSoPreferBusyPoll = 69, kSoBusyPollBudget = 70;
constexpr int kXdpMaxTxSkbBudget = 9;  // Linux 6.18

constexpr size_t kWakes = 8;  // of one batch, each of which makes the kernel send some frames

uint32_t Acquire(const uint32_t* number) { return __atomic_load_n(number, __ATOMIC_ACQUIRE); }
uint32_t Relaxed(const uint32_t* number) { return __atomic_load_n(number, __ATOMIC_RELAXED); }
void Release(uint32_t* number, uint32_t value) {
  __atomic_store_n(number, value, __ATOMIC_RELEASE);
}

std::string Because(const std::string& what, int number) {
  std::string remedy;
  switch (number) {
    case EPERM:
    case EACCES:
      remedy = "; it needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF, or root";
      break;
    case EBUSY:
      remedy = "; another process has this queue of it: one process an interface can use AF_XDP";
      break;
    case ENOBUFS:
    case ENOMEM:
      remedy = "; raise `ulimit -l`";
      break;
    case EAFNOSUPPORT:
    case EOPNOTSUPP:
      remedy = "; this kernel, or the interface's driver, has no AF_XDP";
      break;
    case ENETDOWN:
      remedy = "; `ip link set` it up";
      break;
  }
  return what + ": " + std::strerror(number) + remedy;
}

// The kernel frees a queue a little after the socket that had it was closed.
bool BindPatiently(int socket, const sockaddr_xdp& address) {
  for (int turn = 0;; ++turn) {
    if (bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0)
      return true;
    if (errno != EBUSY || turn == 50) return false;
    usleep(20'000);
  }
}

}  // namespace

std::unique_ptr<XdpSocket> XdpSocket::Open(const Options& options, std::string* error) {
  std::unique_ptr<XdpSocket> made(new XdpSocket(options));
  if (!made->Begin(-1, error) || !made->MapRings(error)) return nullptr;
  made->FillRings();
  return made;
}

bool XdpSocket::Make(const Options& options, Made* made, std::string* error) {
  XdpSocket socket(options);
  const int memory = memfd_create("harp", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memory < 0 || ftruncate(memory, static_cast<off_t>(socket.memory_bytes())) != 0 ||
      fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    *error = Because("no memory for the frames of AF_XDP", errno);
    if (memory >= 0) close(memory);
    return false;
  }
  if (!socket.Begin(memory, error)) {
    close(memory);
    return false;
  }
  *made = {std::exchange(socket.socket_, -1), memory, socket.zero_copy_, socket.busy_poll_};
  return true;
}

std::unique_ptr<XdpSocket> XdpSocket::Use(const Options& options, const Made& made,
                                          std::string* error) {
  std::unique_ptr<XdpSocket> used(new XdpSocket(options));
  used->socket_ = made.socket;
  used->zero_copy_ = made.zero_copy;
  used->busy_poll_ = made.busy_poll;
  const bool mapped = used->MapMemory(made.memory, error);
  close(made.memory);
  if (!mapped || !used->MapRings(error)) return nullptr;
  used->FillRings();
  return used;
}

bool XdpSocket::Begin(int memory, std::string* error) {
  socket_ = socket(kAfXdp, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (socket_ < 0) {
    *error = Because("cannot open an AF_XDP socket", errno);
    return false;
  }
  if (!MapMemory(memory, error) || !RegisterMemory(error) || !SizeRings(error) || !Bind(error)) {
    return false;
  }
  AskForBusyPoll();
  return true;
}

void XdpSocket::FillRings() {
  std::vector<uint64_t> all;
  for (uint32_t frame = 0; frame < options_.receive_frames; ++frame) {
    all.push_back(frame * kFrameBytes);
  }
  GiveBack(all.data(), all.size());
  for (uint32_t frame = 0; frame < options_.send_frames; ++frame) {
    free_.push_back((options_.receive_frames + frame) * kFrameBytes);
  }
}

XdpSocket::~XdpSocket() {
  for (const Ring* ring : {&fill_, &done_, &receive_, &send_}) {
    if (ring->map != nullptr) munmap(ring->map, ring->map_bytes);
  }
  if (socket_ >= 0) close(socket_);
  if (memory_ != nullptr) munmap(memory_, memory_bytes());
}

// `descriptor`: of the memory; -1: it is to be new.
bool XdpSocket::MapMemory(int descriptor, std::string* error) {
  const int kind = descriptor < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  void* const memory =
      mmap(nullptr, memory_bytes(), PROT_READ | PROT_WRITE, kind | MAP_POPULATE, descriptor, 0);
  if (memory == MAP_FAILED) {
    *error = Because("no memory for the frames of AF_XDP", errno);
    return false;
  }
  memory_ = static_cast<uint8_t*>(memory);
  madvise(memory, memory_bytes(), MADV_DONTFORK);  // a child's writes must not move our pages
  return true;
}

bool XdpSocket::RegisterMemory(std::string* error) {
  xdp_umem_reg region = {};
  region.addr = reinterpret_cast<uint64_t>(memory_);
  region.len = memory_bytes();
  region.chunk_size = kFrameBytes;
  if (setsockopt(socket_, kSolXdp, XDP_UMEM_REG, &region, sizeof(region)) != 0) {
    *error = Because("cannot register memory for AF_XDP", errno);
    return false;
  }
  return true;
}

bool XdpSocket::Map(const void* offsets, uint64_t at, size_t entry_bytes, uint32_t entries,
                    Ring* ring) {
  const auto& offset = *static_cast<const xdp_ring_offset*>(offsets);
  ring->map_bytes = offset.desc + entries * entry_bytes;
  void* const map = mmap(nullptr, ring->map_bytes, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_POPULATE, socket_, static_cast<off_t>(at));
  if (map == MAP_FAILED) return false;
  auto* const bytes = static_cast<uint8_t*>(map);
  ring->map = map;
  ring->producer = reinterpret_cast<uint32_t*>(bytes + offset.producer);
  ring->consumer = reinterpret_cast<uint32_t*>(bytes + offset.consumer);
  ring->flags = reinterpret_cast<uint32_t*>(bytes + offset.flags);
  ring->entries = bytes + offset.desc;
  ring->mask = entries - 1;
  return true;
}

bool XdpSocket::SizeRings(std::string* error) {
  const auto size = [&](int name, uint32_t entries) {
    return setsockopt(socket_, kSolXdp, name, &entries, sizeof(entries)) == 0;
  };
  const uint32_t receive = options_.receive_frames, send = options_.send_frames;
  const bool made = size(XDP_UMEM_FILL_RING, receive) && size(XDP_UMEM_COMPLETION_RING, send) &&
                    size(XDP_RX_RING, receive) && size(XDP_TX_RING, send);
  if (!made) *error = Because("cannot make the rings of AF_XDP", errno);
  return made;
}

bool XdpSocket::MapRings(std::string* error) {
  const uint32_t receive = options_.receive_frames, send = options_.send_frames;
  xdp_mmap_offsets offsets = {};
  socklen_t bytes = sizeof(offsets);
  const bool mapped =
      getsockopt(socket_, kSolXdp, XDP_MMAP_OFFSETS, &offsets, &bytes) == 0 &&
      bytes == sizeof(offsets) &&
      Map(&offsets.fr, XDP_UMEM_PGOFF_FILL_RING, sizeof(uint64_t), receive, &fill_) &&
      Map(&offsets.cr, XDP_UMEM_PGOFF_COMPLETION_RING, sizeof(uint64_t), send, &done_) &&
      Map(&offsets.rx, XDP_PGOFF_RX_RING, sizeof(xdp_desc), receive, &receive_) &&
      Map(&offsets.tx, XDP_PGOFF_TX_RING, sizeof(xdp_desc), send, &send_);
  if (!mapped) *error = Because("cannot map the rings of AF_XDP", errno);
  return mapped;
}

bool XdpSocket::Bind(std::string* error) {
  sockaddr_xdp address = {};
  address.sxdp_family = kAfXdp;
  address.sxdp_ifindex = static_cast<uint32_t>(options_.interface);
  address.sxdp_queue_id = options_.queue;
  for (const int mode : {XDP_ZEROCOPY, XDP_COPY}) {
    if (options_.copies && mode == XDP_ZEROCOPY) continue;
    address.sxdp_flags = static_cast<uint16_t>(mode | XDP_USE_NEED_WAKEUP);
    if (BindPatiently(socket_, address)) {
      zero_copy_ = mode == XDP_ZEROCOPY;
      return true;
    }
    if (errno == EPERM || errno == EBUSY || errno == ENETDOWN) break;
  }
  *error = Because("cannot have queue " + std::to_string(options_.queue) + " of " + options_.name,
                   errno);
  return false;
}

// The kernel then looks at the interface when we do, and not when it interrupts. Without it all
// works as well, later.
void XdpSocket::AskForBusyPoll() {
  const auto set = [&](int name, int value) {
    return setsockopt(socket_, SOL_SOCKET, name, &value, sizeof(value)) == 0;
  };
  // Only where the driver does not copy: a virtual interface does its work in the sender's call.
  busy_poll_ =
      zero_copy_ && set(kSoPreferBusyPoll, 1) && set(kSoBusyPoll, 20) && set(kSoBusyPollBudget, 64);
  const int budget = 256;
  setsockopt(socket_, kSolXdp, kXdpMaxTxSkbBudget, &budget, sizeof(budget));
}

size_t XdpSocket::Receive(FrameDevice::Frame* frames, size_t most, PacketIo::Stats* stats) {
  const uint32_t begin = Relaxed(receive_.consumer);
  const uint32_t there = Acquire(receive_.producer) - begin;
  if (there == 0 && (busy_poll_ || (Relaxed(fill_.flags) & XDP_RING_NEED_WAKEUP) != 0)) {
    if (stats != nullptr) ++stats->receive_calls;
    recvfrom(socket_, nullptr, 0, MSG_DONTWAIT, nullptr, nullptr);
  }
  const size_t count = std::min<size_t>(there, most);
  const auto* const entries = reinterpret_cast<const xdp_desc*>(receive_.entries);
  for (size_t index = 0; index < count; ++index) {
    const xdp_desc& entry = entries[(begin + index) & receive_.mask];
    frames[index].bytes = memory_ + entry.addr;
    frames[index].size = entry.len;
    frames[index].handle = entry.addr;
  }
  if (count != 0) Release(receive_.consumer, begin + static_cast<uint32_t>(count));
  return count;
}

void XdpSocket::GiveBack(const uint64_t* handles, size_t count) {
  const uint32_t begin = Relaxed(fill_.producer);
  auto* const entries = reinterpret_cast<uint64_t*>(fill_.entries);
  // There is room: the ring is as long as there are frames.
  for (size_t index = 0; index < count; ++index) {
    entries[(begin + index) & fill_.mask] = handles[index] & ~uint64_t{kFrameBytes - 1};
  }
  Release(fill_.producer, begin + static_cast<uint32_t>(count));
}

void XdpSocket::TakeDone() {
  const uint32_t begin = Relaxed(done_.consumer);
  const uint32_t count = Acquire(done_.producer) - begin;
  const auto* const entries = reinterpret_cast<const uint64_t*>(done_.entries);
  for (uint32_t index = 0; index < count; ++index) {
    free_.push_back(entries[(begin + index) & done_.mask]);  // within its capacity
  }
  if (count != 0) Release(done_.consumer, begin + count);
}

void XdpSocket::Wake(PacketIo::Stats* stats) {
  for (size_t turn = 0; turn < kWakes; ++turn) {
    if (zero_copy_ && (Relaxed(send_.flags) & XDP_RING_NEED_WAKEUP) == 0) return;
    ++stats->send_calls;
    const bool sent = sendto(socket_, nullptr, 0, MSG_DONTWAIT, nullptr, 0) >= 0;
    if (zero_copy_) return;
    // Where the kernel copies, a call sends so many frames at most; EAGAIN: there are more.
    if (Acquire(send_.consumer) == Relaxed(send_.producer)) return;
    if (!sent && errno != EAGAIN) {
      if (errno != EBUSY && errno != ENOBUFS) ++stats->error(errno);
      return;
    }
  }
}

size_t XdpSocket::Send(const FrameDevice::Pieces* frames, size_t count, PacketIo::Stats* stats) {
  TakeDone();
  const uint32_t begin = Relaxed(send_.producer);
  const size_t taken = std::min(count, free_.size());
  auto* const entries = reinterpret_cast<xdp_desc*>(send_.entries);
  for (size_t index = 0; index < taken; ++index) {
    const FrameDevice::Pieces& each = frames[index];
    const uint64_t place = free_.back();
    free_.pop_back();
    uint8_t* room = memory_ + place;
    std::memcpy(room, each.header, each.header_bytes);
    room += each.header_bytes;
    if (each.head_bytes != 0) std::memcpy(room, each.head, each.head_bytes);
    room += each.head_bytes;
    if (each.body_bytes != 0) std::memcpy(room, each.body, each.body_bytes);
    xdp_desc& entry = entries[(begin + index) & send_.mask];
    entry.addr = place;
    entry.len = each.size();
    entry.options = 0;
    stats->user_copied_bytes += each.packet_bytes();
    if (!zero_copy_) stats->kernel_copied_bytes += each.packet_bytes();
  }
  if (taken != 0) Release(send_.producer, begin + static_cast<uint32_t>(taken));
  // Also where nothing was taken: what was before may wait for a call.
  if (Acquire(send_.consumer) != Relaxed(send_.producer)) Wake(stats);
  return taken;
}

}  // namespace harp
}  // namespace taco
