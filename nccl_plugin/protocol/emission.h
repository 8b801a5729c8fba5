// A packet that is to be sent: its fields, and its bytes where they lie.
#ifndef NCCL_PLUGIN_PROTOCOL_EMISSION_H_
#define NCCL_PLUGIN_PROTOCOL_EMISSION_H_

#include <cstdint>

#include "nccl_plugin/protocol/packet.h"

namespace taco {
namespace harp {

// Chunks between the oldest that was not acknowledged and the newest: what a receiver remembers.
inline constexpr uint64_t kChunkWindow = 8192;

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
