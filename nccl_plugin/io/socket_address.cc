#include "nccl_plugin/io/socket_address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstring>

namespace taco {
namespace harp {

socklen_t ToSocketAddress(const Endpoint& endpoint, sockaddr_storage* address) {
  if (endpoint.family == Family::kIpv6) {
    sockaddr_in6 ipv6 = {};
    ipv6.sin6_family = AF_INET6;
    ipv6.sin6_port = htons(endpoint.port);
    ipv6.sin6_scope_id = endpoint.scope;
    std::memcpy(&ipv6.sin6_addr, endpoint.address.data(), sizeof(ipv6.sin6_addr));
    std::memcpy(address, &ipv6, sizeof(ipv6));
    return sizeof(ipv6);
  }
  sockaddr_in ipv4 = {};
  ipv4.sin_family = endpoint.family == Family::kIpv4 ? AF_INET : AF_UNSPEC;
  ipv4.sin_port = htons(endpoint.port);
  std::memcpy(&ipv4.sin_addr, endpoint.address.data(), sizeof(ipv4.sin_addr));
  std::memcpy(address, &ipv4, sizeof(ipv4));
  return sizeof(ipv4);
}

Endpoint FromSocketAddress(const sockaddr_storage& address) {
  Endpoint endpoint;
  if (address.ss_family == AF_INET6) {
    sockaddr_in6 ipv6;
    std::memcpy(&ipv6, &address, sizeof(ipv6));
    endpoint.family = Family::kIpv6;
    endpoint.port = ntohs(ipv6.sin6_port);
    endpoint.scope = ipv6.sin6_scope_id;
    std::memcpy(endpoint.address.data(), &ipv6.sin6_addr, sizeof(ipv6.sin6_addr));
  } else if (address.ss_family == AF_INET) {
    sockaddr_in ipv4;
    std::memcpy(&ipv4, &address, sizeof(ipv4));
    endpoint.family = Family::kIpv4;
    endpoint.port = ntohs(ipv4.sin_port);
    std::memcpy(endpoint.address.data(), &ipv4.sin_addr, sizeof(ipv4.sin_addr));
  }
  return endpoint;
}

std::string FindInterface(const Endpoint& local) {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return "";
  std::string found;
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr) continue;
    const int family = one->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    sockaddr_storage address = {};
    std::memcpy(&address, one->ifa_addr,
                family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    const Endpoint own = FromSocketAddress(address);
    if (own.family != local.family) continue;
    const bool same =
        own.address == local.address && (local.scope == 0 || own.scope == local.scope);
    // All of 127.0.0.0/8 is this machine, though only its first address is listed.
    const bool loopback = own.family == Family::kIpv4 && (one->ifa_flags & IFF_LOOPBACK) != 0 &&
                          own.address[0] == 127 && local.address[0] == 127;
    if (same || loopback) found = one->ifa_name;
    if (same) break;
  }
  freeifaddrs(all);
  return found;
}

std::optional<size_t> InterfaceMtu(const std::string& name) {
  ifreq request = {};
  if (name.empty() || name.size() >= sizeof(request.ifr_name)) return std::nullopt;
  std::memcpy(request.ifr_name, name.data(), name.size());
  const int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return std::nullopt;
  const int result = ioctl(descriptor, SIOCGIFMTU, &request);
  close(descriptor);
  if (result != 0 || request.ifr_mtu < 0) return std::nullopt;
  return static_cast<size_t>(request.ifr_mtu);
}

}  // namespace harp
}  // namespace taco
