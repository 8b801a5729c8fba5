#include <algorithm>
#include <utility>

#include "tf_ops/embedding/table/table_file.h"
#include "tf_ops/embedding/table/table_file_header.h"

namespace taco {
namespace embedding {

TableFileWriter::TableFileWriter(ByteSink* sink, std::string file_name)
    : sink_(sink), file_name_(std::move(file_name)) {}

Status TableFileWriter::Fail(Status status) {
  failure_ = status;
  return status;
}

Status TableFileWriter::Append(const void* data, size_t size) {
  const Status status = sink_->Append(data, size);
  if (status.ok()) return status;
  return Fail(Status(status.code(), "Writing \"" + file_name_ + "\" failed: " + status.message()));
}

Status TableFileWriter::Begin(const TableFileInfo& info) {
  TACO_EMBEDDING_RETURN_IF_ERROR(failure_);
  if (stage_ != Stage::kNew) {
    return Fail(FailedPrecondition("\"" + file_name_ + "\" was begun twice."));
  }
  const Status valid = ValidateTableFileInfo(info);
  if (!valid.ok()) {
    return Fail(InvalidArgument("\"" + file_name_ + "\" cannot be written: " + valid.message()));
  }
  info_ = info;
  rows_per_block_ = RowsPerBlock(info_.layout);
  stage_ = Stage::kOpen;
  const std::vector<uint8_t> header = EncodeTableFileHeader(info_);
  header_crc_ = GetNumber<uint32_t>(header.data() + header.size() - kCrcBytes);
  return Append(header.data(), header.size());
}

Status TableFileWriter::Add(const uint8_t* rows, int64_t count) {
  TACO_EMBEDDING_RETURN_IF_ERROR(failure_);
  if (stage_ != Stage::kOpen || count < 0) {
    return Fail(FailedPrecondition("\"" + file_name_ + "\" takes rows between Begin and Finish."));
  }
  if (count > info_.rows - added_) {
    return Fail(FailedPrecondition("\"" + file_name_ + "\" was to hold " +
                                   std::to_string(info_.rows) + " rows and is given more."));
  }
  added_ += count;
  const size_t stride = info_.layout.stride;
  while (count > 0) {
    const int64_t held = static_cast<int64_t>(block_.size() / stride);
    const int64_t take = std::min(count, rows_per_block_ - held);
    if (take == rows_per_block_) {
      TACO_EMBEDDING_RETURN_IF_ERROR(WriteBlock(rows, take));
    } else {
      block_.insert(block_.end(), rows, rows + take * stride);
      if (held + take == rows_per_block_) {
        TACO_EMBEDDING_RETURN_IF_ERROR(WriteBlock(block_.data(), rows_per_block_));
        block_.clear();
      }
    }
    rows += take * stride;
    count -= take;
  }
  return OkStatus();
}

Status TableFileWriter::WriteBlock(const uint8_t* rows, int64_t count) {
  const size_t bytes = static_cast<size_t>(count) * info_.layout.stride;
  uint8_t header[kBlockHeaderBytes];
  PutNumber<uint32_t>(static_cast<uint32_t>(count), header);
  PutNumber<uint32_t>(static_cast<uint32_t>(bytes), header + 4);
  const uint32_t crc = BlockCrc(header, rows, bytes);
  PutNumber<uint32_t>(crc, header + 8);
  digest_ = Crc32c(digest_, &crc, sizeof crc);
  ++blocks_;
  TACO_EMBEDDING_RETURN_IF_ERROR(Append(header, sizeof header));
  return Append(rows, bytes);
}

Status TableFileWriter::Finish() {
  TACO_EMBEDDING_RETURN_IF_ERROR(failure_);
  if (stage_ != Stage::kOpen || added_ != info_.rows) {
    return Fail(FailedPrecondition("\"" + file_name_ + "\" was to hold " +
                                   std::to_string(info_.rows) + " rows and was given " +
                                   std::to_string(added_) + " before it was finished."));
  }
  if (!block_.empty()) {
    const int64_t held = static_cast<int64_t>(block_.size() / info_.layout.stride);
    TACO_EMBEDDING_RETURN_IF_ERROR(WriteBlock(block_.data(), held));
    block_.clear();
  }
  uint8_t footer[kFooterBytes];
  PutNumber<uint32_t>(0, footer);
  PutNumber<uint32_t>(digest_, footer + 4);
  PutNumber<int64_t>(added_, footer + 8);
  PutNumber<int64_t>(blocks_, footer + 16);
  PutNumber<uint32_t>(Crc32c(header_crc_, footer, kFooterBytes - kCrcBytes),
                      footer + kFooterBytes - kCrcBytes);
  stage_ = Stage::kFinished;
  return Append(footer, sizeof footer);
}

}  // namespace embedding
}  // namespace taco
