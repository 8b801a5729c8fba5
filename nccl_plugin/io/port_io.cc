#include "nccl_plugin/io/port_io.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "nccl_plugin/io/clock.h"

namespace taco {
namespace harp {
namespace {

// A way that is known is asked for again after a second, by when it may have changed; one that is
// not, soon.
constexpr int64_t kKnownFor = 1'000'000'000, kUnknownFor = 2'000'000;
// Looks at the frames, without any, for each look at the kernel's sockets, which is a system call;
// and how many of these are in a row once something came there.
constexpr int kLooks = 256, kMoreLooks = 64;

// How packets get to an address.
struct Route {
  Endpoint to;  // without a port
  int64_t again = 0;
  FrameDevice::Way way = FrameDevice::Way::kUnknown;
  FrameTemplate common;
};

// It keeps the port.
class PortMemory final : public PacketIo::Memory {
 public:
  // Null: the device copies.
  static std::unique_ptr<PortMemory> Add(std::shared_ptr<Port> port, const void* bytes,
                                         size_t size) {
    void* const known = port->AddMemory(bytes, size);
    if (known == nullptr) return nullptr;
    return std::unique_ptr<PortMemory>(new PortMemory(std::move(port), known));
  }

  bool Release() override {
    constexpr int64_t kPatience = 2'000'000'000;
    const int64_t end = Now() + kPatience;
    while (known_ != nullptr) {
      if (port_->RemoveMemory(known_)) known_ = nullptr;
      if (known_ == nullptr) break;
      if (Now() > end) return false;
      usleep(50);  // until the device has sent what it has
    }
    return true;
  }

 private:
  PortMemory(std::shared_ptr<Port> port, void* known) : port_(std::move(port)), known_(known) {}

  const std::shared_ptr<Port> port_;
  void* known_;
};

class PortIo final : public PacketIo {
 public:
  PortIo(std::shared_ptr<Port> port, std::vector<uint16_t> udp_ports,
         std::unique_ptr<PacketIo> kernel)
      : port_(std::move(port)),
        facts_(port_->facts()),
        udp_ports_(std::move(udp_ports)),
        kernel_(std::move(kernel)),
        send_queue_(port_->ChooseSendQueue()),
        inboxes_(facts_.receive_queues),
        handed_out_(facts_.receive_queues),
        look_at_(send_queue_),
        notes_(facts_.notes + (kernel_ == nullptr ? "" : kernel_->notes())) {}
  ~PortIo() override {
    if (added_) port_->Remove(&inboxes_, udp_ports_);
  }
  bool Begin(const std::vector<int>& sockets, std::string* error) {
    return added_ = port_->Add(&inboxes_, udp_ports_, sockets, error);
  }

  size_t Send(const Outgoing* packets, size_t count) override;
  std::unique_ptr<Memory> Register(const void* bytes, size_t size) override {
    return PortMemory::Add(port_, bytes, size);
  }
  size_t Receive(Incoming* packets, size_t most) override;
  size_t max_packet() const override {
    return std::min(facts_.max_ip - IpBytes(facts_.address.family) - kUdpBytes, kMaxPacketBytes);
  }
  uint16_t paths() const override { return static_cast<uint16_t>(udp_ports_.size()); }
  Endpoint local(uint16_t path) const override {
    Endpoint local = facts_.address;
    local.port = udp_ports_[path];
    return local;
  }
  int descriptor() const override { return port_->descriptor(); }
  const Stats& stats() const override { return stats_; }
  const std::string& notes() const override { return notes_; }

 private:
  static constexpr size_t kBatch = 32;
  static constexpr size_t kRoutes = 64;

  // Null: not now.
  const Route* RouteTo(const Endpoint& to, int64_t now, Port::Sending* device);
  void Prepare(const Outgoing& packet, const Route& route);
  // Sends what is prepared; false: not all of it.
  bool Flush(Port::Sending* device);
  bool SendAside(const Outgoing& packet, const Route& route);
  size_t ReceiveAside(Incoming* packets, size_t most);
  void Account(uint64_t bytes);
  void CountKernel();

  const std::shared_ptr<Port> port_;
  const FrameDevice::Facts facts_;
  const std::vector<uint16_t> udp_ports_;
  const std::unique_ptr<PacketIo> kernel_;
  const size_t send_queue_;
  Inboxes inboxes_;
  std::vector<size_t> handed_out_;  // of each inbox, by the last Receive
  size_t look_at_;                  // the queue to begin with
  const std::string notes_;
  bool added_ = false;
  Stats stats_;
  struct {
    uint64_t send_calls = 0, receive_calls = 0, kernel_copied_bytes = 0;
  } counted_;             // of the sockets
  int until_kernel_ = 0;  // looks
  int kernel_looks_ = 0;  // in a row
  std::array<Route, kRoutes> routes_;
  size_t prepared_ = 0;
  std::array<FrameDevice::Pieces, kBatch> pieces_;
  std::array<std::array<uint8_t, kMaxFrameHeaderBytes>, kBatch> headers_;
};

const Route* PortIo::RouteTo(const Endpoint& to, int64_t now, Port::Sending* device) {
  size_t hash = 0;
  for (const uint8_t byte : to.address) hash = hash * 31 + byte;
  Route& route = routes_[hash % kRoutes];
  const bool same = route.to.address == to.address && route.to.family == to.family;
  if (same && now < route.again) return &route;
  Endpoint alone = to;
  alone.port = 0;
  Mac mac;
  FrameDevice::Way way = FrameDevice::Way::kUnknown;
  if (to.family == facts_.address.family && !device->Find(alone, now, &mac, &way)) return nullptr;
  route.to = alone;
  route.way = way;
  if (route.way == FrameDevice::Way::kLocal) mac = facts_.mac;
  if (route.way != FrameDevice::Way::kUnknown) {
    route.common = MakeFrameTemplate(facts_.mac, mac, facts_.address, to);
  }
  route.again = now + (route.way == FrameDevice::Way::kUnknown ? kUnknownFor : kKnownFor);
  return &route;
}

void PortIo::Prepare(const Outgoing& packet, const Route& route) {
  uint8_t* const header = headers_[prepared_].data();
  WriteFrameHeader(route.common, udp_ports_[packet.path], packet.to.port, packet.head,
                   packet.head_bytes, packet.body, packet.body_bytes, header);
  FrameDevice::Pieces& pieces = pieces_[prepared_++];
  pieces = {header,           packet.head, packet.body, route.common.size, packet.head_bytes,
            packet.body_bytes};
}

void PortIo::Account(uint64_t bytes) {
  ++stats_.packets_sent;
  stats_.bytes_sent += bytes;
}

bool PortIo::Flush(Port::Sending* device) {
  const size_t sent = device->Send(pieces_.data(), prepared_, &stats_);
  for (size_t index = 0; index < sent; ++index) Account(pieces_[index].packet_bytes());
  const bool all = sent == prepared_;
  prepared_ -= sent;  // those that were not are at the end of what the caller has
  return all;
}

// What the sockets beside the port have cost since the last time.
void PortIo::CountKernel() {
  const Stats& now = kernel_->stats();
  stats_.send_calls += now.send_calls - counted_.send_calls;
  stats_.receive_calls += now.receive_calls - counted_.receive_calls;
  stats_.kernel_copied_bytes += now.kernel_copied_bytes - counted_.kernel_copied_bytes;
  counted_ = {now.send_calls, now.receive_calls, now.kernel_copied_bytes};
}

// What does not go as a frame. False: try again later.
bool PortIo::SendAside(const Outgoing& packet, const Route& route) {
  if (kernel_ != nullptr) {
    const uint64_t lost = kernel_->stats().packets_lost;
    const bool taken = kernel_->Send(&packet, 1) != 0;
    CountKernel();
    if (!taken) return false;
    if (kernel_->stats().packets_lost != lost) {
      ++stats_.packets_lost;
    } else {
      Account(packet.head_bytes + packet.body_bytes);
    }
    return true;
  }
  if (route.way == FrameDevice::Way::kUnknown) {
    ++stats_.packets_lost;
    return true;
  }
  Prepare(packet, route);
  const bool taken = port_->Loop(pieces_[--prepared_]);
  if (taken) {
    Account(packet.head_bytes + packet.body_bytes);
    stats_.user_copied_bytes += packet.head_bytes + packet.body_bytes;
  }
  return taken;
}

size_t PortIo::Send(const Outgoing* packets, size_t count) {
  Port::Sending device(port_.get(), send_queue_);
  if (!device) {
    ++stats_.queue_full;
    return 0;
  }
  const int64_t now = Now();
  prepared_ = 0;
  size_t taken = 0;
  bool full = false;
  for (; taken < count && !full; ++taken) {
    const Outgoing& packet = packets[taken];
    const bool fits = packet.head_bytes + packet.body_bytes <= max_packet();
    const Route* const route = fits ? RouteTo(packet.to, now, &device) : nullptr;
    full = fits && route == nullptr;
    if (full) break;
    if (fits && route->way == FrameDevice::Way::kFrames) {
      Prepare(packet, *route);
      if (prepared_ == kBatch) full = !Flush(&device);
      continue;
    }
    // In order: what is prepared was given to us before.
    if (prepared_ != 0 && !Flush(&device)) full = true;
    if (!full && fits) full = !SendAside(packet, *route);
    if (full) break;
    if (!fits) ++stats_.packets_lost;
  }
  if (!full && prepared_ != 0) full = !Flush(&device);
  if (full) ++stats_.queue_full;
  return taken - prepared_;  // the last ones that were prepared, and found no room
}

size_t PortIo::ReceiveAside(Incoming* packets, size_t most) {
  if (kernel_ == nullptr) return 0;
  if (until_kernel_-- > 0) return 0;
  const size_t count = kernel_->Receive(packets, most);
  CountKernel();
  if (count != 0) kernel_looks_ = kMoreLooks;
  until_kernel_ = kernel_looks_-- > 0 ? 0 : kLooks;
  kernel_looks_ = std::max(kernel_looks_, 0);
  for (size_t index = 0; index < count; ++index) {
    ++stats_.packets_received;
    stats_.bytes_received += packets[index].size;
  }
  return count;
}

size_t PortIo::Receive(Incoming* packets, size_t most) {
  for (size_t queue = 0; queue < handed_out_.size(); ++queue) {
    inboxes_[queue].Release(handed_out_[queue]);
    handed_out_[queue] = 0;
  }
  const size_t wanted = std::min(most, kLeft);
  if (inboxes_.unread() < wanted) port_->Look(&inboxes_, wanted, look_at_++, &stats_);
  stats_.dropped = inboxes_.dropped();
  size_t count = 0;
  for (size_t turn = 0; turn < handed_out_.size() && count < most; ++turn) {
    const size_t queue = (look_at_ + turn) % handed_out_.size();
    const size_t taken = std::min(inboxes_[queue].unread(), most - count);
    for (size_t index = 0; index < taken; ++index) {
      packets[count++] = inboxes_[queue].at(index).incoming;
    }
    handed_out_[queue] = taken;
  }
  if (count == 0) return ReceiveAside(packets, most);
  const int64_t now = Now();
  uint64_t bytes = 0;
  for (size_t index = 0; index < count; ++index) {
    packets[index].waited_ns = now - packets[index].waited_ns;
    bytes += packets[index].size;
  }
  stats_.bytes_received += bytes;
  stats_.user_copied_bytes += static_cast<uint64_t>(facts_.user_copies_received) * bytes;
  stats_.kernel_copied_bytes += static_cast<uint64_t>(facts_.kernel_copies_received) * bytes;
  stats_.packets_received += count;
  return count;
}

}  // namespace

std::unique_ptr<PacketIo> OpenPortIo(std::shared_ptr<Port> port, PortIoOptions options,
                                     std::string* error) {
  std::vector<uint16_t> udp_ports;
  if (options.kernel != nullptr) {
    for (uint16_t path = 0; path < options.kernel->paths(); ++path) {
      udp_ports.push_back(options.kernel->local(path).port);
    }
  } else if (options.port != 0) {
    for (int path = 0; path < options.paths; ++path) {
      udp_ports.push_back(static_cast<uint16_t>(options.port + path));
    }
  } else {
    udp_ports = port->Choose(options.paths);
  }
  if (udp_ports.empty() || udp_ports.size() > kMaxPaths || udp_ports.size() < options.paths) {
    *error = std::to_string(options.paths) + " paths are not possible; use 1 to " +
             std::to_string(kMaxPaths);
    return nullptr;
  }
  auto io =
      std::make_unique<PortIo>(std::move(port), std::move(udp_ports), std::move(options.kernel));
  if (!io->Begin(options.sockets, error)) return nullptr;
  return io;
}

}  // namespace harp
}  // namespace taco
