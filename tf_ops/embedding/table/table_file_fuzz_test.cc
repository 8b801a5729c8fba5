// Whatever bytes come: no crash, no undefined behaviour, no more memory than a block. What the
// reader accepts it must have understood; a good file with up to 32 adjacent bits changed it must
// refuse, as a CRC finds every such burst.

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "tf_ops/embedding/table/table_file_test_util.h"

namespace taco {
namespace embedding {
namespace {

void Check(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

Bytes GoodFile(OptimizerKind kind, ValueType type, int dim, int64_t rows) {
  const TableFileInfo info = MakeInfo(kind, type, dim, rows);
  MemorySink sink;
  Check(WriteTableFile(info, MakeRows(info.layout, rows), rows + 1, &sink).ok(), "writes");
  return sink.bytes;
}

const std::vector<Bytes>& GoodFiles() {
  static const std::vector<Bytes> files = {
      GoodFile(OptimizerKind::kNone, ValueType::kFloat32, 1, 0),
      GoodFile(OptimizerKind::kNone, ValueType::kFloat32, 4, 3),
      GoodFile(OptimizerKind::kAdam, ValueType::kBFloat16, 3, 2),
      GoodFile(OptimizerKind::kSparseAdam, ValueType::kFloat16, 2, 4),
      GoodFile(OptimizerKind::kNone, ValueType::kFloat32, 4, 3),
  };
  return files;
}

// What is accepted can be written again and reads as the same rows.
void ReadAnything(const Bytes& bytes) {
  MemorySource source(bytes);
  TableFileInfo info;
  Bytes rows;
  uint32_t digest = 0;
  const Status status = ReadTableFile(&source, &info, &rows, &digest);
  Check(source.largest <= kMaxBlockBytes, "reads a block at a time");
  if (!status.ok()) {
    Check(status.message().find("table.bin") != std::string::npos, "names the file");
    return;
  }
  Check(rows.size() == info.rows * info.layout.stride, "gives all rows");
  MemorySink sink;
  Check(WriteTableFile(info, rows, 1 << 20, &sink).ok(), "writes what it read");
  MemorySource second(sink.bytes);
  Bytes again;
  Check(ReadTableFile(&second, &info, &again, &digest).ok() && again == rows, "reads it again");
}

// Takes instructions from `data`: which good files, where to change, cut or join them.
void ReadMutated(const uint8_t* data, size_t size) {
  if (size < 8) return;
  const Bytes& good = GoodFiles()[data[0] % GoodFiles().size()];
  const size_t at = (data[1] | data[2] << 8) % good.size();
  Bytes changed = good;
  for (size_t i = 0; i < 4 && at + i < good.size(); ++i) changed[at + i] ^= data[4 + i];
  if (changed != good) Check(!ReadTableFile(changed).ok(), "refuses a burst of wrong bits");

  const Bytes& other = GoodFiles()[data[3] % GoodFiles().size()];
  Bytes joined(good.begin(), good.begin() + at);
  joined.insert(joined.end(), other.begin() + at % other.size(), other.end());
  joined.insert(joined.end(), data + 8, data + size);
  ReadAnything(joined);
}

}  // namespace
}  // namespace embedding
}  // namespace taco

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  taco::embedding::ReadAnything(taco::embedding::Bytes(data, data + size));
  taco::embedding::ReadMutated(data, size);
  return 0;
}
