#include "nccl_plugin/protocol/packet.h"

#include <cstring>

#include "nccl_plugin/protocol/crc32c.h"

namespace taco {
namespace harp {
namespace {

constexpr size_t kChecksumAt = 4;

// Little-endian, of N bytes; the compiler makes one load or store of it.
template <size_t N>
uint64_t Load(const uint8_t* at) {
  uint64_t value = 0;
  std::memcpy(&value, at, N);
  return value;
}

template <size_t N>
void Store(uint8_t* at, uint64_t value) {
  std::memcpy(at, &value, N);
}

// Of a datagram in two parts, its own field as zeros.
uint32_t Checksum(const uint8_t* fields, size_t fields_size, const void* bytes, size_t size) {
  static constexpr uint8_t kZeros[4] = {};
  uint32_t crc = Crc32c(0, fields, kChecksumAt);
  crc = Crc32c(crc, kZeros, sizeof(kZeros));
  const size_t after = kChecksumAt + sizeof(kZeros);
  crc = Crc32c(crc, fields + after, fields_size - after);
  return Crc32c(crc, bytes, size);
}

ParseResult ParseData(const uint8_t* datagram, size_t size, Packet* packet) {
  if (size < kDataHeaderBytes) return ParseResult::kShort;
  DataFields& data = packet->data;
  data.message = static_cast<uint32_t>(Load<4>(datagram + 24));
  data.offset = Load<6>(datagram + 28);
  data.length = Load<6>(datagram + 34);
  data.tag = static_cast<int32_t>(Load<4>(datagram + 40));
  data.chunk = static_cast<uint32_t>(Load<4>(datagram + 44));
  packet->bytes = datagram + kDataHeaderBytes;
  packet->size = size - kDataHeaderBytes;
  // Neither can the sum overflow, of 48 bits and 16.
  if (data.offset + packet->size > data.length) return ParseResult::kRange;
  // Only an empty message has an empty packet.
  if (packet->size == 0 && data.length != 0) return ParseResult::kRange;
  const bool last = data.offset + packet->size == data.length;
  if (last != ((packet->header.flags & kFlagLast) != 0)) return ParseResult::kRange;
  return ParseResult::kOk;
}

ParseResult ParseAck(const uint8_t* datagram, size_t size, Packet* packet) {
  if (size < kAckHeaderBytes) return ParseResult::kShort;
  AckFields& ack = packet->ack;
  ack.highest = static_cast<uint32_t>(Load<4>(datagram + 24));
  ack.echo_us = static_cast<uint32_t>(Load<4>(datagram + 28));
  ack.delay_us = static_cast<uint16_t>(Load<2>(datagram + 32));
  ack.queue_us = static_cast<uint16_t>(Load<2>(datagram + 34));
  ack.run = static_cast<uint16_t>(Load<2>(datagram + 36));
  ack.words = datagram[38];
  ack.credit = Load<8>(datagram + 40);
  ack.posted = static_cast<uint32_t>(Load<4>(datagram + 48));
  if (ack.words > kMaxAckWords || datagram[39] != 0) return ParseResult::kType;
  if (Load<4>(datagram + 52) != 0) return ParseResult::kType;
  if (size != kAckHeaderBytes + 8 * size_t{ack.words}) return ParseResult::kRange;
  for (size_t word = 0; word < ack.words; ++word) {
    ack.bitmap[word] = Load<8>(datagram + kAckHeaderBytes + 8 * word);
  }
  return ParseResult::kOk;
}

ParseResult ParseFields(const uint8_t* datagram, size_t size, Packet* packet) {
  packet->bytes = datagram + kHeaderBytes;
  packet->size = size - kHeaderBytes;
  switch (packet->header.type) {
    case PacketType::kData:
      return ParseData(datagram, size, packet);
    case PacketType::kAck:
      return ParseAck(datagram, size, packet);
    case PacketType::kHello:  // padded to the size of the largest packet, to find the MTU
      return ParseResult::kOk;
    case PacketType::kRetry:
    case PacketType::kWelcome:
    case PacketType::kRefuse:
    case PacketType::kProbe:
    case PacketType::kClose:
      return packet->size <= kMaxControlBytes ? ParseResult::kOk : ParseResult::kRange;
  }
  return ParseResult::kType;
}

void WriteHeader(const PacketHeader& header, uint8_t* out) {
  out[0] = static_cast<uint8_t>(kVersion << 4 | static_cast<int>(header.type));
  out[1] = header.flags;
  Store<2>(out + 2, header.path);
  Store<4>(out + kChecksumAt, 0);
  Store<8>(out + 8, header.connection);
  Store<4>(out + 16, header.number);
  Store<4>(out + 20, header.time_us);
}

}  // namespace

ParseResult ParsePacket(const uint8_t* datagram, size_t size, bool checked, Packet* packet) {
  if (size < kHeaderBytes) return ParseResult::kShort;
  if (size > kMaxPacketBytes) return ParseResult::kRange;
  if (datagram[0] >> 4 != kVersion) return ParseResult::kVersion;
  PacketHeader& header = packet->header;
  header.type = static_cast<PacketType>(datagram[0] & 15);
  header.flags = datagram[1];
  header.path = static_cast<uint16_t>(Load<2>(datagram + 2));
  header.connection = Load<8>(datagram + 8);
  header.number = static_cast<uint32_t>(Load<4>(datagram + 16));
  header.time_us = static_cast<uint32_t>(Load<4>(datagram + 20));
  if ((header.flags & ~kKnownFlags) != 0) return ParseResult::kType;
  const ParseResult result = ParseFields(datagram, size, packet);
  if (result != ParseResult::kOk || checked) return result;
  const uint32_t crc =
      Checksum(datagram, kHeaderBytes, datagram + kHeaderBytes, size - kHeaderBytes);
  return crc == Load<4>(datagram + kChecksumAt) ? ParseResult::kOk : ParseResult::kChecksum;
}

size_t WriteData(const PacketHeader& header, const DataFields& data, uint8_t* out) {
  WriteHeader(header, out);
  Store<4>(out + 24, data.message);
  Store<6>(out + 28, data.offset);
  Store<6>(out + 34, data.length);
  Store<4>(out + 40, static_cast<uint32_t>(data.tag));
  Store<4>(out + 44, data.chunk);
  return kDataHeaderBytes;
}

size_t WriteAck(const PacketHeader& header, const AckFields& ack, uint8_t* out) {
  WriteHeader(header, out);
  Store<4>(out + 24, ack.highest);
  Store<4>(out + 28, ack.echo_us);
  Store<2>(out + 32, ack.delay_us);
  Store<2>(out + 34, ack.queue_us);
  Store<2>(out + 36, ack.run);
  out[38] = ack.words;
  out[39] = 0;
  Store<8>(out + 40, ack.credit);
  Store<4>(out + 48, ack.posted);
  Store<4>(out + 52, 0);
  for (size_t word = 0; word < ack.words; ++word) {
    Store<8>(out + kAckHeaderBytes + 8 * word, ack.bitmap[word]);
  }
  return kAckHeaderBytes + 8 * size_t{ack.words};
}

size_t WriteControl(const PacketHeader& header, uint8_t* out) {
  WriteHeader(header, out);
  return kHeaderBytes;
}

void SealPacket(uint8_t* out, size_t fields, const void* bytes, size_t size) {
  Store<4>(out + kChecksumAt, Checksum(out, fields, bytes, size));
}

const char* ToText(ParseResult result) {
  switch (result) {
    case ParseResult::kOk:
      return "it is well formed";
    case ParseResult::kShort:
      return "it is too short";
    case ParseResult::kVersion:
      return "it is of another version of HARP";
    case ParseResult::kType:
      return "it has a type, flag or form that this version does not know";
    case ParseResult::kRange:
      return "its sizes contradict each other";
    case ParseResult::kChecksum:
      return "its checksum is wrong";
  }
  return "unknown";
}

}  // namespace harp
}  // namespace taco
