// Nanoseconds a row for each optimizer, over rows that fit into the second-level cache: what the
// arithmetic costs. table_benchmark.cc has what memory adds.

#include <vector>

#include "benchmark/benchmark.h"
#include "tf_ops/embedding/table/optimizer.h"

namespace taco {
namespace embedding {
namespace {

void BM_UpdateRow(benchmark::State& state, OptimizerKind kind, uint32_t flags, ValueType type) {
  const int dim = static_cast<int>(state.range(0));
  OptimizerSpec spec;
  spec.kind = kind;
  spec.flags = flags;
  spec.slot_init[0] = 0.1f;
  const RowLayout layout(dim, type, spec.num_slots(), spec.num_scalars());
  constexpr int kRows = 256;
  std::vector<uint8_t> rows(kRows * layout.stride);
  const std::vector<float> grad(dim, 0.01f);
  for (int i = 0; i < kRows; ++i) {
    InitializeSlots(spec, dim, layout.Slots(rows.data() + i * layout.stride));
  }
  const UpdateRowFn update = GetUpdateRow(spec, type);
  OptimizerStep step;
  for (auto _ : state) {
    const StepConstants constants = PrepareStep(spec, step);
    ++step.step;
    for (int i = 0; i < kRows; ++i) {
      uint8_t* row = rows.data() + i * layout.stride;
      update(RowLayout::Vector(row), layout.Slots(row), grad.data(), dim, constants);
    }
    benchmark::ClobberMemory();
  }
  state.counters["ns/row"] = benchmark::Counter(
      kRows * 1e-9, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
  state.SetLabel(SimdLevel());
}

#define TACO_BENCHMARK(name, kind, flags, type)                                      \
  BENCHMARK_CAPTURE(BM_UpdateRow, name, OptimizerKind::kind, flags, ValueType::type) \
      ->Arg(16)                                                                      \
      ->Arg(64)

TACO_BENCHMARK(sgd, kSgd, 0, kFloat32);
TACO_BENCHMARK(momentum, kMomentum, 0, kFloat32);
TACO_BENCHMARK(adagrad, kAdagrad, 0, kFloat32);
TACO_BENCHMARK(adam, kAdam, 0, kFloat32);
TACO_BENCHMARK(amsgrad, kAdam, kAmsgrad, kFloat32);
TACO_BENCHMARK(sparse_adam, kSparseAdam, 0, kFloat32);
TACO_BENCHMARK(rmsprop, kRmsprop, 0, kFloat32);
TACO_BENCHMARK(rmsprop_centered_momentum, kRmsprop, kCentered | kHasMomentum, kFloat32);
TACO_BENCHMARK(adadelta, kAdadelta, 0, kFloat32);
TACO_BENCHMARK(ftrl, kFtrl, 0, kFloat32);
TACO_BENCHMARK(proximal_gradient_descent, kProximalGradientDescent, 0, kFloat32);
TACO_BENCHMARK(proximal_adagrad, kProximalAdagrad, 0, kFloat32);
TACO_BENCHMARK(adagrad_da, kAdagradDa, 0, kFloat32);
TACO_BENCHMARK(adam_bfloat16, kAdam, 0, kBFloat16);
TACO_BENCHMARK(adam_float16, kAdam, 0, kFloat16);

#undef TACO_BENCHMARK

void BM_LambDirection(benchmark::State& state) {
  const int dim = static_cast<int>(state.range(0));
  std::vector<float> w(dim, 0.5f), slots(2 * dim), grad(dim, 0.01f), update(dim);
  OptimizerSpec spec;
  spec.kind = OptimizerKind::kLamb;
  const StepConstants constants = PrepareStep(spec, OptimizerStep());
  const LambDirectionFn direction = GetLambDirection(ValueType::kFloat32);
  const AddScaledFn add = GetAddScaled(ValueType::kFloat32);
  for (auto _ : state) {
    double weight_sq = 0.0, update_sq = 0.0;
    direction(w.data(), slots.data(), grad.data(), dim, constants, update.data(), &weight_sq,
              &update_sq);
    benchmark::DoNotOptimize(weight_sq + update_sq);
    add(w.data(), update.data(), -1e-6f, dim);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_LambDirection)->Arg(16)->Arg(64);

}  // namespace
}  // namespace embedding
}  // namespace taco
