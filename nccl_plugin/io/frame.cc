#include "nccl_plugin/io/frame.h"

#include <algorithm>
#include <cstring>

namespace taco {
namespace harp {
namespace {

constexpr uint8_t kProtocolUdp = 17;
constexpr uint8_t kHops = 64;
constexpr uint16_t kDontFragment = 0x4000;
constexpr uint16_t kFragment = 0x3fff;  // more of them, and an offset
constexpr size_t kIp = kEthernetBytes;

uint16_t Fold(uint64_t sum) {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

// Adds up words of 16 bits in this machine's order: the sum, swapped, is that of network order.
// `odd`: the first byte is the second one of a word.
uint64_t SumOf(const uint8_t* bytes, size_t size, bool odd) {
  uint64_t sum = 0;
  size_t at = 0;
  for (; at + 8 <= size; at += 8) {
    uint64_t words;
    std::memcpy(&words, bytes + at, sizeof(words));
    sum += (words & 0xffffffff) + (words >> 32);
  }
  for (; at + 2 <= size; at += 2) {
    uint16_t word;
    std::memcpy(&word, bytes + at, sizeof(word));
    sum += word;
  }
  if (at < size) sum += bytes[at];  // and a zero behind it
  const uint16_t folded = Fold(sum);
  return odd ? static_cast<uint16_t>(folded << 8 | folded >> 8) : folded;
}

// Of bytes in network order.
uint16_t SumOf(const uint8_t* bytes, size_t size) {
  const auto sum = static_cast<uint16_t>(SumOf(bytes, size, false));
  return static_cast<uint16_t>(sum << 8 | sum >> 8);
}

// Finds the UDP datagram of an IPv4 packet: its beginning, and how many bytes there are.
bool ParseIpv4(const uint8_t* ip, size_t size, UdpFrame* frame, const uint8_t** udp,
               size_t* bytes) {
  if (size < 20 + kUdpBytes || ip[0] != 0x45) return false;
  const size_t total = Load16(ip + 2);
  if (total > size || total < 20 + kUdpBytes) return false;
  if ((Load16(ip + 6) & kFragment) != 0 || ip[9] != kProtocolUdp) return false;
  if (SumOf(ip, 20) != 0xffff) return false;
  frame->from.family = frame->to.family = Family::kIpv4;
  std::copy_n(ip + 12, 4, frame->from.address.begin());
  std::copy_n(ip + 16, 4, frame->to.address.begin());
  *udp = ip + 20;
  *bytes = total - 20;
  return true;
}

bool ParseIpv6(const uint8_t* ip, size_t size, UdpFrame* frame, const uint8_t** udp,
               size_t* bytes) {
  if (size < 40 + kUdpBytes || ip[0] >> 4 != 6 || ip[6] != kProtocolUdp) return false;
  const size_t length = Load16(ip + 4);
  if (length > size - 40 || length < kUdpBytes) return false;
  frame->from.family = frame->to.family = Family::kIpv6;
  std::copy_n(ip + 8, 16, frame->from.address.begin());
  std::copy_n(ip + 24, 16, frame->to.address.begin());
  *udp = ip + 40;
  *bytes = length;
  return true;
}

}  // namespace

bool ParseUdpFrame(const uint8_t* bytes, size_t size, UdpFrame* frame) {
  if (size < kEthernetBytes) return false;
  *frame = UdpFrame();
  const uint16_t type = Load16(bytes + 12);
  const uint8_t* udp = nullptr;
  size_t length = 0;
  if (type == kEtherIpv4) {
    if (!ParseIpv4(bytes + kIp, size - kIp, frame, &udp, &length)) return false;
  } else if (type == kEtherIpv6) {
    if (!ParseIpv6(bytes + kIp, size - kIp, frame, &udp, &length)) return false;
  } else {
    return false;
  }
  if (Load16(udp + 4) != length) return false;
  frame->from.port = Load16(udp);
  frame->to.port = Load16(udp + 2);
  frame->payload = udp + kUdpBytes;
  frame->size = static_cast<uint32_t>(length - kUdpBytes);
  return frame->from.port != 0;
}

FrameTemplate MakeFrameTemplate(const Mac& from_mac, const Mac& to_mac, const Endpoint& from,
                                const Endpoint& to) {
  FrameTemplate common;
  uint8_t* const bytes = common.bytes.data();
  uint8_t* const ip = bytes + kIp;
  std::copy(to_mac.begin(), to_mac.end(), bytes);
  std::copy(from_mac.begin(), from_mac.end(), bytes + 6);
  if (from.family == Family::kIpv4) {
    Store16(kEtherIpv4, bytes + 12);
    ip[0] = 0x45;
    Store16(kDontFragment, ip + 6);
    ip[8] = kHops;
    ip[9] = kProtocolUdp;
    std::copy_n(from.address.begin(), 4, ip + 12);
    std::copy_n(to.address.begin(), 4, ip + 16);
    common.sum = SumOf(ip, 20);
  } else {
    Store16(kEtherIpv6, bytes + 12);
    ip[0] = 0x60;
    ip[6] = kProtocolUdp;
    ip[7] = kHops;
    std::copy_n(from.address.begin(), 16, ip + 8);
    std::copy_n(to.address.begin(), 16, ip + 24);
    common.sum = SumOf(ip + 8, 32) + uint32_t{kProtocolUdp};
  }
  common.size = static_cast<uint32_t>(kEthernetBytes + IpBytes(from.family) + kUdpBytes);
  return common;
}

void WriteFrameHeader(const FrameTemplate& common, uint16_t from_port, uint16_t to_port,
                      const uint8_t* head, size_t head_bytes, const uint8_t* body,
                      size_t body_bytes, uint8_t* out) {
  std::memcpy(out, common.bytes.data(), common.size);
  uint8_t* const ip = out + kIp;
  uint8_t* const udp = out + common.size - kUdpBytes;
  const auto length = static_cast<uint16_t>(kUdpBytes + head_bytes + body_bytes);
  Store16(from_port, udp);
  Store16(to_port, udp + 2);
  Store16(length, udp + 4);
  if (ip[0] == 0x45) {
    const auto total = static_cast<uint16_t>(20 + length);
    Store16(total, ip + 2);
    Store16(static_cast<uint16_t>(~Fold(uint64_t{common.sum} + total)), ip + 10);
    return;
  }
  Store16(length, ip + 4);
  const uint64_t payload =
      Fold(SumOf(head, head_bytes, false) + SumOf(body, body_bytes, head_bytes % 2 != 0));
  const uint64_t swapped = static_cast<uint16_t>(payload << 8 | payload >> 8);
  // Once in the pseudo-header, once in UDP's own.
  const uint16_t sum =
      Fold(uint64_t{common.sum} + 2 * uint64_t{length} + from_port + to_port + swapped);
  Store16(sum == 0xffff ? sum : static_cast<uint16_t>(~sum), udp + 6);  // 0 means: none
}

}  // namespace harp
}  // namespace taco
