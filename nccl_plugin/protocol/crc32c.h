// CRC32C (Castagnoli), the checksum of every packet.
#ifndef NCCL_PLUGIN_PROTOCOL_CRC32C_H_
#define NCCL_PLUGIN_PROTOCOL_CRC32C_H_

#include <cstddef>
#include <cstdint>

namespace taco {
namespace harp {

// CRC32C of `size` bytes, continuing from `crc`, that of the bytes before them (0 to start).
// Uses the SSE4.2 instruction on three runs of the data at once.
uint32_t Crc32c(uint32_t crc, const void* data, size_t size);

// The same, and copies the bytes on the way: they are read once. The ranges do not overlap.
uint32_t Crc32cCopy(uint32_t crc, void* to, const void* from, size_t size);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_PROTOCOL_CRC32C_H_
