// What HELLO, WELCOME, REFUSE and CLOSE say, behind their header. Pure; bytes of any origin.
//
//   HELLO    secret (16)  features (4)  chunk (4)  paths (2)  name (1 + up to 63), then zeros up to
//            the size that is asked for: what comes whole, fits on the way
//   WELCOME  the sender's number (8)  features (4)  chunk (4)  places (1), of each: family (1)
//            address (16)  port (2)
//   REFUSE   the sender's number (8)  text (1 + up to 255)
//   CLOSE    text (1 + up to 255): why; empty where all is well
//
// The secret comes from the listener's handle, which travels outside: who does not know it gets no
// answer, and costs no state. The header's connection is the sender's own number in a HELLO, and
// the receiver's in a WELCOME.
#ifndef NCCL_PLUGIN_PROTOCOL_HANDSHAKE_H_
#define NCCL_PLUGIN_PROTOCOL_HANDSHAKE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "nccl_plugin/protocol/packet.h"

namespace taco {
namespace harp {

using Secret = std::array<uint8_t, 16>;

enum Features : uint32_t {
  kFeatureNone = 0,
  kFeatureChecksum = 1,  // packets carry a CRC32C that has to be right
};

struct Hello {
  Secret secret = {};
  uint32_t features = 0;
  uint32_t chunk_bytes = 0;  // of a message in a packet, at most
  uint16_t paths = 0;
  std::string name;  // of the sender's host and process, for logs
};

struct Welcome {
  uint64_t sender = 0;  // the number that the sender said in its HELLO
  uint32_t features = 0;
  uint32_t chunk_bytes = 0;
  // Where data go: one of each interface of the receiver, 1 to kMaxPlaces.
  struct Place {
    uint8_t family = 0;  // 4 or 6
    std::array<uint8_t, 16> address = {};
    uint16_t port = 0;
  };
  std::vector<Place> places;
};

struct Refuse {
  uint64_t sender = 0;
  std::string reason;
};

inline constexpr size_t kMaxPlaces = 4;  // NCCL merges so many interfaces at most
inline constexpr size_t kMaxName = 63;
inline constexpr size_t kMaxReason = 255;

// Read the bytes of a packet of that type; false: they are no such thing.
bool ParseHello(const Packet& packet, Hello* hello);
bool ParseWelcome(const Packet& packet, Welcome* welcome);
bool ParseRefuse(const Packet& packet, Refuse* refuse);
bool ParseClose(const Packet& packet, std::string* reason);

// Write a whole datagram, checksum included, and return its size. `out` has room for kMaxControl
// bytes and a header; for WriteHello for `size` if that is more, which it pads to.
size_t WriteHello(uint64_t connection, const Hello& hello, size_t size, uint8_t* out);
size_t WriteWelcome(uint64_t connection, const Welcome& welcome, uint8_t* out);
size_t WriteRefuse(const Refuse& refuse, uint8_t* out);
size_t WriteClose(uint64_t connection, const std::string& reason, uint8_t* out);

// Whether two secrets are the same, in a time that does not tell where they differ.
bool Same(const Secret& one, const Secret& other);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_PROTOCOL_HANDSHAKE_H_
