// Whatever comes in a datagram: no crash, nothing read beyond it, and what is accepted is within
// its ranges and is written again as the same bytes.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "nccl_plugin/protocol/packet.h"

namespace taco {
namespace harp {
namespace {

void Check(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

size_t Write(const Packet& packet, uint8_t* out) {
  if (packet.header.type == PacketType::kData) return WriteData(packet.header, packet.data, out);
  if (packet.header.type == PacketType::kAck) return WriteAck(packet.header, packet.ack, out);
  return WriteControl(packet.header, out);
}

void Read(const uint8_t* datagram, size_t size, bool checked) {
  Packet packet;
  if (ParsePacket(datagram, size, checked, &packet) != ParseResult::kOk) return;
  uint8_t fields[kAckHeaderBytes + 8 * kMaxAckWords];
  const size_t written = Write(packet, fields);
  const bool is_ack = packet.header.type == PacketType::kAck;
  const size_t bytes = is_ack ? 0 : packet.size;
  Check(written + bytes == size, "all bytes are accounted for");
  std::memcpy(fields + 4, datagram + 4, 4);
  Check(std::memcmp(fields, datagram, written) == 0, "fields are written as they were read");
  if (packet.header.type == PacketType::kData) {
    Check(packet.data.offset + packet.size <= packet.data.length, "bytes within the message");
    Check(packet.data.length <= kMaxMessageBytes, "no larger message");
  }
  if (checked) return;
  SealPacket(fields, written, is_ack ? fields : packet.bytes, bytes);
  Check(std::memcmp(fields, datagram, written) == 0, "the checksum is the same");
}

}  // namespace
}  // namespace harp
}  // namespace taco

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A checksum is hardly ever right by chance: with the right one it is read too.
  taco::harp::Read(data, size, false);
  taco::harp::Read(data, size, true);
  std::vector<uint8_t> sealed(data, data + size);
  if (size >= taco::harp::kHeaderBytes) {
    taco::harp::SealPacket(sealed.data(), taco::harp::kHeaderBytes,
                           sealed.data() + taco::harp::kHeaderBytes,
                           size - taco::harp::kHeaderBytes);
    taco::harp::Read(sealed.data(), size, false);
  }
  return 0;
}
