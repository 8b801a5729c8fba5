// Packets that nobody outside can read, change or make: AES-256-GCM around another kind of
// PacketIo.
//
//   salt (16)  counter (8)  the packet, encrypted  tag (16)
//
// Everyone of a job has one key. Each sender draws a salt, from which and the key it makes a key of
// its own (HMAC-SHA256), and counts its packets: no two are encrypted with the same key and number.
// A receiver makes the key from the salt that it sees. What does not fit the tag is dropped, and
// counted in Stats::refused; it changes nothing. Packets that are repeated are the protocol's
// matter: it knows what it has.
//
// The cryptography is OpenSSL's, loaded when a key is used, and never otherwise.
#ifndef NCCL_PLUGIN_IO_AEAD_H_
#define NCCL_PLUGIN_IO_AEAD_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "nccl_plugin/io/packet_io.h"

namespace taco {
namespace harp {

using AeadKey = std::array<uint8_t, 32>;

// Bytes that a packet grows by.
inline constexpr size_t kAeadBytes = 16 + 8 + 16;

// 64 hexadecimal digits, with white space around them or none.
std::optional<AeadKey> ParseAeadKey(const std::string& text);

// `io`, with every packet encrypted. Null: `error` is a sentence that names the cause and the
// remedy.
std::unique_ptr<PacketIo> WithAead(std::unique_ptr<PacketIo> io, const AeadKey& key,
                                   std::string* error);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_AEAD_H_
