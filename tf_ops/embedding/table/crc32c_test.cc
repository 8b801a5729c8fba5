#include "tf_ops/embedding/table/crc32c.h"

#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace taco {
namespace embedding {
namespace {

// The definition, a bit at a time.
uint32_t ReferenceCrc32c(const uint8_t* data, size_t size) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < size; ++i) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78u : 0u);
  }
  return ~crc;
}

TEST(Crc32cTest, GivesThePublishedCheckValue) {
  EXPECT_EQ(Crc32c(0, "123456789", 9), 0xE3069283u);
  EXPECT_EQ(Crc32c(0, "", 0), 0u);
  EXPECT_EQ(Crc32c(0, std::vector<uint8_t>(32, 0).data(), 32), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(Crc32c(0, std::vector<uint8_t>(32, 255).data(), 32), 0x62A8AB43u);
}

TEST(Crc32cTest, AgreesWithTheDefinitionForEveryLengthAndAlignment) {
  std::mt19937 random(1);
  std::vector<uint8_t> bytes(20000);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  for (size_t size = 0; size < 100; ++size) {
    const size_t at = size % 9;
    EXPECT_EQ(Crc32c(0, bytes.data() + at, size), ReferenceCrc32c(bytes.data() + at, size)) << size;
  }
  for (size_t size : {3071, 3072, 3073, 6143, 6144, 6145, 9999, 19990}) {
    for (size_t at : {0, 1, 7}) {
      EXPECT_EQ(Crc32c(0, bytes.data() + at, size), ReferenceCrc32c(bytes.data() + at, size))
          << size << " bytes at " << at;
    }
  }
}

TEST(Crc32cTest, ContinuesWhereAnEarlierCallStopped) {
  std::vector<uint8_t> bytes(8000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 31);
  const uint32_t whole = Crc32c(0, bytes.data(), bytes.size());
  for (size_t cut : {0, 1, 9, 3000, 4096, 7999, 8000}) {
    const uint32_t head = Crc32c(0, bytes.data(), cut);
    EXPECT_EQ(Crc32c(head, bytes.data() + cut, bytes.size() - cut), whole) << cut;
  }
}

}  // namespace
}  // namespace embedding
}  // namespace taco
