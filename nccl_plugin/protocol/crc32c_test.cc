#include "nccl_plugin/protocol/crc32c.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace taco {
namespace harp {
namespace {

// The definition, bit by bit.
uint32_t Slow(uint32_t crc, const uint8_t* data, size_t size) {
  uint32_t state = ~crc;
  for (size_t i = 0; i < size; ++i) {
    state ^= data[i];
    for (int bit = 0; bit < 8; ++bit) {
      state = (state >> 1) ^ ((state & 1) != 0 ? 0x82F63B78 : 0);
    }
  }
  return ~state;
}

std::vector<uint8_t> Bytes(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

TEST(Crc32c, KnownValues) {  // RFC 3720, B.4
  std::vector<uint8_t> bytes(32, 0);
  EXPECT_EQ(Crc32c(0, bytes.data(), bytes.size()), 0x8A9136AAu);
  bytes.assign(32, 0xFF);
  EXPECT_EQ(Crc32c(0, bytes.data(), bytes.size()), 0x62A8AB43u);
  for (size_t i = 0; i < 32; ++i) bytes[i] = static_cast<uint8_t>(i);
  EXPECT_EQ(Crc32c(0, bytes.data(), bytes.size()), 0x46DD794Eu);
  EXPECT_EQ(Crc32c(0, nullptr, 0), 0u);
}

TEST(Crc32c, EveryLengthAndAlignmentAsTheDefinition) {
  const std::vector<uint8_t> bytes = Bytes(4600, 1);
  for (size_t size = 0; size < bytes.size() - 8; size += size < 300 ? 1 : 37) {
    const uint8_t* at = bytes.data() + size % 8;
    ASSERT_EQ(Crc32c(0, at, size), Slow(0, at, size)) << size;
  }
}

TEST(Crc32c, Continues) {
  const std::vector<uint8_t> bytes = Bytes(3000, 2);
  const uint32_t whole = Crc32c(0, bytes.data(), bytes.size());
  for (size_t cut = 0; cut <= bytes.size(); cut += 101) {
    const uint32_t first = Crc32c(0, bytes.data(), cut);
    EXPECT_EQ(Crc32c(first, bytes.data() + cut, bytes.size() - cut), whole) << cut;
  }
}

TEST(Crc32c, CopiesWhatItReadsAndNothingElse) {
  const std::vector<uint8_t> bytes = Bytes(4600, 3);
  for (size_t size = 0; size < 4500; size += size < 40 ? 1 : 91) {
    std::vector<uint8_t> to(size + 2, 0xA5);
    EXPECT_EQ(Crc32cCopy(7, to.data() + 1, bytes.data(), size), Slow(7, bytes.data(), size));
    EXPECT_TRUE(std::equal(to.begin() + 1, to.end() - 1, bytes.begin())) << size;
    EXPECT_EQ(to.front(), 0xA5);
    EXPECT_EQ(to.back(), 0xA5);
  }
}

}  // namespace
}  // namespace harp
}  // namespace taco
