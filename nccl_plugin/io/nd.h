// Neighbour discovery (RFC 4861) of IPv6 over Ethernet: whom a frame must name to reach an address,
// for interfaces that no kernel looks after. Of it the question and the answer; no router's words
// are listened to.
#ifndef NCCL_PLUGIN_IO_ND_H_
#define NCCL_PLUGIN_IO_ND_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "nccl_plugin/io/frame.h"

namespace taco {
namespace harp {

using Ipv6 = std::array<uint8_t, 16>;

// Ethernet, IPv6, and ICMPv6 with one option.
inline constexpr size_t kNdFrameBytes = kEthernetBytes + 40 + 32;

struct NdPacket {
  bool answer = false;
  Mac from_mac = {};  // of who is asked for, or who asks
  Ipv6 from = {};     // all zeros: one who has no address yet, and asks whether another has it
  Mac to_mac = {};    // written for an answer alone
  Ipv6 to = {};       // of an answer; a question goes to those whose address ends as the target
  Ipv6 target = {};   // whose neighbour is asked for, or told
};

// A whole frame; false: it is something else, or wrong, or does not tell its sender's neighbour.
bool ParseNd(const uint8_t* frame, size_t size, NdPacket* packet);
// Writes kNdFrameBytes.
void WriteNd(const NdPacket& packet, uint8_t* frame);

// What a frame to a group of addresses names.
Mac GroupMac(const Ipv6& group);

inline constexpr Ipv6 kAllNodes = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_ND_H_
