// The file of a table: rows with slots, streamed, checksummed. docs/embeddings_file_format.md has
// the format, byte by byte.
//
// Written through a ByteSink and read through a ByteSource, so that the adapter can use
// TensorFlow's file systems. Neither side ever holds more than one block (kMaxBlockBytes).
// Every byte is covered by a CRC32C; a reader refuses what is corrupt, truncated, of an unknown
// version or inconsistent, naming the file, and never trusts a length before checking it.
#ifndef TF_OPS_EMBEDDING_TABLE_TABLE_FILE_H_
#define TF_OPS_EMBEDDING_TABLE_TABLE_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tf_ops/embedding/table/crc32c.h"
#include "tf_ops/embedding/table/initializer.h"
#include "tf_ops/embedding/table/optimizer.h"
#include "tf_ops/embedding/table/row_layout.h"
#include "tf_ops/embedding/table/status.h"

namespace taco {
namespace embedding {

inline constexpr size_t kMaxBlockBytes = size_t{4} << 20;
inline constexpr size_t kMaxTableNameBytes = 65535;

class ByteSink {
 public:
  virtual ~ByteSink() = default;
  virtual Status Append(const void* data, size_t size) = 0;
};

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Reads up to `size` bytes; *got < size only at the end of the file.
  virtual Status Read(void* data, size_t size, size_t* got) = 0;
};

struct TableFileInfo {
  std::string table_name;
  RowLayout layout;
  OptimizerSpec optimizer;
  InitializerSpec initializer;  // with the seed: rows not in the file stay reproducible
  int64_t rows = 0;             // as promised by the header; checked against the footer
};

// Streams rows to `sink`. Begin once, Add any number of times, Finish once. One thread.
// After a failure every later call fails alike, and what was written is no valid file.
class TableFileWriter {
 public:
  // `sink` must outlive the writer. `file_name` is for messages alone.
  TableFileWriter(ByteSink* sink, std::string file_name);

  // InvalidArgument: the layout does not fit the optimizer, or a parameter is out of range.
  Status Begin(const TableFileInfo& info);
  // `count` rows of layout.stride bytes. FailedPrecondition: more rows than info.rows.
  Status Add(const uint8_t* rows, int64_t count);
  // FailedPrecondition: fewer rows than info.rows. The sink is neither synced nor closed.
  Status Finish();
  // CRC32C over the block checksums, in order: identifies the content. Valid after Finish.
  uint32_t digest() const { return digest_; }

 private:
  enum class Stage { kNew, kOpen, kFinished };

  Status Append(const void* data, size_t size);
  Status WriteBlock(const uint8_t* rows, int64_t count);
  Status Fail(Status status);

  ByteSink* sink_;
  std::string file_name_;
  TableFileInfo info_;
  uint32_t header_crc_ = 0;  // the footer's CRC continues from it, which ties the two together
  int64_t rows_per_block_ = 0;
  std::vector<uint8_t> block_;  // rows of a block not yet full
  int64_t added_ = 0;
  int64_t blocks_ = 0;
  uint32_t digest_ = 0;
  Stage stage_ = Stage::kNew;
  Status failure_;
};

// Reads what the writer wrote. Open once; Next until *count is 0, which is only said after the
// footer has been read and agrees. One thread.
// DataLoss: corrupt, truncated, or followed by other bytes. InvalidArgument: no table file at all.
// FailedPrecondition: a version, optimizer or value type this build does not know. A failure of the
// source keeps its code. After a failure every later call fails alike.
class TableFileReader {
 public:
  // `source` must outlive the reader. `file_name` is for messages alone.
  TableFileReader(ByteSource* source, std::string file_name);

  Status Open();
  const TableFileInfo& info() const { return info_; }  // after Open
  // *rows: *count rows of layout.stride bytes, valid until the next call.
  Status Next(const uint8_t** rows, int64_t* count);
  uint32_t digest() const { return digest_; }  // of the blocks read so far

 private:
  enum class Stage { kNew, kOpen, kFinished };

  Status ReadExactly(void* data, size_t size, const char* what);
  Status ReadHeader();
  Status ReadBlock(const uint8_t* block_header);
  Status ReadFooter(const uint8_t* begin);
  Status Corrupt(const std::string& what) const;
  Status Fail(Status status);

  ByteSource* source_;
  std::string file_name_;
  TableFileInfo info_;
  uint32_t header_crc_ = 0;  // the footer's CRC continues from it, which ties the two together
  int64_t rows_per_block_ = 0;
  std::vector<uint8_t> block_;
  int64_t offset_ = 0;  // bytes read so far
  int64_t read_ = 0;    // rows read so far
  int64_t blocks_ = 0;
  uint32_t digest_ = 0;
  Stage stage_ = Stage::kNew;
  Status failure_;
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_TABLE_FILE_H_
