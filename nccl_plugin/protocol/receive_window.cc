#include "nccl_plugin/protocol/receive_window.h"

#include <algorithm>

namespace taco {
namespace harp {

uint64_t Expand(uint32_t low, uint64_t near) {
  const auto distance = static_cast<int32_t>(low - static_cast<uint32_t>(near));
  if (distance < 0 && near < uint64_t{0} - static_cast<int64_t>(distance)) return low;
  return near + static_cast<int64_t>(distance);
}

ReceiveWindow::Arrival ReceiveWindow::Note(uint32_t low) {
  if (empty_) {
    empty_ = false;
    highest_ = low;
    ring_.fill(0);
    ring_[Place(highest_) / 64] |= Bit(highest_);
    return Arrival::kNew;
  }
  const uint64_t number = Expand(low, highest_);
  if (number > highest_) {
    MoveTo(number);
  } else if (highest_ - number >= kPackets) {
    return Arrival::kOld;
  }
  uint64_t& word = ring_[Place(number) / 64];
  const uint64_t bit = Bit(number);
  if ((word & bit) != 0) return Arrival::kDuplicate;
  word |= bit;
  return Arrival::kNew;
}

void ReceiveWindow::MoveTo(uint64_t number) {
  if (number - highest_ >= kPackets) {
    ring_.fill(0);
  } else {
    uint64_t at = highest_ + 1;
    for (; at <= number && Place(at) % 64 != 63; ++at) Clear(at);
    for (; at + 63 <= number; at += 64) ring_[Place(at) / 64] = 0;
    for (; at <= number; ++at) Clear(at);
  }
  highest_ = number;
}

// The bits of `number`, number - 1, ... number - 63.
uint64_t ReceiveWindow::SixtyFour(uint64_t number) const {
  const uint64_t place = Place(number);
  const uint64_t word = place / 64;
  const uint64_t shift = place % 64;
  if (shift == 0) return ring_[word];
  return ring_[word] >> shift | ring_[(word + 1) % kWords] << (64 - shift);
}

// How many numbers below the highest the window still speaks of.
uint64_t ReceiveWindow::Known() const { return std::min(highest_, kPackets - 1); }

void ReceiveWindow::Describe(AckFields* ack) const {
  ack->highest = static_cast<uint32_t>(highest_);
  const uint64_t known = Known();
  uint64_t run = 0;
  while (run < known) {
    const uint64_t missing = ~SixtyFour(highest_ - 1 - run);
    const uint64_t ones = missing == 0 ? 64 : static_cast<uint64_t>(__builtin_ctzll(missing));
    run += ones;
    if (ones < 64) break;
  }
  run = std::min(run, known);
  ack->run = static_cast<uint16_t>(run);
  ack->words = 0;
  ack->bitmap.fill(0);
  for (uint64_t below = run + 2, word = 0; below <= known; below += 64, ++word) {
    const uint64_t left = known - below + 1;
    uint64_t bits = SixtyFour(highest_ - below);
    if (left < 64) bits &= (uint64_t{1} << left) - 1;
    ack->bitmap[word] = bits;
    if (bits != 0) ack->words = static_cast<uint8_t>(word + 1);
  }
}

bool Acknowledges(const AckFields& ack, uint32_t number) {
  const uint32_t below = ack.highest - number;
  if (below <= ack.run) return true;
  if (below < uint32_t{ack.run} + 2) return false;
  const uint32_t bit = below - ack.run - 2;
  return bit / 64 < ack.words && (ack.bitmap[bit / 64] >> bit % 64 & 1) != 0;
}

}  // namespace harp
}  // namespace taco
