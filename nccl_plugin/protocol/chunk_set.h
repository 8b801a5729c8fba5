// Which chunks came: every one below a base, and some of the kChunkWindow behind it.
#ifndef NCCL_PLUGIN_PROTOCOL_CHUNK_SET_H_
#define NCCL_PLUGIN_PROTOCOL_CHUNK_SET_H_

#include <array>
#include <cstdint>

#include "nccl_plugin/protocol/emission.h"
#include "nccl_plugin/protocol/receive_window.h"

namespace taco {
namespace harp {

class ChunkSet {
 public:
  enum class Arrival {
    kNew,
    kDuplicate,
    kBeyond,  // no sender that keeps to the window has sent it yet
  };

  // Notes a chunk, named by the low bits of its number.
  Arrival Note(uint32_t low) {
    const uint64_t number = Expand(low, base_);
    // Far below a small base the low bits wrap to what looks far beyond.
    if (number < base_) return Arrival::kDuplicate;
    if (number >= base_ + kChunkWindow) return Arrival::kBeyond;
    const uint64_t bit = uint64_t{1} << number % 64;
    uint64_t& word = words_[number % kChunkWindow / 64];
    if ((word & bit) != 0) return Arrival::kDuplicate;
    word |= bit;
    Advance();
    return Arrival::kNew;
  }

  uint64_t base() const { return base_; }

 private:
  void Advance() {
    for (;;) {
      uint64_t& word = words_[base_ % kChunkWindow / 64];
      const uint64_t bit = uint64_t{1} << base_ % 64;
      if ((word & bit) == 0) return;
      word &= ~bit;
      ++base_;
    }
  }

  std::array<uint64_t, kChunkWindow / 64> words_ = {};
  uint64_t base_ = 0;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_PROTOCOL_CHUNK_SET_H_
