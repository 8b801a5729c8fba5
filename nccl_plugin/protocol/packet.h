// Start here. What stands in a datagram: one packet, its bytes checked and its fields in range.
//
//   0        1        2            4                8                      16        20        24
//   | v|type | flags  | path       | CRC32C         | connection           | number  | time    |
//
//   DATA     message (4)  offset (6)  length of the message (6)  tag (4)  chunk (4), then bytes of
//            the message
//   ACK      highest (4)  echo (4)  delay (2)  queue (2)  run (2)  words (1)  0 (1)  credit (8)
//            posted (4)  0 (4), then `words` times 8 bytes: which packets came
//   others   up to 1,024 bytes, which the handshake gives a meaning
//
// Numbers are little-endian; nothing needs to be aligned. The CRC is over the whole datagram with
// its own four bytes as zeros. A packet names the connection by the number that the receiver has
// given it, so nothing is looked up by an address that anybody can write.
#ifndef NCCL_PLUGIN_PROTOCOL_PACKET_H_
#define NCCL_PLUGIN_PROTOCOL_PACKET_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace taco {
namespace harp {

inline constexpr int kVersion = 1;
inline constexpr size_t kHeaderBytes = 24;
inline constexpr size_t kDataHeaderBytes = kHeaderBytes + 24;
inline constexpr size_t kAckHeaderBytes = kHeaderBytes + 32;
inline constexpr size_t kMaxAckWords = 16;  // 1,024 packets
inline constexpr size_t kMaxControlBytes = 1024;
inline constexpr uint16_t kMaxPaths = 64;
inline constexpr size_t kMaxPacketBytes = 65507;  // of a UDP datagram over IPv4
inline constexpr uint64_t kMaxMessageBytes = (uint64_t{1} << 48) - 1;

enum class PacketType : uint8_t {
  kHello = 1,
  kRetry = 2,
  kWelcome = 3,
  kRefuse = 4,
  kData = 5,
  kAck = 6,
  kProbe = 7,
  kClose = 8,
};

enum PacketFlags : uint8_t {
  kFlagLast = 1,      // the last bytes of a message
  kFlagAckNow = 2,    // the sender waits for an acknowledgement
  kFlagSmall = 4,     // of the lane of small messages
  kFlagNoneCame = 8,  // an ACK that speaks of credit alone: no packet came on the path
};
inline constexpr uint8_t kKnownFlags = kFlagLast | kFlagAckNow | kFlagSmall | kFlagNoneCame;

struct PacketHeader {
  PacketType type = PacketType::kData;
  uint8_t flags = 0;
  uint16_t path = 0;        // index of the sender's source port
  uint64_t connection = 0;  // the receiver's number of it; 0: none yet
  uint32_t number = 0;      // of the packet on its path, its low bits
  uint32_t time_us = 0;     // the sender's clock, its low bits
};

struct DataFields {
  uint32_t message = 0;  // in the order of the sends, its low bits
  uint64_t offset = 0;   // of the first byte, in the message
  uint64_t length = 0;   // of the whole message
  int32_t tag = 0;       // of the message, as its sender named it
  uint32_t chunk = 0;    // which piece of all that is sent, its low bits; the same when sent again
};

// Says of one path which of its packets came. Bit i of word w is packet highest - run - 2 - 64 w -
// i: the packet before those is missing, or there would be a longer run.
struct AckFields {
  uint32_t highest = 0;   // largest number that came
  uint32_t echo_us = 0;   // its time_us
  uint16_t delay_us = 0;  // between its arrival and this acknowledgement; 65535: that or more
  uint16_t queue_us = 0;  // how long it waited at the receiver before it was read
  uint16_t run = 0;       // how many came directly below highest
  uint8_t words = 0;
  uint64_t credit = 0;  // bytes that may be on their way, cut into packets and not acknowledged
  uint32_t posted = 0;  // messages that it has buffers for, counted from the first, low bits
  std::array<uint64_t, kMaxAckWords> bitmap = {};
};

struct Packet {
  PacketHeader header;
  DataFields data;                 // of kData
  AckFields ack;                   // of kAck
  const uint8_t* bytes = nullptr;  // what follows the fields, in the datagram
  size_t size = 0;
};

enum class ParseResult {
  kOk,
  kShort,     // smaller than its type needs
  kVersion,   // of another version: only the handshake may answer
  kType,      // no type, flag or form of this version
  kRange,     // bytes beyond the message's length, or more than its type may have
  kChecksum,  // changed on the way
};

// Reads a datagram of any origin. Costs one pass for the checksum, unless `checked` says that the
// interface or the caller has made it. `packet->bytes` points into the datagram.
ParseResult ParsePacket(const uint8_t* datagram, size_t size, bool checked, Packet* packet);

// Write the fields before a packet's bytes; `out` has room for kDataHeaderBytes, or for
// kAckHeaderBytes + 8 * ack.words, or kHeaderBytes. Return how many bytes they took. The checksum
// is left open: see SealPacket.
size_t WriteData(const PacketHeader& header, const DataFields& data, uint8_t* out);
size_t WriteAck(const PacketHeader& header, const AckFields& ack, uint8_t* out);
size_t WriteControl(const PacketHeader& header, uint8_t* out);

// Puts the checksum into a packet whose fields end at `fields` and whose other bytes lie elsewhere.
void SealPacket(uint8_t* out, size_t fields, const void* bytes, size_t size);

// Text for a log, such as "its checksum is wrong".
const char* ToText(ParseResult result);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_PROTOCOL_PACKET_H_
