// The kernels in exactly sized arrays, under the sanitizers, beside the CPU's core. That all
// results are equal, tests/torch_ext/cuda_emulated_test.py tests, with the host code that programs
// run.

#include <memory>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "torch_ext/cuda/accumulate.cu"
#include "torch_ext/cuda/fuse.cu"
#include "torch_ext/cuda/topk_pass.cu"
#include "torch_ext/cuda/topk_select.cu"
#include "torch_ext/topk/accumulate.h"
#include "torch_ext/topk/compress.h"

namespace taco {
namespace cuda {
namespace {

using base::ValueType;

// One rank's arrays, and a step of either kind of device.
struct Rank {
  Rank(int64_t n, int64_t k) : n(n), k(k), residual(n), velocity(n) {}

  void RunOnCpu(const std::vector<float>& grad) {
    Prepare();
    topk::CompressInput input;
    input.n = n;
    input.grad = grad.data();
    input.residual = residual.data();
    input.velocity = velocity.data();
    input.momentum = 0.5f;
    topk::Packed packed;
    packed.indices = indices.data();
    packed.values = values.data();
    packed.value_type = ValueType::kBFloat16;
    base::InlineExecutor executor;
    ASSERT_TRUE(topk::Compress(input, k, false, &executor, &carried, &packed).ok());
    count = packed.count;
  }

  void RunEmulated(const std::vector<float>& grad, int order) {
    Prepare();
    const uint32_t blocks = static_cast<uint32_t>((n + kBlock - 1) / kBlock);
    const int64_t budget = std::min<int64_t>(n, std::max<int64_t>(8 * k, 65536));
    auto control = std::make_unique<Control>();  // zeros
    std::vector<Run> runs(blocks);
    std::vector<int32_t> candidate_indices(budget);
    std::vector<float> candidate_values(budget);
    TopkStep step{};
    step.control = control.get();
    step.state = state.data();
    step.grad = grad.data();
    step.residual = residual.data();
    step.velocity = velocity.data();
    step.runs = runs.data();
    step.candidate_indices = candidate_indices.data();
    step.candidate_values = candidate_values.data();
    step.indices = indices.data();
    step.values = values.data();
    step.count = &count;
    step.n = n;
    step.k = k;
    step.low = k - k / 4;
    step.high = step.capacity = topk::Capacity(n, k, false);
    step.budget = budget;
    step.aim = 1.0625 * static_cast<double>(k) + std::sqrt(static_cast<double>(k));
    step.scale = 1.0f;
    step.momentum = 0.5f;
    step.value_type = ValueType::kBFloat16;
    step.every = 1;
    constexpr struct {
      void (*kernel)(TopkStep);
      int round;
    } kSequence[] = {{topk_sample, 0},   {topk_pass, 0},   {topk_put_back, 0}, {topk_pass, 1},
                     {topk_put_back, 1}, {topk_digits, 0}, {topk_digits, 1},   {topk_digits, 2},
                     {topk_count, 0},    {topk_emit, 0}};
    for (const auto& launch : kSequence) {
      step.round = launch.round;
      Emulate<TopkStep>(launch.kernel, blocks, step, order);
      ++step.launch;
    }
  }

  void Prepare() {
    indices.assign(topk::Capacity(n, k, false), -1);
    values.assign(indices.size(), 0);
  }

  int64_t n, k;
  std::vector<float> residual, velocity;
  topk::State carried;
  std::vector<double> state = std::vector<double>(8);
  std::vector<int32_t> indices;
  std::vector<uint16_t> values;
  int64_t count = 0;
};

TEST(EmulatedTest, TopkStaysInItsArrays) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const int64_t n : {1, 4097, 70001}) {
    for (const int order : {0, 1, 2}) {
      const int64_t k = std::max<int64_t>(1, n / 100);
      Rank cpu(n, k), emulated(n, k);
      for (const float power : {0.0f, -40.0f, 1.0f, 0.0f, 1.0f}) {
        std::vector<float> grad(n);
        for (float& g : grad) {
          g = normal(random);
          g = power == 0.0f ? std::copysign(1.0f, g) : std::ldexp(g, static_cast<int>(power));
        }
        cpu.RunOnCpu(grad);
        emulated.RunEmulated(grad, order);
        ASSERT_EQ(emulated.count, cpu.count);
        ASSERT_EQ(emulated.indices, cpu.indices);
        ASSERT_EQ(emulated.values, cpu.values);
        ASSERT_EQ(emulated.residual, cpu.residual);
        ASSERT_EQ(emulated.velocity, cpu.velocity);
        ASSERT_EQ(emulated.state[0], static_cast<double>(cpu.carried.threshold));
      }
    }
  }
}

TEST(EmulatedTest, ListsStayInTheirs) {
  std::mt19937 random(2);
  constexpr int64_t kN = 5000;
  for (const bool ascending : {true, false}) {
    std::vector<int32_t> indices(9001);
    for (int32_t& index : indices) index = static_cast<int32_t>(random() % kN);
    if (ascending) std::sort(indices.begin(), indices.end());
    const std::vector<float> values(indices.size(), 0.1f);
    const int64_t count = static_cast<int64_t>(indices.size());
    std::vector<float> wanted(kN), out(kN);
    const topk::PackedList list{indices.data(), values.data(), ValueType::kFloat32, count};
    base::InlineExecutor executor;
    ASSERT_TRUE(topk::Accumulate(&list, 1, 0.3f, kN, &executor, wanted.data()).ok());
    uint64_t bad = 0, unordered = 0;
    Mailbox mailbox{};
    AccumulateStep step{};
    step.out = out.data();
    step.bad = &bad;
    step.unordered = &unordered;
    step.mailbox = &mailbox;
    step.n = kN;
    step.scale = 0.3f;
    step.num_lists = 1;
    step.lists[0] = {indices.data(), values.data(), count, 0, ValueType::kFloat32};
    step.first_block[1] = 3;
    Emulate<AccumulateStep>(accumulate_check, 3, step, 1);
    Emulate<AccumulateStep>(accumulate_add, 3, step, 1);
    EXPECT_EQ(mailbox.full, 0);
    EXPECT_EQ(out, wanted);
    indices[9000] = kN;
    Emulate<AccumulateStep>(accumulate_check, 3, step, 1);
    Emulate<AccumulateStep>(accumulate_add, 3, step, 1);
    EXPECT_EQ(mailbox.full, 1);
    EXPECT_EQ(mailbox.position, 9000);
    EXPECT_EQ(out, wanted);
  }
}

TEST(EmulatedTest, TensorsStayInTheirs) {
  const std::vector<float> first(1, 1.0f), second(9001, 2.0f);
  std::vector<uint16_t> buffer(9002);
  FuseStep step{};
  step.buffer = buffer.data();
  step.type = ValueType::kBFloat16;
  step.scale = 2.0f;
  step.to_buffer = 1;
  step.unit = 2;
  step.num_segments = 2;
  step.first_block[1] = 1;
  step.first_block[2] = 4;
  step.segments[0] = {const_cast<float*>(first.data()), 1, 0, ValueType::kFloat32, Transfer::kCast};
  step.segments[1] = {const_cast<float*>(second.data()), 9001, 1, ValueType::kFloat32,
                      Transfer::kCast};
  Emulate<FuseStep>(fuse_transfer, 4, step, 0);
  EXPECT_EQ(buffer.front(), base::ToBFloat16(2.0f));
  EXPECT_EQ(buffer.back(), base::ToBFloat16(4.0f));
}

}  // namespace
}  // namespace cuda
}  // namespace taco
