// Files of tables in memory, and sinks and sources that fail, for the tests of table_file.h.
#ifndef TF_OPS_EMBEDDING_TABLE_TABLE_FILE_TEST_UTIL_H_
#define TF_OPS_EMBEDDING_TABLE_TABLE_FILE_TEST_UTIL_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "tf_ops/embedding/table/table_file.h"

namespace taco {
namespace embedding {

using Bytes = std::vector<uint8_t>;

// Keeps what is appended, until `room` bytes are in: then it fails as a full disk does.
class MemorySink final : public ByteSink {
 public:
  explicit MemorySink(size_t room = SIZE_MAX) : room_(room) {}
  Status Append(const void* data, size_t size) override {
    largest = std::max(largest, size);
    if (size > room_ - bytes.size()) return ResourceExhausted("no space left on device");
    const uint8_t* begin = static_cast<const uint8_t*>(data);
    bytes.insert(bytes.end(), begin, begin + size);
    return OkStatus();
  }

  Bytes bytes;
  size_t largest = 0;  // of all appends

 private:
  size_t room_;
};

// Reads from memory; fails once it has to go beyond byte `fails_at`.
class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(Bytes bytes, size_t fails_at = SIZE_MAX)
      : bytes_(std::move(bytes)), fails_at_(fails_at) {}
  Status Read(void* data, size_t size, size_t* got) override {
    largest = std::max(largest, size);
    *got = std::min(size, bytes_.size() - at_);
    if (at_ + *got > fails_at_) return Unavailable("the network is down");
    if (*got > 0) std::memcpy(data, bytes_.data() + at_, *got);
    at_ += *got;
    return OkStatus();
  }

  size_t largest = 0;  // of all reads

 private:
  Bytes bytes_;
  size_t at_ = 0;
  size_t fails_at_;
};

inline TableFileInfo MakeInfo(OptimizerKind kind, ValueType type, int dim, int64_t rows) {
  TableFileInfo info;
  info.table_name = "user/item";
  info.optimizer.kind = kind;
  info.optimizer.slot_init[0] = 0.125f;
  info.layout = RowLayout(dim, type, info.optimizer.num_slots(), info.optimizer.num_scalars());
  info.initializer = InitializerSpec::GlorotUniform(dim, 42);
  info.rows = rows;
  return info;
}

// Rows whose every byte depends on its place.
inline Bytes MakeRows(const RowLayout& layout, int64_t count) {
  Bytes rows(layout.stride * static_cast<size_t>(count));
  uint64_t state = 1;
  for (size_t at = 0; at < rows.size(); at += sizeof state) {  // a stride is a multiple of 8
    state = state * 6364136223846793005u + 1442695040888963407u;
    const uint64_t word = state ^ state >> 29;
    std::memcpy(rows.data() + at, &word, sizeof word);
  }
  for (int64_t row = 0; row < count; ++row) {
    RowHeader* header = RowLayout::Header(rows.data() + row * layout.stride);
    header->key = row - 3;
    header->freq = static_cast<uint32_t>(row);
  }
  return rows;
}

// Writes `rows` by `chunk` rows at a time. *digest may be null.
inline Status WriteTableFile(const TableFileInfo& info, const Bytes& rows, int64_t chunk,
                             ByteSink* sink, uint32_t* digest = nullptr) {
  TableFileWriter writer(sink, "table.bin");
  TACO_EMBEDDING_RETURN_IF_ERROR(writer.Begin(info));
  const int64_t total = static_cast<int64_t>(rows.size() / info.layout.stride);
  for (int64_t at = 0; at < total; at += chunk) {
    const int64_t count = std::min(chunk, total - at);
    TACO_EMBEDDING_RETURN_IF_ERROR(writer.Add(rows.data() + at * info.layout.stride, count));
  }
  TACO_EMBEDDING_RETURN_IF_ERROR(writer.Finish());
  if (digest != nullptr) *digest = writer.digest();
  return OkStatus();
}

// Reads to the end. *info, *rows and *digest are whole only if the status is ok.
inline Status ReadTableFile(ByteSource* source, TableFileInfo* info, Bytes* rows,
                            uint32_t* digest) {
  TableFileReader reader(source, "table.bin");
  TACO_EMBEDDING_RETURN_IF_ERROR(reader.Open());
  *info = reader.info();
  for (;;) {
    const uint8_t* block = nullptr;
    int64_t count = 0;
    TACO_EMBEDDING_RETURN_IF_ERROR(reader.Next(&block, &count));
    if (count == 0) break;
    rows->insert(rows->end(), block, block + count * info->layout.stride);
  }
  *digest = reader.digest();
  return OkStatus();
}

inline Status ReadTableFile(const Bytes& bytes) {
  MemorySource source(bytes);
  TableFileInfo info;
  Bytes rows;
  uint32_t digest;
  return ReadTableFile(&source, &info, &rows, &digest);
}

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_TABLE_FILE_TEST_UTIL_H_
