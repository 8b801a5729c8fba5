#include "nccl_plugin/io/nd.h"

#include <algorithm>

namespace taco {
namespace harp {
namespace {

constexpr uint8_t kIcmp = 58, kHops = 255;  // nobody outside the link can send that many
constexpr uint8_t kQuestion = 135, kAnswer = 136;
constexpr uint8_t kSource = 1, kTarget = 2;             // options
constexpr uint8_t kSolicited = 0x40, kOverride = 0x20;  // of an answer
constexpr size_t kFixed = 24;                           // bytes before the options

// Of a packet of ICMPv6 and the addresses around it, with its checksum: 0xffff where that is right.
uint16_t SumOf(const uint8_t* ip, const uint8_t* icmp, size_t size) {
  uint64_t sum = size + kIcmp;
  for (size_t at = 8; at < 40; at += 2) sum += Load16(ip + at);
  for (size_t at = 0; at + 1 < size; at += 2) sum += Load16(icmp + at);
  if (size % 2 != 0) sum += uint64_t{icmp[size - 1]} << 8;
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

Ipv6 AddressAt(const uint8_t* bytes) {
  Ipv6 address;
  std::copy_n(bytes, address.size(), address.begin());
  return address;
}

// The address of Ethernet in an option; false: there is none, or the options are wrong.
bool FindMac(const uint8_t* options, size_t size, uint8_t wanted, Mac* mac) {
  bool found = false;
  for (size_t at = 0; at < size;) {
    if (size - at < 8 || options[at + 1] == 0) return false;
    const size_t bytes = size_t{options[at + 1]} * 8;
    if (bytes > size - at) return false;
    if (options[at] == wanted) {
      std::copy_n(options + at + 2, mac->size(), mac->begin());
      found = bytes == 8;
    }
    at += bytes;
  }
  return found;
}

}  // namespace

bool ParseNd(const uint8_t* frame, size_t size, NdPacket* packet) {
  if (size < kEthernetBytes + 40 + kFixed || Load16(frame + 12) != kEtherIpv6) return false;
  const uint8_t* const ip = frame + kEthernetBytes;
  const size_t length = Load16(ip + 4);
  if (ip[0] >> 4 != 6 || ip[6] != kIcmp || ip[7] != kHops) return false;
  if (length < kFixed || length > size - kEthernetBytes - 40) return false;
  const uint8_t* const icmp = ip + 40;
  if ((icmp[0] != kQuestion && icmp[0] != kAnswer) || icmp[1] != 0) return false;
  if (SumOf(ip, icmp, length) != 0xffff) return false;
  packet->answer = icmp[0] == kAnswer;
  packet->from = AddressAt(ip + 8);
  packet->to = AddressAt(ip + 24);
  packet->target = AddressAt(icmp + 8);
  std::copy_n(frame, packet->to_mac.size(), packet->to_mac.begin());
  // Nobody is a group, and nobody's neighbour is.
  if (packet->from[0] == 0xff || packet->target[0] == 0xff || packet->target == Ipv6())
    return false;
  const uint8_t wanted = packet->answer ? kTarget : kSource;
  const bool told = FindMac(icmp + kFixed, length - kFixed, wanted, &packet->from_mac);
  if (packet->from == Ipv6()) {
    // It has no address that one could answer to, and must not say its neighbour.
    packet->from_mac = Mac();
    return !packet->answer && !told;
  }
  return told && (packet->from_mac[0] & 1) == 0 && packet->from_mac != Mac();
}

Mac GroupMac(const Ipv6& group) { return {0x33, 0x33, group[12], group[13], group[14], group[15]}; }

void WriteNd(const NdPacket& packet, uint8_t* frame) {
  Ipv6 to = packet.to;
  Mac to_mac = packet.to_mac;
  if (!packet.answer) {
    to = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
    std::copy_n(packet.target.begin() + 13, 3, to.begin() + 13);
    to_mac = GroupMac(to);
  }
  std::copy(to_mac.begin(), to_mac.end(), frame);
  std::copy(packet.from_mac.begin(), packet.from_mac.end(), frame + 6);
  Store16(kEtherIpv6, frame + 12);
  uint8_t* const ip = frame + kEthernetBytes;
  uint8_t* const icmp = ip + 40;
  std::fill(ip, frame + kNdFrameBytes, uint8_t{0});
  ip[0] = 0x60;
  Store16(32, ip + 4);
  ip[6] = kIcmp;
  ip[7] = kHops;
  std::copy(packet.from.begin(), packet.from.end(), ip + 8);
  std::copy(to.begin(), to.end(), ip + 24);
  icmp[0] = packet.answer ? kAnswer : kQuestion;
  if (packet.answer) icmp[4] = to == kAllNodes ? kOverride : kSolicited | kOverride;
  std::copy(packet.target.begin(), packet.target.end(), icmp + 8);
  icmp[kFixed] = packet.answer ? kTarget : kSource;
  icmp[kFixed + 1] = 1;
  std::copy(packet.from_mac.begin(), packet.from_mac.end(), icmp + kFixed + 2);
  Store16(static_cast<uint16_t>(~SumOf(ip, icmp, 32)), icmp + 2);
}

}  // namespace harp
}  // namespace taco
