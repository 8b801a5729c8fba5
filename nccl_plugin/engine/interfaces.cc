#include "nccl_plugin/engine/interfaces.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <fstream>
#include <map>

namespace taco {
namespace harp {
namespace {

// How good an address is; 0: of no use.
int Worth(const sockaddr* address) {
  if (address == nullptr) return 0;
  if (address->sa_family == AF_INET) return 3;
  if (address->sa_family != AF_INET6) return 0;
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(address);
  return IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr) ? 1 : 2;
}

std::string Numeric(const sockaddr* address, const std::string& name) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address->sa_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
    inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
    return text;
  }
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(address);
  inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
  return Worth(address) == 1 ? std::string(text) + "%" + name : text;
}

uint64_t HashOf(const std::string& text) {
  uint64_t hash = 14695981039346656037u;
  for (const char letter : text) hash = (hash ^ static_cast<uint8_t>(letter)) * 1099511628211u;
  return hash;
}

void Describe(Interface* interface) {
  const std::string folder = "/sys/class/net/" + interface->name;
  int speed = 0;
  if (std::ifstream(folder + "/speed") >> speed && speed > 0) interface->speed_mbps = speed;
  char path[PATH_MAX];
  if (realpath((folder + "/device").c_str(), path) != nullptr) interface->pci_path = path;
  std::string mac;
  std::ifstream(folder + "/address") >> mac;
  interface->guid =
      HashOf(interface->pci_path.empty() ? interface->name + mac : interface->pci_path);
}

bool Begins(const std::string& name, const std::string& with) {
  return name.compare(0, with.size(), with) == 0;
}

}  // namespace

bool Wanted(const std::string& name, const std::string& wanted) {
  if (wanted.empty()) {
    for (const char* virtual_one : {"lo", "docker", "br-", "virbr", "veth", "cni", "flannel"}) {
      if (Begins(name, virtual_one)) return false;
    }
    return true;
  }
  const bool all_but = wanted[0] == '^';
  const bool exactly = wanted[all_but ? 1 : 0] == '=';
  size_t at = (all_but ? 1 : 0) + (exactly ? 1 : 0);
  bool listed = false;
  while (at < wanted.size()) {
    const size_t end = std::min(wanted.find(',', at), wanted.size());
    const std::string each = wanted.substr(at, end - at);
    listed |= exactly ? name == each : !each.empty() && Begins(name, each);
    at = end + 1;
  }
  return listed != all_but;
}

std::vector<Interface> FindInterfaces(const std::string& wanted) {
  ifaddrs* first = nullptr;
  if (getifaddrs(&first) != 0) return {};
  std::vector<Interface> found;
  std::map<std::string, int> worths;
  for (const ifaddrs* each = first; each != nullptr; each = each->ifa_next) {
    const int worth = Worth(each->ifa_addr);
    // Whether it runs is not asked: an interface that was set up a moment ago does not yet.
    if (worth == 0 || (each->ifa_flags & IFF_UP) == 0 || !Wanted(each->ifa_name, wanted)) continue;
    if (worths[each->ifa_name] == 0) {
      found.emplace_back();
      found.back().name = each->ifa_name;
    }
    if (worth <= worths[each->ifa_name]) continue;
    worths[each->ifa_name] = worth;
    const auto same = [&](const Interface& one) { return one.name == each->ifa_name; };
    std::find_if(found.begin(), found.end(), same)->address =
        Numeric(each->ifa_addr, each->ifa_name);
  }
  freeifaddrs(first);
  for (Interface& interface : found) Describe(&interface);
  return found;
}

}  // namespace harp
}  // namespace taco
