// How fast a table's file is written to and read from memory, checksums included.

#include <vector>

#include "benchmark/benchmark.h"
#include "tf_ops/embedding/table/table_file_test_util.h"

namespace taco {
namespace embedding {
namespace {

constexpr int64_t kRows = 100000;

class CountingSink final : public ByteSink {
 public:
  Status Append(const void* data, size_t size) override {
    benchmark::DoNotOptimize(data);
    total += size;
    return OkStatus();
  }
  size_t total = 0;
};

void BM_Write(benchmark::State& state) {
  const TableFileInfo info = MakeInfo(OptimizerKind::kAdam, ValueType::kFloat32, 16, kRows);
  const Bytes rows = MakeRows(info.layout, kRows);
  for (auto _ : state) {
    CountingSink sink;
    if (!WriteTableFile(info, rows, 4096, &sink).ok()) state.SkipWithError("write failed");
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(rows.size()));
}
BENCHMARK(BM_Write);

void BM_Read(benchmark::State& state) {
  const TableFileInfo info = MakeInfo(OptimizerKind::kAdam, ValueType::kFloat32, 16, kRows);
  MemorySink sink;
  if (!WriteTableFile(info, MakeRows(info.layout, kRows), kRows, &sink).ok()) return;
  for (auto _ : state) {
    state.PauseTiming();
    MemorySource source(sink.bytes);
    state.ResumeTiming();
    TableFileReader reader(&source, "memory");
    const uint8_t* block = nullptr;
    int64_t count = 0;
    Status status = reader.Open();
    do {
      if (status.ok()) status = reader.Next(&block, &count);
    } while (status.ok() && count > 0);
    if (!status.ok()) state.SkipWithError("read failed");
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(sink.bytes.size()));
}
BENCHMARK(BM_Read);

void BM_Crc32c(benchmark::State& state) {
  const Bytes bytes(static_cast<size_t>(state.range(0)), 1);
  for (auto _ : state) benchmark::DoNotOptimize(Crc32c(0, bytes.data(), bytes.size()));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Crc32c)->Arg(208)->Arg(4096)->Arg(1 << 20);

}  // namespace
}  // namespace embedding
}  // namespace taco
