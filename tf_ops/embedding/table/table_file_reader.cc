#include <cinttypes>
#include <cstdio>
#include <utility>

#include "tf_ops/embedding/table/table_file.h"
#include "tf_ops/embedding/table/table_file_header.h"

namespace taco {
namespace embedding {
namespace {

std::string Hex(uint32_t value) {
  char text[16];
  std::snprintf(text, sizeof text, "%08" PRIx32, value);
  return text;
}

}  // namespace

TableFileReader::TableFileReader(ByteSource* source, std::string file_name)
    : source_(source), file_name_(std::move(file_name)) {}

Status TableFileReader::Fail(Status status) {
  failure_ = status;
  return status;
}

Status TableFileReader::Corrupt(const std::string& what) const {
  return DataLoss("\"" + file_name_ + "\" is corrupt before byte " + std::to_string(offset_) +
                  ": " + what + ". Nothing of it was taken as good; restore from another " +
                  "checkpoint, and check the disk or the copy.");
}

Status TableFileReader::ReadExactly(void* data, size_t size, const char* what) {
  size_t got = 0;
  const Status status = source_->Read(data, size, &got);
  if (!status.ok()) {
    return Status(status.code(), "Reading \"" + file_name_ + "\" at byte " +
                                     std::to_string(offset_) + " failed: " + status.message());
  }
  offset_ += static_cast<int64_t>(got);
  if (got == size) return OkStatus();
  return Corrupt(std::string("it ends inside ") + what);
}

Status TableFileReader::Open() {
  TACO_EMBEDDING_RETURN_IF_ERROR(failure_);
  if (stage_ != Stage::kNew) {
    return Fail(FailedPrecondition("\"" + file_name_ + "\" was opened twice."));
  }
  const Status status = ReadHeader();
  if (!status.ok()) return Fail(status);
  rows_per_block_ = RowsPerBlock(info_.layout);
  stage_ = Stage::kOpen;
  return OkStatus();
}

Status TableFileReader::ReadHeader() {
  uint8_t fixed[kFixedHeaderBytes];
  TACO_EMBEDDING_RETURN_IF_ERROR(ReadExactly(fixed, sizeof fixed, "the header"));
  size_t name_bytes = 0;
  TACO_EMBEDDING_RETURN_IF_ERROR(DecodePreamble(fixed, file_name_, &name_bytes));
  std::string rest(name_bytes + kCrcBytes, '\0');  // at most 64 KiB
  TACO_EMBEDDING_RETURN_IF_ERROR(ReadExactly(rest.data(), rest.size(), "the header"));
  header_crc_ = Crc32c(Crc32c(0, fixed, sizeof fixed), rest.data(), name_bytes);
  const uint8_t* stored = reinterpret_cast<const uint8_t*>(rest.data()) + name_bytes;
  if (header_crc_ != GetNumber<uint32_t>(stored)) return Corrupt("the header's checksum is wrong");
  rest.resize(name_bytes);
  return DecodeTableFileHeader(fixed, rest, file_name_, &info_);
}

Status TableFileReader::Next(const uint8_t** rows, int64_t* count) {
  *rows = nullptr;
  *count = 0;
  TACO_EMBEDDING_RETURN_IF_ERROR(failure_);
  if (stage_ == Stage::kFinished) return OkStatus();
  if (stage_ == Stage::kNew) {
    return Fail(FailedPrecondition("\"" + file_name_ + "\" was not opened before reading."));
  }
  uint8_t header[kBlockHeaderBytes];
  Status status = ReadExactly(header, sizeof header, "a block's header or the footer");
  if (!status.ok()) return Fail(status);
  const uint32_t block_rows = GetNumber<uint32_t>(header);
  status = block_rows == 0 ? ReadFooter(header) : ReadBlock(header);
  if (!status.ok()) return Fail(status);
  *rows = block_rows == 0 ? nullptr : block_.data();
  *count = block_rows;
  return OkStatus();
}

Status TableFileReader::ReadBlock(const uint8_t* block_header) {
  const int64_t count = GetNumber<uint32_t>(block_header);
  const uint64_t bytes = GetNumber<uint32_t>(block_header + 4);
  const uint32_t stored = GetNumber<uint32_t>(block_header + 8);
  const size_t stride = info_.layout.stride;
  const std::string block = "block " + std::to_string(blocks_);
  if (count > rows_per_block_ || bytes != static_cast<uint64_t>(count) * stride) {
    return Corrupt(block + " has an impossible length");
  }
  if (count > info_.rows - read_) return Corrupt("it holds more rows than its header says");
  block_.resize(bytes);
  TACO_EMBEDDING_RETURN_IF_ERROR(ReadExactly(block_.data(), bytes, block.c_str()));
  const uint32_t crc = BlockCrc(block_header, block_.data(), bytes);
  if (crc != stored) {
    return Corrupt(block + " has the checksum " + Hex(crc) + " where " + Hex(stored) +
                   " is written");
  }
  for (int64_t row = 0; row < count; ++row) {
    if (RowLayout::Header(block_.data() + row * stride)->freq == kFreeRow) {
      return Corrupt(block + " holds a row that is marked as erased");
    }
  }
  digest_ = Crc32c(digest_, &crc, sizeof crc);
  read_ += count;
  ++blocks_;
  return OkStatus();
}

Status TableFileReader::ReadFooter(const uint8_t* begin) {
  uint8_t footer[kFooterBytes];
  std::memcpy(footer, begin, kBlockHeaderBytes);
  TACO_EMBEDDING_RETURN_IF_ERROR(
      ReadExactly(footer + kBlockHeaderBytes, kFooterBytes - kBlockHeaderBytes, "the footer"));
  const size_t covered = kFooterBytes - kCrcBytes;
  if (Crc32c(header_crc_, footer, covered) != GetNumber<uint32_t>(footer + covered)) {
    return Corrupt("the footer's checksum is wrong");
  }
  if (GetNumber<uint32_t>(footer + 4) != digest_ || GetNumber<int64_t>(footer + 8) != read_ ||
      GetNumber<int64_t>(footer + 16) != blocks_ || read_ != info_.rows) {
    return Corrupt("the footer disagrees with the " + std::to_string(read_) + " rows in " +
                   std::to_string(blocks_) + " blocks before it; blocks are missing or misplaced");
  }
  uint8_t beyond;
  size_t got = 0;
  const Status status = source_->Read(&beyond, 1, &got);
  if (!status.ok()) {
    return Status(status.code(),
                  "Reading the end of \"" + file_name_ + "\" failed: " + status.message());
  }
  if (got != 0) return Corrupt("other bytes follow its footer");
  block_.clear();
  block_.shrink_to_fit();
  stage_ = Stage::kFinished;
  return OkStatus();
}

}  // namespace embedding
}  // namespace taco
