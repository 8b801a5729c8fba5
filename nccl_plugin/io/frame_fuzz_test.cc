// Frames from anybody: reading them touches no byte outside, and what is taken is inside.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "nccl_plugin/io/arp.h"
#include "nccl_plugin/io/frame.h"
#include "nccl_plugin/io/nd.h"

namespace {

void Demand(bool promise) {
  if (!promise) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace taco::harp;
  // A block of its own, so that the address sanitizer sees its end.
  const std::unique_ptr<uint8_t[]> frame(new uint8_t[size]);
  for (size_t at = 0; at < size; ++at) frame[at] = data[at];
  // As random bytes are seldom IP: the second time with what leads on.
  for (int turn = 0; turn < 3; ++turn) {
    if (turn != 0 && size > 24) {
      Store16(turn == 1 ? kEtherIpv4 : kEtherIpv6, frame.get() + 12);
      frame[14] = turn == 1 ? 0x45 : 0x60;
      frame[turn == 1 ? 23 : 20] = 17;
    }
    UdpFrame udp;
    if (ParseUdpFrame(frame.get(), size, &udp)) {
      Demand(udp.payload >= frame.get() + 42 && udp.payload + udp.size <= frame.get() + size);
      Demand(udp.from.family == udp.to.family && udp.from.family != Family::kNone);
    }
    ArpPacket arp;
    if (ParseArp(frame.get(), size, &arp)) {
      Demand(size >= kArpFrameBytes);
      uint8_t again[kArpFrameBytes];
      WriteArp(arp, again);
      ArpPacket same;
      Demand(ParseArp(again, sizeof(again), &same));
      Demand(same.from == arp.from && same.to == arp.to && same.from_mac == arp.from_mac);
    }
    if (turn == 2 && size >= kNdFrameBytes) {  // what leads on there: a right checksum, and options
      WriteNd({data[0] % 2 == 0, {2, 1, 1, 1, 1, 1}, {0xfd, 1}, {2}, {0xfd, 2}, {0xfd, 3}},
              frame.get());
      frame[kEthernetBytes + 40 + 25] = data[1];
      const uint16_t before = Load16(frame.get() + kEthernetBytes + 42);
      const auto less = static_cast<uint16_t>(before - data[1] + 1);
      Store16(before < data[1] ? static_cast<uint16_t>(less - 1) : less,
              frame.get() + kEthernetBytes + 42);
    }
    NdPacket nd;
    if (ParseNd(frame.get(), size, &nd)) {
      Demand(size >= kEthernetBytes + 64 && nd.target != Ipv6() && nd.from[0] != 0xff);
      Demand(nd.from == Ipv6() || nd.from_mac != Mac());
    }
  }
  return 0;
}
