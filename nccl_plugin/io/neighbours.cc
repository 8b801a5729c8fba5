#include "nccl_plugin/io/neighbours.h"

#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace taco {
namespace harp {
namespace {

using Way = FrameDevice::Way;

constexpr int64_t kAskAgain = 10'000'000'000;
constexpr int kUsable =
    NUD_REACHABLE | NUD_PERMANENT | NUD_NOARP | NUD_STALE | NUD_DELAY | NUD_PROBE;

int KernelFamily(const Endpoint& endpoint) {
  return endpoint.family == Family::kIpv4 ? AF_INET : AF_INET6;
}
size_t AddressBytes(const Endpoint& endpoint) { return endpoint.family == Family::kIpv4 ? 4 : 16; }

// A request with one header and a few attributes, and the answer to it.
class Exchange {
 public:
  template <typename Header>
  Exchange(uint16_t type, const Header& header) {
    auto* const message = reinterpret_cast<nlmsghdr*>(bytes_.data());
    message->nlmsg_type = type;
    message->nlmsg_flags = NLM_F_REQUEST;
    message->nlmsg_len = NLMSG_LENGTH(sizeof(header));
    std::memcpy(NLMSG_DATA(message), &header, sizeof(header));
  }

  void Add(uint16_t type, const void* value, size_t size) {
    auto* const message = reinterpret_cast<nlmsghdr*>(bytes_.data());
    auto* const attribute =
        reinterpret_cast<rtattr*>(bytes_.data() + NLMSG_ALIGN(message->nlmsg_len));
    attribute->rta_type = type;
    attribute->rta_len = static_cast<uint16_t>(RTA_LENGTH(size));
    std::memcpy(RTA_DATA(attribute), value, size);
    message->nlmsg_len =
        static_cast<uint32_t>(NLMSG_ALIGN(message->nlmsg_len) + RTA_ALIGN(attribute->rta_len));
  }

  // The answer, if it is of this type; else null. The kernel answers within the call of send.
  template <typename Header>
  const Header* Ask(int socket, uint16_t type, const rtattr** attributes, size_t* size) {
    auto* const message = reinterpret_cast<nlmsghdr*>(bytes_.data());
    static uint32_t sequence = 0;
    const uint32_t number = __atomic_add_fetch(&sequence, 1, __ATOMIC_RELAXED);
    message->nlmsg_seq = number;
    if (send(socket, bytes_.data(), message->nlmsg_len, MSG_DONTWAIT) < 0) return nullptr;
    for (;;) {
      const ssize_t got = recv(socket, bytes_.data(), bytes_.size(), MSG_DONTWAIT);
      if (got < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(Header)))) return nullptr;
      if (!NLMSG_OK(message, static_cast<uint32_t>(got))) return nullptr;
      if (message->nlmsg_seq == number) break;
    }
    if (message->nlmsg_type != type) return nullptr;
    *attributes = reinterpret_cast<const rtattr*>(bytes_.data() + NLMSG_SPACE(sizeof(Header)));
    *size = message->nlmsg_len - std::min<size_t>(message->nlmsg_len, NLMSG_SPACE(sizeof(Header)));
    return static_cast<const Header*>(NLMSG_DATA(message));
  }

 private:
  alignas(nlmsghdr) std::array<uint8_t, 4096> bytes_ = {};
};

const rtattr* FindAttribute(const rtattr* attribute, size_t size, uint16_t type) {
  for (auto left = static_cast<int>(size); RTA_OK(attribute, left);
       attribute = RTA_NEXT(attribute, left)) {
    if ((attribute->rta_type & NLA_TYPE_MASK) == type) return attribute;
  }
  return nullptr;
}

}  // namespace

Neighbours::Neighbours(int interface)
    : interface_(interface), socket_(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)) {}

Neighbours::~Neighbours() {
  if (socket_ >= 0) close(socket_);
}

Way Neighbours::FindHop(const Endpoint& to, Endpoint* hop) const {
  *hop = to;
  rtmsg question = {};
  question.rtm_family = static_cast<uint8_t>(KernelFamily(to));
  question.rtm_dst_len = static_cast<uint8_t>(8 * AddressBytes(to));
  Exchange exchange(RTM_GETROUTE, question);
  exchange.Add(RTA_DST, to.address.data(), AddressBytes(to));
  // The address of a link says which one; others are the routing table's matter.
  if (to.scope != 0) exchange.Add(RTA_OIF, &interface_, sizeof(interface_));
  const rtattr* attributes = nullptr;
  size_t size = 0;
  const auto* const answer = exchange.Ask<rtmsg>(socket_, RTM_NEWROUTE, &attributes, &size);
  if (answer == nullptr) return Way::kUnknown;
  if (answer->rtm_type == RTN_LOCAL) return Way::kLocal;
  if (answer->rtm_type != RTN_UNICAST) return Way::kUnknown;
  const rtattr* const out = FindAttribute(attributes, size, RTA_OIF);
  int interface = 0;
  if (out == nullptr || RTA_PAYLOAD(out) != sizeof(interface)) return Way::kUnknown;
  std::memcpy(&interface, RTA_DATA(out), sizeof(interface));
  if (interface != interface_) return Way::kUnknown;
  if (const rtattr* const gateway = FindAttribute(attributes, size, RTA_GATEWAY)) {
    if (RTA_PAYLOAD(gateway) != AddressBytes(to)) return Way::kUnknown;
    std::memcpy(hop->address.data(), RTA_DATA(gateway), AddressBytes(to));
  } else if (FindAttribute(attributes, size, RTA_VIA) != nullptr) {
    return Way::kUnknown;  // a gateway of the other family
  }
  return Way::kFrames;
}

Way Neighbours::Find(const Endpoint& to, int64_t now, Mac* mac) {
  if (socket_ < 0) return Way::kUnknown;
  Endpoint hop;
  const Way way = FindHop(to, &hop);
  if (way != Way::kFrames) return way;
  ndmsg question = {};
  question.ndm_family = static_cast<uint8_t>(KernelFamily(hop));
  question.ndm_ifindex = interface_;
  Exchange exchange(RTM_GETNEIGH, question);
  exchange.Add(NDA_DST, hop.address.data(), AddressBytes(hop));
  const rtattr* attributes = nullptr;
  size_t size = 0;
  const auto* const answer = exchange.Ask<ndmsg>(socket_, RTM_NEWNEIGH, &attributes, &size);
  if (answer == nullptr || (answer->ndm_state & kUsable) == 0) return Way::kUnknown;
  const rtattr* const found = FindAttribute(attributes, size, NDA_LLADDR);
  if (found == nullptr || RTA_PAYLOAD(found) != mac->size()) return Way::kUnknown;
  if ((answer->ndm_state & NUD_STALE) != 0 && now - asked_ > kAskAgain) {
    asked_ = now;
    return Way::kUnknown;
  }
  std::memcpy(mac->data(), RTA_DATA(found), mac->size());
  return Way::kFrames;
}

}  // namespace harp
}  // namespace taco
