// The crc32 instruction takes 3 cycles and one can start every cycle, so three independent runs
// keep it busy. To join them, the register of an earlier run is moved past the bytes of the later
// one, as if as many zero bytes had followed: a linear map over GF(2), kept as four tables of 256
// words.
#include "tf_ops/embedding/table/crc32c.h"

#include <nmmintrin.h>

#include <array>
#include <cstring>

namespace taco {
namespace embedding {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78u;  // reflected
constexpr size_t kRun = 1024;                  // bytes of one of three runs; a power of two

using Matrix = std::array<uint32_t, 32>;  // column b: where bit b goes

constexpr uint32_t Times(const Matrix& matrix, uint32_t vector) {
  uint32_t sum = 0;
  for (int b = 0; b < 32; ++b) {
    if (vector >> b & 1u) sum ^= matrix[b];
  }
  return sum;
}

constexpr Matrix Square(const Matrix& matrix) {
  Matrix square{};
  for (int b = 0; b < 32; ++b) square[b] = Times(matrix, matrix[b]);
  return square;
}

// The map of kRun zero bytes: that of one zero bit, squared until it is that of 8 kRun of them.
constexpr Matrix RunOfZeros() {
  Matrix matrix{};
  matrix[0] = kPolynomial;
  for (int b = 1; b < 32; ++b) matrix[b] = uint32_t{1} << (b - 1);
  for (size_t bits = 1; bits < 8 * kRun; bits *= 2) matrix = Square(matrix);
  return matrix;
}

struct ShiftTables {
  uint32_t of_byte[4][256];
};

constexpr ShiftTables MakeShiftTables() {
  const Matrix matrix = RunOfZeros();
  ShiftTables tables{};
  for (int byte = 0; byte < 4; ++byte) {
    for (uint32_t value = 0; value < 256; ++value) {
      tables.of_byte[byte][value] = Times(matrix, value << (8 * byte));
    }
  }
  return tables;
}

constexpr ShiftTables kShift = MakeShiftTables();

uint64_t PastOneRun(uint64_t crc) {
  return kShift.of_byte[0][crc & 0xFF] ^ kShift.of_byte[1][crc >> 8 & 0xFF] ^
         kShift.of_byte[2][crc >> 16 & 0xFF] ^ kShift.of_byte[3][crc >> 24 & 0xFF];
}

uint64_t Word(const uint8_t* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

}  // namespace

uint32_t Crc32c(uint32_t crc, const void* data, size_t size) {
  const uint8_t* at = static_cast<const uint8_t*>(data);
  uint64_t first = ~crc;
  for (; size >= 3 * kRun; at += 3 * kRun, size -= 3 * kRun) {
    uint64_t second = 0, third = 0;
    for (size_t i = 0; i < kRun; i += 8) {
      first = _mm_crc32_u64(first, Word(at + i));
      second = _mm_crc32_u64(second, Word(at + kRun + i));
      third = _mm_crc32_u64(third, Word(at + 2 * kRun + i));
    }
    first = PastOneRun(PastOneRun(first) ^ second) ^ third;
  }
  for (; size >= 8; at += 8, size -= 8) first = _mm_crc32_u64(first, Word(at));
  uint32_t rest = static_cast<uint32_t>(first);
  for (; size > 0; ++at, --size) rest = _mm_crc32_u8(rest, *at);
  return ~rest;
}

}  // namespace embedding
}  // namespace taco
