// Milliseconds a step, beside a plain loop over the same bytes (read gradient, read and write
// residual). bazel run //torch_ext/topk:topk_benchmark

#include <random>
#include <vector>

#include "benchmark/benchmark.h"
#include "torch_ext/base/threads_for_test.h"
#include "torch_ext/topk/accumulate.h"
#include "torch_ext/topk/compress.h"

namespace taco {
namespace topk {
namespace {

constexpr int64_t kN = 25'600'000;
constexpr int64_t kK = kN / 100;

constexpr int64_t kShift = 1 << 20;

// A step's gradient begins somewhere in the first kShift elements: noise that differs every time.
const std::vector<float>& Gradient() {
  static const std::vector<float> gradient = [] {
    std::vector<float> made(kN + kShift);
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (float& v : made) v = normal(random);
    return made;
  }();
  return gradient;
}

void BM_Plain(benchmark::State& state) {
  base::ThreadsForTest executor(static_cast<int>(state.range(0)));
  std::vector<float> residual(kN, 0.0f);
  const float* grad = Gradient().data();
  for (auto _ : state) {
    base::RunRanges(&executor, kN, executor.parallelism(),
                    [&](int64_t, int64_t begin, int64_t end) {
                      float* r = residual.data();
                      for (int64_t i = begin; i < end; ++i) r[i] += grad[i];
                    });
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_Plain)->Arg(1)->Arg(2)->Unit(benchmark::kMillisecond)->UseRealTime();

void BM_Compress(benchmark::State& state) {
  base::ThreadsForTest executor(static_cast<int>(state.range(0)));
  const bool exact = state.range(1) != 0;
  std::vector<float> residual(kN, 0.0f);
  CompressInput input;
  input.n = kN;
  input.residual = residual.data();
  std::vector<int32_t> indices(Capacity(kN, kK, exact));
  std::vector<float> values(indices.size());
  Packed packed;
  packed.indices = indices.data();
  packed.values = values.data();
  State carried;
  double passes = 0.0;
  for (auto _ : state) {
    input.grad = Gradient().data() + carried.steps * 65552 % kShift;
    if (!Compress(input, kK, exact, &executor, &carried, &packed).ok()) state.SkipWithError("");
    passes += static_cast<double>(carried.passes);
  }
  state.counters["passes"] = benchmark::Counter(passes, benchmark::Counter::kAvgIterations);
  state.counters["sent/k"] = static_cast<double>(packed.count) / static_cast<double>(kK);
}
BENCHMARK(BM_Compress)
    ->ArgNames({"threads", "exact"})
    ->ArgsProduct({{1, 2}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

void BM_Accumulate(benchmark::State& state) {
  base::ThreadsForTest executor(2);
  const int64_t ranks = state.range(0);
  std::vector<float> out(kN, 0.0f);
  std::vector<int32_t> indices(kK);
  for (int64_t i = 0; i < kK; ++i) indices[i] = static_cast<int32_t>(100 * i);
  PackedList list;
  list.indices = indices.data();
  list.values = Gradient().data();
  list.count = kK;
  const std::vector<PackedList> lists(ranks, list);
  for (auto _ : state) {
    if (!Accumulate(lists.data(), ranks, 1.0f, kN, &executor, out.data()).ok()) {
      state.SkipWithError("");
    }
  }
}
BENCHMARK(BM_Accumulate)->Arg(2)->Arg(16)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace topk
}  // namespace taco
