#include "nccl_plugin/io/udp.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "nccl_plugin/io/socket_address.h"
#include "nccl_plugin/io/udp_receiver.h"
#include "nccl_plugin/io/udp_sender.h"
#include "nccl_plugin/protocol/packet.h"

namespace taco {
namespace harp {
namespace {

constexpr size_t kLeastMtu = 1280;  // of IPv6; the handshake's packets need nearly as much
constexpr size_t kUdpHeaderBytes = 8;

// Descriptors that are closed with it.
class Descriptors {
 public:
  Descriptors() = default;
  Descriptors(Descriptors&&) = default;
  ~Descriptors() {
    for (const int descriptor : all_) close(descriptor);
  }
  bool Add(int descriptor) {
    if (descriptor >= 0) all_.push_back(descriptor);
    return descriptor >= 0;
  }
  const std::vector<int>& all() const { return all_; }

 private:
  std::vector<int> all_;
};

struct Opened {
  Descriptors sockets;
  Descriptors epoll;
  std::vector<Endpoint> local;
  size_t max_packet = kMaxPacketBytes;
  std::string notes;
};

class Udp final : public PacketIo {
 public:
  Udp(Opened opened, bool segmentation)
      : opened_(std::move(opened)),
        sender_(opened_.sockets.all(), segmentation, &stats_),
        receiver_(opened_.sockets.all(), descriptor(), &stats_) {}

  size_t Send(const Outgoing* packets, size_t count) override {
    return sender_.Send(packets, count);
  }
  size_t Receive(Incoming* packets, size_t most) override {
    return receiver_.Receive(packets, most);
  }
  size_t max_packet() const override { return opened_.max_packet; }
  uint16_t paths() const override { return static_cast<uint16_t>(opened_.local.size()); }
  Endpoint local(uint16_t path) const override { return opened_.local[path]; }
  int descriptor() const override { return opened_.epoll.all()[0]; }
  const Stats& stats() const override { return stats_; }
  const std::string& notes() const override { return opened_.notes; }

 private:
  const Opened opened_;
  Stats stats_;
  UdpSender sender_;
  UdpReceiver receiver_;
};

bool Set(int socket, int level, int name, int value) {
  return setsockopt(socket, level, name, &value, sizeof(value)) == 0;
}

// Never a fragment, whatever the kernel believes about the way: the handshake finds what passes.
bool ForbidFragments(int socket, Family family) {
  if (family == Family::kIpv4) {
    return Set(socket, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
  }
  return Set(socket, IPPROTO_IPV6, IPV6_V6ONLY, 1) &&
         Set(socket, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE) &&
         Set(socket, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
}

// Asks for a queue; notes it where the kernel gives less.
void SetQueue(int socket, int option, uint32_t bytes, const char* limit, std::string* notes) {
  const int asked = static_cast<int>(std::min<uint32_t>(bytes, 1 << 30));
  Set(socket, SOL_SOCKET, option, asked);
  int given = 0;
  socklen_t size = sizeof(given);
  getsockopt(socket, SOL_SOCKET, option, &given, &size);
  given /= 2;  // the kernel tells twice what it was asked for
  if (given >= asked || notes->find(limit) != std::string::npos) return;
  *notes += "The kernel gives " + std::to_string(given) + " of " + std::to_string(asked) +
            " bytes that a path's queue was to have: raise " + limit + " (sysctl). ";
}

std::string Because(const std::string& what, int number) {
  std::string remedy;
  switch (number) {
    case EADDRINUSE:
      remedy = "; choose another port, or 0";
      break;
    case EADDRNOTAVAIL:
      remedy = "; `ip address` lists those of this machine";
      break;
    case EACCES:
      remedy = "; choose a port above 1023, or 0";
      break;
    case EMFILE:
    case ENFILE:
      remedy = "; raise `ulimit -n`, or use fewer paths";
      break;
    case EAFNOSUPPORT:
      remedy = "; use an address of a family that this kernel has";
      break;
  }
  return what + ": " + std::strerror(number) + remedy;
}

// Finds the size of the largest packet.
bool Measure(const UdpPlace& place, const Endpoint& local, Opened* opened, std::string* error) {
  const std::string name = place.interface.empty() ? FindInterface(local) : place.interface;
  if (name.empty()) {
    *error = Because("no interface has the address " + place.address, EADDRNOTAVAIL);
    return false;
  }
  const std::optional<size_t> mtu = InterfaceMtu(name);
  if (!mtu) {
    *error = "there is no interface " + name + "; `ip link` lists those of this machine";
    return false;
  }
  if (*mtu < kLeastMtu) {
    *error = "the MTU of " + name + " is " + std::to_string(*mtu) + ", HARP needs " +
             std::to_string(kLeastMtu) + "; raise it, or use another interface";
    return false;
  }
  const size_t ip = local.family == Family::kIpv4 ? 20 : 40;
  opened->max_packet = std::min({*mtu - ip - kUdpHeaderBytes, kMaxPacketBytes, opened->max_packet});
  return true;
}

// The address of a place, whose interface the packets must fit.
std::optional<Endpoint> Look(const UdpPlace& place, Opened* opened, std::string* error) {
  const std::optional<Endpoint> local = ParseEndpoint(place.address);
  if (!local || local->port != 0 || local->IsWildcard()) {
    *error = "'" + place.address +
             "' is no address of an interface; give one in numbers and without a port, such as "
             "10.0.0.1 or fe80::1%eth0";
    return std::nullopt;
  }
  if (!Measure(place, *local, opened, error)) return std::nullopt;
  return local;
}

bool OpenPath(const UdpOptions& options, Endpoint local, Opened* opened, std::string* error) {
  const int family = local.family == Family::kIpv4 ? AF_INET : AF_INET6;
  const int socket = ::socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (!opened->sockets.Add(socket)) {
    *error = Because("cannot open a UDP socket", errno);
    return false;
  }
  if (!ForbidFragments(socket, local.family)) {
    *error = Because("the kernel cannot send UDP without fragments", errno);
    return false;
  }
  sockaddr_storage address = {};
  socklen_t size = ToSocketAddress(local, &address);
  if (bind(socket, reinterpret_cast<sockaddr*>(&address), size) != 0) {
    *error = Because("cannot use " + ToText(local), errno);
    return false;
  }
  getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size);
  SetQueue(socket, SO_SNDBUF, options.send_bytes, "net.core.wmem_max", &opened->notes);
  SetQueue(socket, SO_RCVBUF, options.receive_bytes, "net.core.rmem_max", &opened->notes);
  // When a packet came, so that what it waits for us is told from what it waits on the way.
  const int on = 1;
  setsockopt(socket, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on));
  if (options.receive_segmentation) Set(socket, SOL_UDP, UDP_GRO, 1);  // without it: more calls
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u32 = static_cast<uint32_t>(opened->local.size());
  if (epoll_ctl(opened->epoll.all()[0], EPOLL_CTL_ADD, socket, &event) != 0) {
    *error = Because("cannot watch a UDP socket", errno);
    return false;
  }
  opened->local.push_back(FromSocketAddress(address));
  return true;
}

}  // namespace

std::unique_ptr<PacketIo> OpenUdp(const UdpOptions& options, std::string* error) {
  if (options.paths < 1 || options.paths > kMaxPaths) {
    *error = std::to_string(options.paths) + " paths are not possible; use 1 to " +
             std::to_string(kMaxPaths);
    return nullptr;
  }
  if (options.port != 0 && options.port + options.paths > UINT16_MAX + 1) {
    *error = std::to_string(options.paths) + " paths do not fit above port " +
             std::to_string(options.port) + "; choose a lower port, or 0";
    return nullptr;
  }
  Opened opened;
  std::vector<UdpPlace> places = {{options.address, options.interface}};
  places.insert(places.end(), options.others.begin(), options.others.end());
  std::vector<Endpoint> locals;
  for (const UdpPlace& place : places) {
    const std::optional<Endpoint> local = Look(place, &opened, error);
    if (!local) return nullptr;
    locals.push_back(*local);
  }
  if (!opened.epoll.Add(epoll_create1(EPOLL_CLOEXEC))) {
    *error = Because("cannot open an epoll descriptor", errno);
    return nullptr;
  }
  for (uint16_t path = 0; path < options.paths; ++path) {
    Endpoint local = locals[path % locals.size()];
    local.port = static_cast<uint16_t>(options.port == 0 ? 0 : options.port + path);
    if (!OpenPath(options, local, &opened, error)) return nullptr;
  }
  if (options.sockets != nullptr) *options.sockets = opened.sockets.all();
  return std::make_unique<Udp>(std::move(opened), options.send_segmentation);
}

}  // namespace harp
}  // namespace taco
