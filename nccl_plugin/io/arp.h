// ARP (RFC 826) of IPv4 over Ethernet: whom a frame must name to reach an address, for interfaces
// that no kernel looks after.
#ifndef NCCL_PLUGIN_IO_ARP_H_
#define NCCL_PLUGIN_IO_ARP_H_

#include <array>
#include <atomic>
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

// Who was heard. One thread writes at a time; any number read meanwhile.
class ArpTable {
 public:
  static constexpr size_t kSlots = 1024;

  // False: there is no room. An address that is known is given its new neighbour.
  bool Learn(const Ipv4& address, const Mac& mac);
  bool Find(const Ipv4& address, Mac* mac) const;

 private:
  // The address in the lower half, and a bit above it that says that there is one.
  static uint64_t KeyOf(const Ipv4& address);

  // Open addressing: a key, once there, stays where it is, and its neighbour is one word.
  struct Slot {
    std::atomic<uint64_t> key{0};
    std::atomic<uint64_t> mac{0};
  };
  std::array<Slot, kSlots> slots_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_ARP_H_
