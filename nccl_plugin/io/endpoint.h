// Where a packet comes from or goes to: an address, a port, and for link-local IPv6 the interface.
#ifndef NCCL_PLUGIN_IO_ENDPOINT_H_
#define NCCL_PLUGIN_IO_ENDPOINT_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace taco {
namespace harp {

enum class Family : uint8_t { kNone = 0, kIpv4 = 4, kIpv6 = 6 };

struct Endpoint {
  std::array<uint8_t, 16> address = {};  // in network order; IPv4: the first four, then zeros
  uint32_t scope = 0;                    // index of the interface; 0 unless link-local IPv6
  uint16_t port = 0;                     // in host order
  Family family = Family::kNone;

  // Whether it is 0.0.0.0 or [::], whatever its port.
  bool IsWildcard() const { return address == std::array<uint8_t, 16>(); }
};

inline bool operator==(const Endpoint& a, const Endpoint& b) {
  return a.address == b.address && a.scope == b.scope && a.port == b.port && a.family == b.family;
}
inline bool operator!=(const Endpoint& a, const Endpoint& b) { return !(a == b); }

// "127.0.0.1:4242", "[fe80::1%2]:4242", or "nowhere" where there is no family.
std::string ToText(const Endpoint& endpoint);

// Reads numeric text: what ToText writes, or an address alone, whose port is then 0: "::1",
// "[::1]", "10.0.0.1". A scope may be the name of an interface: "fe80::1%eth0". No name is looked
// up elsewhere.
std::optional<Endpoint> ParseEndpoint(const std::string& text);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_ENDPOINT_H_
