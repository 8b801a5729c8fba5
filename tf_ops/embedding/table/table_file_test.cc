#include "tf_ops/embedding/table/table_file.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>

#include "gtest/gtest.h"
#include "tf_ops/embedding/table/table_file_test_util.h"

namespace taco {
namespace embedding {
namespace {

constexpr size_t kFixed = 92, kCrc = 4, kBlockHeader = 12, kFooter = 28;

size_t HeaderBytes(const TableFileInfo& info) { return kFixed + info.table_name.size() + kCrc; }

Bytes Written(const TableFileInfo& info) {
  MemorySink sink;
  const Status status = WriteTableFile(info, MakeRows(info.layout, info.rows), 7, &sink);
  EXPECT_TRUE(status.ok()) << status.message();
  return sink.bytes;
}

void ExpectRefused(const Bytes& bytes, const std::string& what) {
  const Status status = ReadTableFile(bytes);
  EXPECT_FALSE(status.ok()) << what;
  EXPECT_NE(status.message().find("table.bin"), std::string::npos) << status.message();
}

class RoundTripTest : public testing::TestWithParam<std::tuple<OptimizerKind, ValueType, int>> {};

TEST_P(RoundTripTest, GivesBackEveryRowAndField) {
  const auto [kind, type, dim] = GetParam();
  TableFileInfo info = MakeInfo(kind, type, dim, 0);
  std::vector<int64_t> counts = {0, 1, 100};
  if (dim == 4096) {  // around the ends of blocks
    const int64_t full = static_cast<int64_t>(kMaxBlockBytes / info.layout.stride);
    counts = {full - 1, full, full + 1, 2 * full + 5};
  }
  for (int64_t rows : counts) {
    info.rows = rows;
    const Bytes in = MakeRows(info.layout, rows);
    MemorySink sink;
    uint32_t written_digest = 0;
    ASSERT_TRUE(WriteTableFile(info, in, 30, &sink, &written_digest).ok());
    EXPECT_LE(sink.largest, kMaxBlockBytes);

    MemorySource source(sink.bytes);
    TableFileInfo out_info;
    Bytes out;
    uint32_t digest = 0;
    const Status status = ReadTableFile(&source, &out_info, &out, &digest);
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_LE(source.largest, kMaxBlockBytes);
    EXPECT_TRUE(out == in);
    EXPECT_EQ(digest, written_digest);
    EXPECT_EQ(out_info.table_name, info.table_name);
    EXPECT_EQ(out_info.layout, info.layout);
    EXPECT_EQ(out_info.layout.stride, info.layout.stride);
    EXPECT_EQ(out_info.optimizer.kind, kind);
    EXPECT_EQ(out_info.optimizer.flags, info.optimizer.flags);
    EXPECT_EQ(out_info.optimizer.slot_init[0], 0.125f);
    EXPECT_EQ(out_info.initializer.kind, info.initializer.kind);
    EXPECT_EQ(out_info.initializer.a, info.initializer.a);
    EXPECT_EQ(out_info.initializer.b, info.initializer.b);
    EXPECT_EQ(out_info.initializer.seed, 42u);
    EXPECT_EQ(out_info.rows, rows);
  }
}

INSTANTIATE_TEST_SUITE_P(All, RoundTripTest,
                         testing::Combine(testing::Values(OptimizerKind::kNone,
                                                          OptimizerKind::kAdam,
                                                          OptimizerKind::kSparseAdam),
                                          testing::Values(ValueType::kFloat32, ValueType::kBFloat16,
                                                          ValueType::kFloat16),
                                          testing::Values(5, 4096)));

TEST(TableFileTest, DoesNotDependOnHowRowsAreHandedOver) {
  const TableFileInfo info = MakeInfo(OptimizerKind::kAdam, ValueType::kFloat32, 64, 12000);
  const Bytes rows = MakeRows(info.layout, info.rows);
  MemorySink whole, single, odd;
  ASSERT_TRUE(WriteTableFile(info, rows, info.rows, &whole).ok());
  ASSERT_TRUE(WriteTableFile(info, rows, 1, &single).ok());
  ASSERT_TRUE(WriteTableFile(info, rows, 5003, &odd).ok());
  EXPECT_TRUE(whole.bytes == single.bytes);
  EXPECT_TRUE(whole.bytes == odd.bytes);
}

// The format is a promise: these bytes must stay readable, and mean the same.
TEST(TableFileTest, LiesInTheFileAsDocumented) {
  TableFileInfo info = MakeInfo(OptimizerKind::kSparseAdam, ValueType::kBFloat16, 3, 2);
  const Bytes bytes = Written(info);
  const size_t stride = 56;  // 16 + 6 (padded to 8) + 2 * 3 * 4 + 4 = 52, padded to 8
  ASSERT_EQ(info.layout.stride, stride);
  ASSERT_EQ(bytes.size(), HeaderBytes(info) + kBlockHeader + 2 * stride + kFooter);
  const auto at = [&](size_t offset) {
    uint32_t word;
    std::memcpy(&word, bytes.data() + offset, 4);
    return word;
  };
  EXPECT_EQ(std::string(bytes.begin(), bytes.begin() + 8), "\x89TACOEMB");
  EXPECT_EQ(at(8), 1u);              // format version
  EXPECT_EQ(at(12), 92u + 9u + 4u);  // header bytes
  EXPECT_EQ(at(16), 3u);             // dim
  EXPECT_EQ(at(20), 1u);             // bfloat16
  EXPECT_EQ(at(24), 2u);             // slots
  EXPECT_EQ(at(28), 1u);             // scalars
  EXPECT_EQ(at(32), stride);
  EXPECT_EQ(at(36), 5u);           // SparseAdam
  EXPECT_EQ(at(40), 0u);           // flags
  EXPECT_EQ(at(44), 0x3E000000u);  // 0.125f
  EXPECT_EQ(at(56), 2u);           // uniform
  EXPECT_EQ(at(72), 42u);          // seed
  EXPECT_EQ(at(80), 2u);           // rows
  EXPECT_EQ(at(88), 9u);           // bytes of the name
  EXPECT_EQ(std::string(bytes.begin() + 92, bytes.begin() + 101), "user/item");
  const size_t block = HeaderBytes(info);
  EXPECT_EQ(at(block), 2u);
  EXPECT_EQ(at(block + 4), 2 * stride);
  const size_t footer = block + kBlockHeader + 2 * stride;
  EXPECT_EQ(at(footer), 0u);
  EXPECT_EQ(at(footer + 8), 2u);   // rows
  EXPECT_EQ(at(footer + 16), 1u);  // blocks
  EXPECT_EQ(Crc32c(0, bytes.data(), bytes.size()), 0xB59363B1u);
}

TEST(TableFileTest, RefusesEveryFlippedBit) {
  for (ValueType type : {ValueType::kFloat32, ValueType::kFloat16}) {
    const Bytes good = Written(MakeInfo(OptimizerKind::kMomentum, type, 2, 3));
    ASSERT_TRUE(ReadTableFile(good).ok());
    for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
      Bytes bad = good;
      bad[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
      ExpectRefused(bad, "bit " + std::to_string(bit));
    }
  }
}

TEST(TableFileTest, RefusesEveryTruncationAndWhatFollowsTheEnd) {
  const Bytes good = Written(MakeInfo(OptimizerKind::kSgd, ValueType::kFloat32, 2, 3));
  for (size_t size = 0; size < good.size(); ++size) {
    ExpectRefused(Bytes(good.begin(), good.begin() + size), "cut to " + std::to_string(size));
  }
  for (size_t more : {1, 28, 1000}) {
    Bytes longer = good;
    longer.insert(longer.end(), more, 0);
    ExpectRefused(longer, std::to_string(more) + " bytes more");
  }
  Bytes twice = good;
  twice.insert(twice.end(), good.begin(), good.end());
  ExpectRefused(twice, "the file twice");
}

TEST(TableFileTest, RefusesPartsOfDifferentFiles) {
  // Three full blocks.
  TableFileInfo info = MakeInfo(OptimizerKind::kNone, ValueType::kFloat32, 4096, 0);
  const size_t per_block = kMaxBlockBytes / info.layout.stride;
  const size_t block = kBlockHeader + per_block * info.layout.stride;
  info.rows = static_cast<int64_t>(3 * per_block);
  const Bytes good = Written(info);
  ASSERT_TRUE(ReadTableFile(good).ok());
  const auto first = good.begin() + HeaderBytes(info);

  Bytes swapped = good;
  std::swap_ranges(swapped.begin() + HeaderBytes(info), swapped.begin() + HeaderBytes(info) + block,
                   swapped.begin() + HeaderBytes(info) + block);
  ExpectRefused(swapped, "two blocks swapped");

  Bytes doubled = good;
  std::copy(first, first + block, doubled.begin() + HeaderBytes(info) + block);
  ExpectRefused(doubled, "a block in another's place");

  Bytes shorter(good.begin(), good.begin() + HeaderBytes(info) + block);
  shorter.insert(shorter.end(), good.end() - kFooter, good.end());
  ExpectRefused(shorter, "blocks left out");

  TableFileInfo other = info;
  other.table_name = "user/itel";
  Bytes spliced = Written(other);
  std::copy(good.begin() + HeaderBytes(info), good.end(), spliced.begin() + HeaderBytes(info));
  ExpectRefused(spliced, "another table's header");
}

TEST(TableFileTest, TellsForeignAndNewerFilesFromCorruptOnes) {
  EXPECT_EQ(ReadTableFile(Bytes(500, 'x')).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadTableFile(Bytes()).code(), StatusCode::kDataLoss);
  Bytes newer = Written(MakeInfo(OptimizerKind::kSgd, ValueType::kFloat32, 2, 3));
  newer[8] = 2;
  EXPECT_EQ(ReadTableFile(newer).code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(ReadTableFile(newer).message().find("version 2"), std::string::npos);
  newer[8] = 1;
  newer.back() ^= 1;
  EXPECT_EQ(ReadTableFile(newer).code(), StatusCode::kDataLoss);
}

// A checksum keeps accidents out, not a hand that recomputes it.
TEST(TableFileTest, RefusesImpossibleFieldsUnderARightChecksum) {
  const TableFileInfo info = MakeInfo(OptimizerKind::kAdam, ValueType::kFloat32, 4, 2);
  const Bytes good = Written(info);
  const size_t covered = HeaderBytes(info) - kCrc;
  const struct {
    size_t offset;
    uint32_t value;
  } changes[] = {{16, 0},          {16, 4097},       {16, 0xFFFFFFFF}, {20, 3},
                 {20, 0xFFFFFFFF}, {24, 1},          {24, 1u << 30},   {28, 1},
                 {28, 77},         {32, 0},          {32, 0xFFFFFFF8}, {36, 10},
                 {36, 0xFFFFFFFF}, {40, 1u << 9},    {40, kAmsgrad},   {44, 0x7FC00000},
                 {56, 5},          {60, 0x7F800000}, {68, 1},          {84, 0x80000000}};
  for (const auto& change : changes) {
    Bytes bad = good;
    std::memcpy(bad.data() + change.offset, &change.value, 4);
    const uint32_t crc = Crc32c(0, bad.data(), covered);
    std::memcpy(bad.data() + covered, &crc, 4);
    ExpectRefused(bad, "field at " + std::to_string(change.offset));
  }
}

TEST(TableFileTest, NeverAllocatesWhatAHeaderMerelyClaims) {
  TableFileInfo info = MakeInfo(OptimizerKind::kAdam, ValueType::kFloat32, 4, INT64_MAX);
  MemorySink sink;
  TableFileWriter writer(&sink, "table.bin");
  ASSERT_TRUE(writer.Begin(info).ok());
  const uint32_t header[3] = {0x7FFFFFFF, 0xFFFFFFFF, 0};
  ASSERT_TRUE(sink.Append(header, sizeof header).ok());
  MemorySource source(sink.bytes);
  TableFileReader reader(&source, "table.bin");
  ASSERT_TRUE(reader.Open().ok());
  const uint8_t* rows;
  int64_t count;
  EXPECT_EQ(reader.Next(&rows, &count).code(), StatusCode::kDataLoss);
  EXPECT_LE(source.largest, kMaxBlockBytes);
}

TEST(TableFileTest, RefusesARowMarkedErased) {
  const TableFileInfo info = MakeInfo(OptimizerKind::kNone, ValueType::kFloat32, 4, 2);
  Bytes rows = MakeRows(info.layout, 2);
  RowLayout::Header(rows.data() + info.layout.stride)->freq = kFreeRow;
  MemorySink sink;
  ASSERT_TRUE(WriteTableFile(info, rows, 2, &sink).ok());
  ExpectRefused(sink.bytes, "free row");
}

TEST(TableFileTest, ReportsASinkThatFailsAtAnyByte) {
  const TableFileInfo info = MakeInfo(OptimizerKind::kMomentum, ValueType::kFloat32, 2, 3);
  const size_t size = Written(info).size();
  const Bytes rows = MakeRows(info.layout, info.rows);
  for (size_t room = 0; room < size; ++room) {
    MemorySink sink(room);
    const Status status = WriteTableFile(info, rows, 2, &sink);
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << room;
    EXPECT_NE(status.message().find("table.bin"), std::string::npos);
    EXPECT_NE(status.message().find("no space left"), std::string::npos);
    ExpectRefused(sink.bytes, "what a full disk left");
  }
}

TEST(TableFileTest, KeepsTheCodeOfASourceThatFails) {
  const Bytes good = Written(MakeInfo(OptimizerKind::kMomentum, ValueType::kFloat32, 2, 3));
  for (size_t fails_at = 0; fails_at < good.size(); ++fails_at) {
    MemorySource source(good, fails_at);
    TableFileInfo info;
    Bytes rows;
    uint32_t digest;
    const Status status = ReadTableFile(&source, &info, &rows, &digest);
    EXPECT_EQ(status.code(), StatusCode::kUnavailable) << fails_at;
    EXPECT_NE(status.message().find("table.bin"), std::string::npos);
  }
}

TEST(TableFileTest, StaysFailedAfterAFailure) {
  const TableFileInfo info = MakeInfo(OptimizerKind::kSgd, ValueType::kFloat32, 2, 1);
  const Bytes rows = MakeRows(info.layout, 1);
  MemorySink sink(10);
  TableFileWriter writer(&sink, "table.bin");
  EXPECT_FALSE(writer.Begin(info).ok());
  EXPECT_FALSE(writer.Add(rows.data(), 1).ok());
  EXPECT_FALSE(writer.Finish().ok());
  EXPECT_TRUE(sink.bytes.empty());

  Bytes bad = Written(info);
  bad[bad.size() - 30] ^= 1;
  MemorySource source(bad);
  TableFileReader reader(&source, "table.bin");
  const uint8_t* block;
  int64_t count;
  EXPECT_EQ(reader.Next(&block, &count).code(), StatusCode::kFailedPrecondition);  // before Open
  EXPECT_FALSE(reader.Open().ok());

  MemorySource again(bad);
  TableFileReader second(&again, "table.bin");
  ASSERT_TRUE(second.Open().ok());
  EXPECT_EQ(second.Next(&block, &count).code(), StatusCode::kDataLoss);
  EXPECT_EQ(second.Next(&block, &count).code(), StatusCode::kDataLoss);
  EXPECT_EQ(count, 0);
}

TEST(TableFileTest, WriterRefusesAnotherNumberOfRowsAndBadHeaders) {
  const TableFileInfo info = MakeInfo(OptimizerKind::kSgd, ValueType::kFloat32, 2, 2);
  const Bytes rows = MakeRows(info.layout, 3);
  MemorySink sink;
  TableFileWriter more(&sink, "table.bin");
  ASSERT_TRUE(more.Begin(info).ok());
  EXPECT_EQ(more.Add(rows.data(), 3).code(), StatusCode::kFailedPrecondition);
  TableFileWriter fewer(&sink, "table.bin");
  ASSERT_TRUE(fewer.Begin(info).ok());
  ASSERT_TRUE(fewer.Add(rows.data(), 1).ok());
  EXPECT_EQ(fewer.Finish().code(), StatusCode::kFailedPrecondition);

  TableFileInfo bad = info;
  bad.table_name.assign(kMaxTableNameBytes + 1, 'a');
  EXPECT_EQ(TableFileWriter(&sink, "f").Begin(bad).code(), StatusCode::kInvalidArgument);
  bad = info;
  bad.optimizer.kind = OptimizerKind::kAdam;  // whose slots the layout lacks
  EXPECT_EQ(TableFileWriter(&sink, "f").Begin(bad).code(), StatusCode::kInvalidArgument);
  bad = info;
  bad.initializer.b = NAN;
  EXPECT_EQ(TableFileWriter(&sink, "f").Begin(bad).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace embedding
}  // namespace taco
