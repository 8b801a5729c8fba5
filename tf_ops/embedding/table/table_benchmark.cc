// Micro-benchmarks of the table alone: no TensorFlow, one thread. Beside each table figure stands
// the machine's own rate for the memory accesses that it cannot avoid.
//
//   bazel run //tf_ops/embedding/table:table_benchmark -- --benchmark_filter=Lookup
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "benchmark/benchmark.h"
#include "tf_ops/embedding/table/hash.h"
#include "tf_ops/embedding/table/table.h"

namespace taco {
namespace embedding {
namespace {

constexpr int64_t kBatch = 65536;

std::unique_ptr<Table> FilledTable(int dim, int64_t rows, OptimizerKind kind) {
  TableOptions options;
  options.name = "benchmark";
  options.dim = dim;
  options.optimizer.kind = kind;
  std::unique_ptr<Table> table;
  if (!Table::Create(options, &table).ok()) return nullptr;
  InlineExecutor executor;
  std::vector<int64_t> keys(kBatch);
  const std::vector<float> values(kBatch * dim, 1.0f);
  for (int64_t start = 0; start < rows; start += kBatch) {
    const int64_t n = std::min(kBatch, rows - start);
    for (int64_t i = 0; i < n; ++i) keys[i] = start + i;
    if (!table->Upsert(keys.data(), n, values.data(), &executor).ok()) return nullptr;
  }
  return table;
}

// Aligned as TensorFlow's tensors are.
struct Tensor {
  explicit Tensor(size_t n, float value = 0.0f)
      : data(static_cast<float*>(std::aligned_alloc(64, n * sizeof(float)))) {
    std::fill_n(data, n, value);
  }
  ~Tensor() { std::free(data); }
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;

  float* const data;
};

std::vector<int64_t> RandomKeys(int64_t n, int64_t rows) {
  std::mt19937_64 random(1);
  std::vector<int64_t> keys(n);
  for (int64_t& key : keys) key = static_cast<int64_t>(random() % rows);
  return keys;
}

void BM_Lookup(benchmark::State& state) {
  const int dim = static_cast<int>(state.range(0));
  const int64_t rows = state.range(1);
  const auto table = FilledTable(dim, rows, OptimizerKind::kNone);
  const std::vector<int64_t> keys = RandomKeys(64 * kBatch, rows);
  const Tensor out(kBatch * dim);
  InlineExecutor executor;
  int64_t at = 0;
  for (auto _ : state) {
    table->Lookup(keys.data() + at, kBatch, {}, out.data, nullptr, &executor);
    at = (at + kBatch) % static_cast<int64_t>(keys.size());
  }
  state.SetItemsProcessed(state.iterations() * kBatch);
}
BENCHMARK(BM_Lookup)->ArgsProduct({{16, 64}, {4000, 100000, 1000000, 10000000}});

void BM_Upsert(benchmark::State& state) {
  const int dim = static_cast<int>(state.range(0));
  const int64_t rows = state.range(1);
  const auto table = FilledTable(dim, rows, OptimizerKind::kNone);
  const std::vector<int64_t> keys = RandomKeys(64 * kBatch, rows);
  const Tensor values(kBatch * dim, 2.0f);
  InlineExecutor executor;
  int64_t at = 0;
  for (auto _ : state) {
    if (!table->Upsert(keys.data() + at, kBatch, values.data, &executor).ok()) {
      state.SkipWithError("upsert failed");
    }
    at = (at + kBatch) % static_cast<int64_t>(keys.size());
  }
  state.SetItemsProcessed(state.iterations() * kBatch);
}
BENCHMARK(BM_Upsert)->ArgsProduct({{16, 64}, {4000, 100000, 1000000}});

void Apply(benchmark::State& state, OptimizerKind kind) {
  const int dim = static_cast<int>(state.range(0));
  const int64_t rows = state.range(1);
  const auto table = FilledTable(dim, rows, kind);
  const std::vector<int64_t> keys = RandomKeys(64 * kBatch, rows);
  const Tensor grads(kBatch * dim, 0.01f);
  InlineExecutor executor;
  OptimizerSpec spec;
  spec.kind = kind;
  OptimizerStep step;
  int64_t at = 0;
  for (auto _ : state) {
    if (!table
             ->Apply(keys.data() + at, kBatch, ValueType::kFloat32, grads.data, spec, step,
                     &executor)
             .ok()) {
      state.SkipWithError("apply failed");
    }
    ++step.step;
    at = (at + kBatch) % static_cast<int64_t>(keys.size());
  }
  state.SetItemsProcessed(state.iterations() * kBatch);
}
void BM_AdamApply(benchmark::State& state) { Apply(state, OptimizerKind::kAdam); }
BENCHMARK(BM_AdamApply)->ArgsProduct({{16, 64}, {4000, 100000, 1000000}});
void BM_LambApply(benchmark::State& state) { Apply(state, OptimizerKind::kLamb); }
BENCHMARK(BM_LambApply)->ArgsProduct({{16, 64}, {4000, 100000, 1000000}});

void BM_InsertWhileGrowing(benchmark::State& state) {
  for (auto _ : state)
    benchmark::DoNotOptimize(FilledTable(16, state.range(0), OptimizerKind::kNone));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_InsertWhileGrowing)->Arg(1000000)->Arg(4000000)->Unit(benchmark::kMillisecond);

// What the first step of an optimizer with slots waits for in a table that was filled before.
void BM_FirstSlots(benchmark::State& state) {
  OptimizerSpec adam;
  adam.kind = OptimizerKind::kAdam;
  InlineExecutor executor;
  for (auto _ : state) {
    state.PauseTiming();
    auto table =
        FilledTable(static_cast<int>(state.range(0)), state.range(1), OptimizerKind::kNone);
    state.ResumeTiming();
    if (!table->SetOptimizer(adam, /*drop_slots=*/false, &executor).ok()) {
      state.SkipWithError("failed");
    }
    state.PauseTiming();
    table.reset();
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * state.range(1));
}
BENCHMARK(BM_FirstSlots)->ArgsProduct({{16, 64}, {1000000}})->Unit(benchmark::kMillisecond);

// The floor: independent random reads of one cache line, in huge pages, prefetched a block ahead.
void BM_RandomLine(benchmark::State& state) {
  const size_t bytes = static_cast<size_t>(state.range(0)) << 20;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  madvise(memory, bytes, MADV_HUGEPAGE);
  uint64_t* words = static_cast<uint64_t*>(memory);
  std::fill_n(words, bytes / 8, 1);
  const uint64_t lines = bytes / 64;
  uint64_t counter = 0;
  uint64_t sum = 0;
  for (auto _ : state) {
    for (int64_t i = 0; i < kBatch; i += 64) {
      uint64_t at[64];
      for (uint64_t& a : at) {
        a = HashKey(static_cast<int64_t>(counter++)) % lines * 8;
        __builtin_prefetch(words + a);
      }
      for (const uint64_t a : at) sum += words[a];
    }
  }
  benchmark::DoNotOptimize(sum);
  state.SetItemsProcessed(state.iterations() * kBatch);
  munmap(memory, bytes);
}
BENCHMARK(BM_RandomLine)->Arg(80)->Arg(800);

}  // namespace
}  // namespace embedding
}  // namespace taco
