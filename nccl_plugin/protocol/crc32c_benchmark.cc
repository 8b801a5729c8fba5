// The checksum of a packet, with and without its copy, beside the copy alone.
#include <benchmark/benchmark.h>

#include <cstring>
#include <vector>

#include "nccl_plugin/protocol/crc32c.h"

namespace taco {
namespace harp {
namespace {

void BM_Crc(benchmark::State& state) {
  const std::vector<uint8_t> from(state.range(0), 7);
  for (auto _ : state) benchmark::DoNotOptimize(Crc32c(0, from.data(), from.size()));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

void BM_CrcCopy(benchmark::State& state) {
  const std::vector<uint8_t> from(state.range(0), 7);
  std::vector<uint8_t> to(from.size());
  for (auto _ : state) {
    benchmark::DoNotOptimize(Crc32cCopy(0, to.data(), from.data(), from.size()));
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

void BM_Copy(benchmark::State& state) {
  const std::vector<uint8_t> from(state.range(0), 7);
  std::vector<uint8_t> to(from.size());
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), from.size());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

BENCHMARK(BM_Crc)->Arg(64)->Arg(1432)->Arg(8192);
BENCHMARK(BM_CrcCopy)->Arg(64)->Arg(1432)->Arg(8192);
BENCHMARK(BM_Copy)->Arg(64)->Arg(1432)->Arg(8192);

}  // namespace
}  // namespace harp
}  // namespace taco
