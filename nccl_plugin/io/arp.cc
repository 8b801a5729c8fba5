#include "nccl_plugin/io/arp.h"

#include <algorithm>

namespace taco {
namespace harp {
namespace {

constexpr uint16_t kEthernet = 1, kRequest = 1, kReply = 2;

template <size_t kBytes>
void Take(const uint8_t* from, std::array<uint8_t, kBytes>* to) {
  std::copy_n(from, kBytes, to->begin());
}

}  // namespace

bool ParseArp(const uint8_t* frame, size_t size, ArpPacket* packet) {
  if (size < kArpFrameBytes || Load16(frame + 12) != kEtherArp) return false;
  const uint8_t* const arp = frame + kEthernetBytes;
  if (Load16(arp) != kEthernet || Load16(arp + 2) != kEtherIpv4 || arp[4] != 6 || arp[5] != 4) {
    return false;
  }
  const uint16_t operation = Load16(arp + 6);
  if (operation != kRequest && operation != kReply) return false;
  packet->reply = operation == kReply;
  Take(arp + 8, &packet->from_mac);
  Take(arp + 14, &packet->from);
  Take(arp + 18, &packet->to_mac);
  Take(arp + 24, &packet->to);
  // Nobody is a group, and nobody has no address.
  return (packet->from_mac[0] & 1) == 0 && packet->from_mac != Mac() && packet->from != Ipv4();
}

void WriteArp(const ArpPacket& packet, uint8_t* frame) {
  Mac to = packet.to_mac;
  if (!packet.reply) to.fill(0xff);
  std::copy(to.begin(), to.end(), frame);
  std::copy(packet.from_mac.begin(), packet.from_mac.end(), frame + 6);
  Store16(kEtherArp, frame + 12);
  uint8_t* const arp = frame + kEthernetBytes;
  Store16(kEthernet, arp);
  Store16(kEtherIpv4, arp + 2);
  arp[4] = 6;
  arp[5] = 4;
  Store16(packet.reply ? kReply : kRequest, arp + 6);
  std::copy(packet.from_mac.begin(), packet.from_mac.end(), arp + 8);
  std::copy(packet.from.begin(), packet.from.end(), arp + 14);
  std::copy(packet.to_mac.begin(), packet.to_mac.end(), arp + 18);
  std::copy(packet.to.begin(), packet.to.end(), arp + 24);
}

}  // namespace harp
}  // namespace taco
