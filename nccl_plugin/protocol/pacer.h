// When paths may send again whose windows are below one packet: a timing wheel.
//
// Time is cut into ticks. A path that rests is a bit in the word of the tick at which its rest
// ends, so that putting it there and waking all of a tick take a few instructions, whatever their
// number. While none rests, which is the rule, there is one word to look at. Who rests for longer
// than the wheel goes round is put back when its tick comes.
//
// Pure; times in nanoseconds, from 0.
#ifndef NCCL_PLUGIN_PROTOCOL_PACER_H_
#define NCCL_PLUGIN_PROTOCOL_PACER_H_

#include <algorithm>
#include <array>
#include <cstdint>

#include "nccl_plugin/protocol/packet.h"
#include "nccl_plugin/protocol/sent_window.h"

namespace taco {
namespace harp {

class Pacer {
 public:
  static constexpr int64_t kTick = 1 << 14;  // 16 us: a rest may be so much longer
  static constexpr int kTicks = 64;          // of the wheel

  bool Rests(int path) const { return (resting_ >> path & 1) != 0; }

  // A path that does not rest may not send before `until`.
  void Rest(int path, int64_t until, int64_t now) {
    if (until <= now) return;
    if (resting_ == 0) turned_ = now / kTick;
    resting_ |= Bit(path);
    until_[path] = until;
    Put(path);
  }

  // Wakes those whose time has come.
  void Turn(int64_t now) {
    if (resting_ == 0 || now / kTick <= turned_) return;
    const int64_t end = now / kTick;
    uint64_t due = 0;
    for (int64_t tick = std::max(turned_, end - kTicks) + 1; tick <= end; ++tick) {
      due |= at_[tick % kTicks];
      at_[tick % kTicks] = 0;
      taken_ &= ~Bit(tick % kTicks);
    }
    turned_ = end;
    for (; due != 0; due &= due - 1) {
      const int path = __builtin_ctzll(due);
      if (until_[path] <= now) {
        resting_ &= ~Bit(path);
      } else {
        Put(path);
      }
    }
  }

  // When Turn has something to do; kNever: none rests.
  int64_t Deadline() const {
    if (resting_ == 0) return kNever;
    const int64_t next = turned_ + 1, turn = next % kTicks;
    const uint64_t in_order = turn == 0 ? taken_ : taken_ >> turn | taken_ << (kTicks - turn);
    return (next + __builtin_ctzll(in_order)) * kTick;
  }

 private:
  static uint64_t Bit(int64_t index) { return uint64_t{1} << index; }

  void Put(int path) {
    const int64_t ends = (until_[path] + kTick - 1) / kTick;
    const int64_t tick = std::clamp(ends, turned_ + 1, turned_ + kTicks - 1) % kTicks;
    at_[tick] |= Bit(path);
    taken_ |= Bit(tick);
  }

  uint64_t resting_ = 0;  // a bit a path
  uint64_t taken_ = 0;    // a bit a tick of the wheel at which any wakes
  int64_t turned_ = 0;    // the tick up to which all are awake
  std::array<uint64_t, kTicks> at_{};
  std::array<int64_t, kMaxPaths> until_{};
};

static_assert(kMaxPaths <= 64, "a bit of a word for each path");

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_PROTOCOL_PACER_H_
