// What all kernels promise: every instruction set the same bits, half types the same as float32
// between two conversions, and no byte touched outside the row.
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tf_ops/embedding/table/optimizer_test_util.h"
#include "tf_ops/embedding/table/simd_levels_for_test.h"

namespace taco {
namespace embedding {
namespace {

constexpr ValueType kTypes[] = {ValueType::kFloat32, ValueType::kBFloat16, ValueType::kFloat16};

std::vector<int> Dims() {
  std::vector<int> dims;
  for (int dim = 1; dim <= 70; ++dim) dims.push_back(dim);
  dims.insert(dims.end(), {255, 256, 257, 4096});
  return dims;
}

// A row as a table lays it out, with guard bytes behind, and a gradient.
struct Row {
  Row(const OptimizerSpec& spec, ValueType type, int dim, uint32_t seed)
      : layout(dim, type, spec.num_slots(), spec.num_scalars()),
        bytes(layout.stride + 16, 0xA5),
        grad(dim) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0f, 0.3f);
    std::vector<float> weights(dim);
    for (int i = 0; i < dim; ++i) {
      weights[i] = normal(random);
      grad[i] = i % 13 == 5 ? 0.0f : normal(random);
    }
    v2::StoreKernel(type, weights.data(), vector(), dim);
    InitializeSlots(spec, dim, slots());
  }
  uint8_t* vector() { return RowLayout::Vector(bytes.data()); }
  float* slots() { return layout.Slots(bytes.data()); }

  RowLayout layout;
  std::vector<uint8_t> bytes;
  std::vector<float> grad;
};

void Update(const SimdLevelForTest& level, OptimizerCase c, int steps, Row* row) {
  const UpdateRowFn update = level.update_row(c.spec, row->layout.value_type);
  for (c.step.step = 1; c.step.step <= 2 * steps; c.step.step += 2) {
    update(row->vector(), row->slots(), row->grad.data(), row->layout.dim,
           PrepareStep(c.spec, c.step));
  }
}

TEST(OptimizerKernelsTest, EveryInstructionSetGivesTheSameBits) {
  const auto levels = SimdLevelsForTest();
  for (const OptimizerCase& c : AllOptimizerCases()) {
    for (ValueType type : kTypes) {
      for (int dim : Dims()) {
        Row expected(c.spec, type, dim, 7);
        Update(levels[0], c, 3, &expected);
        for (size_t i = 1; i < levels.size(); ++i) {
          Row row(c.spec, type, dim, 7);
          Update(levels[i], c, 3, &row);
          ASSERT_EQ(row.bytes, expected.bytes)
              << CaseName(c) << ", dim " << dim << ", " << levels[i].name;
        }
      }
    }
  }
}

TEST(OptimizerKernelsTest, TouchesNothingButTheVectorAndTheSlots) {
  for (const OptimizerCase& c : AllOptimizerCases()) {
    for (ValueType type : kTypes) {
      for (int dim : {1, 3, 7, 8, 17, 33}) {
        Row row(c.spec, type, dim, 7);
        std::vector<uint8_t> before = row.bytes;
        Update(SimdLevelsForTest().back(), c, 1, &row);
        const size_t vector_end = sizeof(RowHeader) + row.layout.vector_bytes;
        const size_t slots_end =
            row.layout.slots_offset + 4 * row.layout.num_slots * dim + 4 * row.layout.num_scalars;
        const auto same = [&](size_t begin, size_t end) {
          return std::equal(before.begin() + begin, before.begin() + end,
                            row.bytes.begin() + begin);
        };
        EXPECT_TRUE(same(0, sizeof(RowHeader))) << CaseName(c);
        EXPECT_TRUE(same(vector_end, row.layout.slots_offset)) << CaseName(c);
        EXPECT_TRUE(same(slots_end, row.bytes.size())) << CaseName(c);
      }
    }
  }
}

TEST(OptimizerKernelsTest, HalfTypesUpdateAsFloat32BetweenTwoConversions) {
  const auto level = SimdLevelsForTest().back();
  for (const OptimizerCase& c : AllOptimizerCases()) {
    for (ValueType type : {ValueType::kBFloat16, ValueType::kFloat16}) {
      for (int dim : {1, 9, 64, 300}) {
        Row half(c.spec, type, dim, 3);
        Row full(c.spec, ValueType::kFloat32, dim, 3);
        std::vector<uint16_t> narrow(dim);
        for (int n = 0; n < 5; ++n) {
          level.load(type)(half.vector(), reinterpret_cast<float*>(full.vector()), dim);
          Update(level, c, 1, &half);
          Update(level, c, 1, &full);
          level.store(type, reinterpret_cast<float*>(full.vector()), narrow.data(), dim);
          ASSERT_EQ(std::memcmp(narrow.data(), half.vector(), 2 * dim), 0) << CaseName(c);
          const size_t slot_bytes = 4 * half.layout.num_slots * dim;
          ASSERT_EQ(std::memcmp(full.slots(), half.slots(), slot_bytes), 0) << CaseName(c);
        }
      }
    }
  }
}

TEST(OptimizerKernelsTest, LambAndAddScaledGiveTheSameBitsEverywhere) {
  const auto levels = SimdLevelsForTest();
  OptimizerCase c;
  c.spec.kind = OptimizerKind::kLamb;
  c.step.weight_decay = 0.01f;
  for (ValueType type : kTypes) {
    for (int dim : Dims()) {
      std::vector<std::vector<uint8_t>> rows;
      std::vector<std::pair<double, double>> squares;
      for (const SimdLevelForTest& level : levels) {
        Row row(c.spec, type, dim, 5);
        std::vector<float> update(dim);
        double weight_sq = 1.0, update_sq = 2.0;
        level.lamb_direction(type)(row.vector(), row.slots(), row.grad.data(), dim,
                                   PrepareStep(c.spec, c.step), update.data(), &weight_sq,
                                   &update_sq);
        level.add_scaled(type)(row.vector(), update.data(), -0.37f, dim);
        rows.push_back(row.bytes);
        squares.emplace_back(weight_sq, update_sq);
      }
      for (size_t i = 1; i < rows.size(); ++i) {
        ASSERT_EQ(rows[i], rows[0]) << dim;
        ASSERT_EQ(squares[i], squares[0]) << dim;
      }
    }
  }
}

TEST(OptimizerKernelsTest, LoadReplacesAndLoadAddAdds) {
  for (const SimdLevelForTest& level : SimdLevelsForTest()) {
    for (ValueType type : kTypes) {
      for (int dim : Dims()) {
        std::vector<float> values(dim), out(dim, 99.0f);
        for (int i = 0; i < dim; ++i) values[i] = 0.5f * static_cast<float>(i % 200) - 30.0f;
        std::vector<uint8_t> stored(4 * dim);
        level.store(type, values.data(), stored.data(), dim);
        level.load(type)(stored.data(), out.data(), dim);
        ASSERT_EQ(out, values) << level.name;
        level.load_add(type)(stored.data(), out.data(), dim);
        for (int i = 0; i < dim; ++i) ASSERT_EQ(out[i], 2.0f * values[i]) << level.name;
      }
    }
  }
}

TEST(OptimizerKernelsTest, DispatchesToTheLevelItNames) {
  const size_t active = static_cast<size_t>(ActiveSimd());
  ASSERT_LT(active, SimdLevelsForTest().size());
  const auto level = SimdLevelsForTest()[active];
  OptimizerSpec spec;
  spec.kind = OptimizerKind::kAdam;
  EXPECT_EQ(GetUpdateRow(spec, ValueType::kFloat16), level.update_row(spec, ValueType::kFloat16));
  EXPECT_EQ(GetAddScaled(ValueType::kFloat32), level.add_scaled(ValueType::kFloat32));
  const char* const names[] = {"baseline", "avx2", "avx512"};
  EXPECT_STREQ(SimdLevel(), names[active]);
}

}  // namespace
}  // namespace embedding
}  // namespace taco
