#include "tests/build/smoke/core.h"
#include "benchmark/benchmark.h"
static void BM_Sum(benchmark::State& s) { std::vector<float> v(1000, 1.f); for (auto _ : s) benchmark::DoNotOptimize(smoke::Sum(v)); }
BENCHMARK(BM_Sum);
