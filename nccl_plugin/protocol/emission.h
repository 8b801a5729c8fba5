// A packet that is to be sent: its fields, and its bytes where they lie.
#ifndef NCCL_PLUGIN_PROTOCOL_EMISSION_H_
#define NCCL_PLUGIN_PROTOCOL_EMISSION_H_

#include <cstdint>

#include "nccl_plugin/protocol/packet.h"

namespace taco {
namespace harp {

// Chunks between the oldest that was not acknowledged and the newest: what a receiver remembers.
inline constexpr uint64_t kChunkWindow = 8192;

// Whether two pieces of memory have a byte in common.
inline bool Overlap(const void* one, uint64_t one_size, const void* other, uint64_t other_size) {
  const auto a = reinterpret_cast<uintptr_t>(one), b = reinterpret_cast<uintptr_t>(other);
  return a < b + other_size && b < a + one_size;
}

struct Emission {
  uint8_t head[kAckHeaderBytes + 8 * kMaxAckWords];
  uint16_t head_bytes = 0;
  uint16_t path = 0;
  const uint8_t* body = nullptr;
  uint32_t body_bytes = 0;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_PROTOCOL_EMISSION_H_
