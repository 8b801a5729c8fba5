// Which packets of one path came, as far back as anybody may still ask.
//
//   numbers   ... highest-1023 .................... highest-1  highest
//   ring      1,024 bits; a number's place counts down, so that an acknowledgement, which counts
//             down from the highest too, is read out of it a word at a time
//
// A packet number is never sent twice: lost bytes go again under a new number. So what falls out of
// the window was given up by the sender long before, and a gap below the highest number is a loss
// or a delay, never a thing to wait for.
#ifndef NCCL_PLUGIN_PROTOCOL_RECEIVE_WINDOW_H_
#define NCCL_PLUGIN_PROTOCOL_RECEIVE_WINDOW_H_

#include <array>
#include <cstdint>

#include "nccl_plugin/protocol/packet.h"

namespace taco {
namespace harp {

// The 64-bit number whose low bits are `low` and which is closest to `near`; not below 0.
uint64_t Expand(uint32_t low, uint64_t near);

class ReceiveWindow {
 public:
  static constexpr uint64_t kPackets = 64 * kMaxAckWords;

  enum class Arrival {
    kNew,
    kDuplicate,  // came before
    kOld,        // below the window: nobody can say
  };

  // Notes a packet. Costs one bit, and as many words as the highest number moves on.
  Arrival Note(uint32_t low);

  bool empty() const { return empty_; }
  uint64_t highest() const { return highest_; }  // unless empty

  // Fills highest, run, words and bitmap of an acknowledgement; not before a packet came. Words of
  // zeros at the end are left out.
  void Describe(AckFields* ack) const;

 private:
  static constexpr uint64_t kWords = kMaxAckWords;

  static uint64_t Place(uint64_t number) { return kPackets - 1 - number % kPackets; }
  uint64_t SixtyFour(uint64_t number) const;
  void Clear(uint64_t number) { ring_[Place(number) / 64] &= ~Bit(number); }
  static uint64_t Bit(uint64_t number) { return uint64_t{1} << Place(number) % 64; }
  void MoveTo(uint64_t number);
  uint64_t Known() const;

  std::array<uint64_t, kWords> ring_ = {};
  uint64_t highest_ = 0;
  bool empty_ = true;
};

// Whether an acknowledgement says that a packet came. `number` and `ack.highest` are low bits.
bool Acknowledges(const AckFields& ack, uint32_t number);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_PROTOCOL_RECEIVE_WINDOW_H_
