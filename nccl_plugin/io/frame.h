// Ethernet frames with one UDP datagram over IPv4 or IPv6: read and written here, by those kinds of
// PacketIo that have no kernel to do so. Functions of bytes, without state.
//
//   Ethernet (14)   IPv4 (20) or IPv6 (40)   UDP (8)   payload
//
// Nothing that comes from outside is believed: what has a tag of a VLAN, options, extension
// headers, a fragment, or lengths that do not fit is not for us.
#ifndef NCCL_PLUGIN_IO_FRAME_H_
#define NCCL_PLUGIN_IO_FRAME_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "nccl_plugin/io/endpoint.h"

namespace taco {
namespace harp {

using Mac = std::array<uint8_t, 6>;

inline constexpr size_t kEthernetBytes = 14;
inline constexpr size_t kUdpBytes = 8;
inline constexpr size_t kMaxFrameHeaderBytes = kEthernetBytes + 40 + kUdpBytes;

inline constexpr uint16_t kEtherIpv4 = 0x0800;
inline constexpr uint16_t kEtherIpv6 = 0x86dd;
inline constexpr uint16_t kEtherArp = 0x0806;

inline size_t IpBytes(Family family) { return family == Family::kIpv4 ? 20 : 40; }

// Numbers in network order.
inline uint16_t Load16(const uint8_t* bytes) {
  return static_cast<uint16_t>(bytes[0] << 8 | bytes[1]);
}
inline void Store16(uint16_t number, uint8_t* bytes) {
  bytes[0] = static_cast<uint8_t>(number >> 8);
  bytes[1] = static_cast<uint8_t>(number);
}

struct UdpFrame {
  Endpoint from, to;  // without scopes
  const uint8_t* payload = nullptr;
  uint32_t size = 0;
};

// False: the frame is something else, or wrong. UDP's checksum is not looked at: interfaces that
// leave it to hardware which is not there (veth) hand over unfinished ones, and HARP has its own.
bool ParseUdpFrame(const uint8_t* bytes, size_t size, UdpFrame* frame);

// What all frames from one address to another have in common.
struct FrameTemplate {
  std::array<uint8_t, kMaxFrameHeaderBytes> bytes = {};
  uint32_t size = 0;  // of all headers
  uint32_t sum = 0;   // of the bytes that a checksum covers and that stay
};

// Ports do not matter; the families are the same.
FrameTemplate MakeFrameTemplate(const Mac& from_mac, const Mac& to_mac, const Endpoint& from,
                                const Endpoint& to);

// Writes `common.size` bytes, which the payload, in two pieces, is to follow. Over IPv4 UDP has no
// checksum; over IPv6, which demands one, the payload is read for it.
void WriteFrameHeader(const FrameTemplate& common, uint16_t from_port, uint16_t to_port,
                      const uint8_t* head, size_t head_bytes, const uint8_t* body,
                      size_t body_bytes, uint8_t* out);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_FRAME_H_
