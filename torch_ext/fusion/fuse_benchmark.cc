// Milliseconds to gather 100 tensors of 1 MiB into one buffer, beside a plain copy of the same.
// bazel run //torch_ext/fusion:fuse_benchmark

#include <cstring>
#include <vector>

#include "benchmark/benchmark.h"
#include "torch_ext/base/threads_for_test.h"
#include "torch_ext/fusion/fuse.h"

namespace taco {
namespace fusion {
namespace {

constexpr int kTensors = 100;
constexpr int64_t kCount = 1 << 18;
constexpr Element kFloat32 = {Element::Kind::kFloat32, 4, 0};
constexpr Element kFloat16 = {Element::Kind::kFloat16, 2, 1};

void BM_Fuse(benchmark::State& state, Element to, float scale) {
  base::ThreadsForTest executor(2);
  std::vector<std::vector<float>> tensors(kTensors, std::vector<float>(kCount, 1.0f));
  std::vector<Segment> segments;
  for (auto& tensor : tensors) segments.push_back({tensor.data(), kCount, kFloat32});
  std::vector<float> buffer(kTensors * kCount);
  const Segment whole{buffer.data(), kTensors * kCount, to};
  for (auto _ : state) {
    if (!Fuse(segments.data(), kTensors, scale, &executor, whole).ok()) state.SkipWithError("");
  }
  state.SetBytesProcessed(state.iterations() * kTensors * kCount * (4 + to.size));
}
BENCHMARK_CAPTURE(BM_Fuse, copy, kFloat32, 1.0f)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(BM_Fuse, scale, kFloat32, 0.5f)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(BM_Fuse, to_half, kFloat16, 0.5f)->Unit(benchmark::kMillisecond)->UseRealTime();

void BM_Memcpy(benchmark::State& state) {
  std::vector<float> from(kTensors * kCount, 1.0f), to(kTensors * kCount);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), from.size() * sizeof(float));
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * kTensors * kCount * 8);
}
BENCHMARK(BM_Memcpy)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace fusion
}  // namespace taco
