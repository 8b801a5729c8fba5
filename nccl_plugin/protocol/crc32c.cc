#include "nccl_plugin/protocol/crc32c.h"

#include <nmmintrin.h>

#include <array>
#include <cstring>

namespace taco {
namespace harp {
namespace {

// The instruction gives a result every cycle and takes three: three runs fill it. A packet of 1500
// bytes is mostly one turn of the longer runs.
constexpr size_t kLong = 448;
constexpr size_t kShort = 64;

constexpr uint32_t kPolynomial = 0x82F63B78;  // Castagnoli's, bits reversed

// What n zero bytes make of a state is linear in the state: one table a byte of it.
using Shift = std::array<std::array<uint32_t, 256>, 4>;

uint32_t ShiftBits(uint32_t state, size_t bytes) {
  for (size_t i = 0; i < 8 * bytes; ++i) {
    state = (state >> 1) ^ ((state & 1) != 0 ? kPolynomial : 0);
  }
  return state;
}

Shift MakeShift(size_t bytes) {
  Shift shift{};
  for (size_t place = 0; place < 4; ++place) {
    for (int bit = 0; bit < 8; ++bit) {
      const uint32_t one = ShiftBits(uint32_t{1} << (8 * place + bit), bytes);
      for (int value = 0; value < 256; ++value) {
        if ((value >> bit & 1) != 0) shift[place][value] ^= one;
      }
    }
  }
  return shift;
}

uint32_t Apply(const Shift& shift, uint64_t state) {
  return shift[0][state & 255] ^ shift[1][state >> 8 & 255] ^ shift[2][state >> 16 & 255] ^
         shift[3][state >> 24 & 255];
}

template <bool kCopy>
inline uint64_t Eight(uint64_t state, uint8_t* to, const uint8_t* from) {
  uint64_t value;
  std::memcpy(&value, from, sizeof(value));
  if (kCopy) std::memcpy(to, &value, sizeof(value));
  return _mm_crc32_u64(state, value);
}

// Three runs of `run` bytes each.
template <bool kCopy>
inline uint64_t Three(uint64_t state, uint8_t* to, const uint8_t* from, size_t run,
                      const Shift& shift) {
  uint64_t second = 0;
  uint64_t third = 0;
  for (size_t at = 0; at < run; at += 8) {
    state = Eight<kCopy>(state, to + at, from + at);
    second = Eight<kCopy>(second, to + run + at, from + run + at);
    third = Eight<kCopy>(third, to + 2 * run + at, from + 2 * run + at);
  }
  return Apply(shift, Apply(shift, state) ^ second) ^ third;
}

template <bool kCopy>
uint32_t Run(uint32_t crc, uint8_t* to, const uint8_t* from, size_t size) {
  static const Shift shift_long = MakeShift(kLong);
  static const Shift shift_short = MakeShift(kShort);
  uint64_t state = ~crc;
  const auto advance = [&](size_t bytes) {
    if (kCopy) to += bytes;
    from += bytes;
    size -= bytes;
  };
  for (; size >= 3 * kLong; advance(3 * kLong)) {
    state = Three<kCopy>(state, to, from, kLong, shift_long);
  }
  for (; size >= 3 * kShort; advance(3 * kShort)) {
    state = Three<kCopy>(state, to, from, kShort, shift_short);
  }
  for (; size >= 8; advance(8)) state = Eight<kCopy>(state, to, from);
  for (; size > 0; advance(1)) {
    if (kCopy) *to = *from;
    state = _mm_crc32_u8(static_cast<uint32_t>(state), *from);
  }
  return ~static_cast<uint32_t>(state);
}

}  // namespace

uint32_t Crc32c(uint32_t crc, const void* data, size_t size) {
  return Run<false>(crc, nullptr, static_cast<const uint8_t*>(data), size);
}

uint32_t Crc32cCopy(uint32_t crc, void* to, const void* from, size_t size) {
  return Run<true>(crc, static_cast<uint8_t*>(to), static_cast<const uint8_t*>(from), size);
}

}  // namespace harp
}  // namespace taco
