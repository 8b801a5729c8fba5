// ARP (RFC 826) of IPv4 over Ethernet: whom a frame must name to reach an address, for interfaces
// that no kernel looks after.
#ifndef NCCL_PLUGIN_IO_ARP_H_
#define NCCL_PLUGIN_IO_ARP_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "nccl_plugin/io/frame.h"

namespace taco {
namespace harp {

using Ipv4 = std::array<uint8_t, 4>;

inline constexpr size_t kArpFrameBytes = kEthernetBytes + 28;

struct ArpPacket {
  bool reply = false;
  Mac from_mac = {};
  Ipv4 from = {};
  Mac to_mac = {};
  Ipv4 to = {};
};

// A whole frame; false: it is something else, or wrong.
bool ParseArp(const uint8_t* frame, size_t size, ArpPacket* packet);
// Writes kArpFrameBytes. A question goes to all.
void WriteArp(const ArpPacket& packet, uint8_t* frame);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_ARP_H_
