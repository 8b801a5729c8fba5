// Nanoseconds for the first value of a row.

#include <vector>

#include "benchmark/benchmark.h"
#include "tf_ops/embedding/table/initializer.h"

namespace taco {
namespace embedding {
namespace {

void BM_Initialize(benchmark::State& state, const char* text, ValueType type) {
  const int dim = static_cast<int>(state.range(0));
  InitializerSpec spec;
  if (!InitializerSpec::Parse(text, dim, &spec).ok()) return state.SkipWithError(text);
  std::vector<float> row(dim);
  int64_t key = 0;
  for (auto _ : state) {
    InitializeVector(spec, 7, key++, type, dim, row.data());
    benchmark::ClobberMemory();
  }
}
BENCHMARK_CAPTURE(BM_Initialize, constant, "constant:1", ValueType::kFloat32)->Arg(16)->Arg(64);
BENCHMARK_CAPTURE(BM_Initialize, uniform, "uniform:-0.05,0.05", ValueType::kFloat32)
    ->Arg(16)
    ->Arg(64);
BENCHMARK_CAPTURE(BM_Initialize, uniform_float16, "uniform:-0.05,0.05", ValueType::kFloat16)
    ->Arg(16)
    ->Arg(64);
BENCHMARK_CAPTURE(BM_Initialize, normal, "normal:0,0.05", ValueType::kFloat32)->Arg(16)->Arg(64);
BENCHMARK_CAPTURE(BM_Initialize, truncated_normal, "truncated_normal:0,0.05", ValueType::kFloat32)
    ->Arg(16)
    ->Arg(64);

}  // namespace
}  // namespace embedding
}  // namespace taco
