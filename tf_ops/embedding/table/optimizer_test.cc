// What each optimizer computes. optimizer_kernels_test.cc has what the kernels promise beside.
#include "tf_ops/embedding/table/optimizer.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tf_ops/embedding/table/optimizer_test_util.h"

namespace taco {
namespace embedding {
namespace {

std::vector<float> Normals(int n, float scale, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

OptimizerSpec Spec(OptimizerKind kind, uint32_t flags = 0) {
  OptimizerSpec spec;
  spec.kind = kind;
  spec.flags = flags;
  return spec;
}

// Slots of `spec` for `dim`, at their first values.
std::vector<float> NewSlots(const OptimizerSpec& spec, int dim) {
  std::vector<float> slots(static_cast<size_t>(dim) * spec.num_slots() + spec.num_scalars());
  InitializeSlots(spec, dim, slots.data());
  return slots;
}

void ExpectNear(double actual, double expected, double absolute, double relative) {
  EXPECT_NEAR(actual, expected, absolute + relative * std::abs(expected));
}

TEST(OptimizerTest, FollowsTheFormulasOverManySteps) {
  constexpr int kDim = 37;
  for (OptimizerCase c : AllOptimizerCases()) {
    SCOPED_TRACE(CaseName(c));
    ASSERT_TRUE(ValidateStep(c.spec, c.step).ok());
    const UpdateRowFn update = GetUpdateRow(c.spec, ValueType::kFloat32);
    std::vector<float> w = Normals(kDim, 0.3f, 1);
    std::vector<float> slots = NewSlots(c.spec, kDim);
    std::vector<ModelElement> model(kDim);
    for (int i = 0; i < kDim; ++i) {
      model[i].w = w[i];
      for (int s = 0; s < 3; ++s) model[i].s[s] = c.spec.slot_init[s];
    }
    for (int n = 0; n < 60; ++n) {
      c.step.step = n < 30 ? n + 1 : 7 * n;  // touched at each step, then now and then
      const std::vector<float> g = Normals(kDim, 0.5f, 100 + n);
      update(w.data(), slots.data(), g.data(), kDim, PrepareStep(c.spec, c.step));
      for (int i = 0; i < kDim; ++i) {
        ModelUpdate(c, g[i], &model[i]);
        ExpectNear(w[i], model[i].w, 4e-6, 1e-5);
        for (int s = 0; s < c.spec.num_slots(); ++s) {
          ExpectNear(slots[s * kDim + i], model[i].s[s], 2e-6, 1e-5);
        }
      }
      ASSERT_FALSE(HasFailure()) << "at update " << n;
    }
  }
}

class LambTest : public ::testing::TestWithParam<bool> {};

TEST_P(LambTest, FollowsItsFormulaOverTheRowsOfABatch) {
  constexpr int kDim = 21, kRows = 3;
  const bool in_direction = GetParam();
  OptimizerSpec spec = Spec(OptimizerKind::kLamb);
  if (in_direction) spec.flags = kDecayInDirection;
  OptimizerStep step;
  step.learning_rate = 0.01f;
  step.epsilon = 1e-6f;
  step.weight_decay = 0.02f;
  std::vector<std::vector<float>> w, slots, direction(kRows, std::vector<float>(kDim));
  for (int r = 0; r < kRows; ++r) {
    w.push_back(Normals(kDim, 0.3f, r));
    slots.push_back(NewSlots(spec, kDim));
  }
  std::vector<double> mw, mm(kRows * kDim), mv(kRows * kDim);
  for (const auto& row : w) mw.insert(mw.end(), row.begin(), row.end());

  for (step.step = 1; step.step < 20; ++step.step) {
    const std::vector<float> g = Normals(kRows * kDim, 0.5f, static_cast<uint32_t>(step.step));
    double weight_sq = 0.0, update_sq = 0.0;
    const StepConstants k = PrepareStep(spec, step);
    for (int r = 0; r < kRows; ++r) {
      GetLambDirection(ValueType::kFloat32)(w[r].data(), slots[r].data(), g.data() + r * kDim, kDim,
                                            k, direction[r].data(), &weight_sq, &update_sq);
    }
    const float scale = static_cast<float>(-0.01 * std::sqrt(weight_sq / update_sq));
    for (int r = 0; r < kRows; ++r) {
      GetAddScaled(ValueType::kFloat32)(w[r].data(), direction[r].data(), scale, kDim);
    }

    const double t = static_cast<double>(step.step);
    std::vector<double> model_update(kRows * kDim);
    double model_weight_sq = 0.0, model_update_sq = 0.0;
    for (int i = 0; i < kRows * kDim; ++i) {
      if (!in_direction) mw[i] -= mw[i] * 0.02 * 0.01;
      mm[i] = 0.9 * mm[i] + 0.1 * g[i];
      mv[i] = 0.999 * mv[i] + 0.001 * g[i] * g[i];
      model_update[i] =
          mm[i] / (1.0 - std::pow(0.9, t)) / (std::sqrt(mv[i] / (1.0 - std::pow(0.999, t))) + 1e-6);
      if (in_direction) model_update[i] += 0.02 * mw[i];
      model_weight_sq += mw[i] * mw[i];
      model_update_sq += model_update[i] * model_update[i];
    }
    ExpectNear(weight_sq, model_weight_sq, 0.0, 1e-4);
    ExpectNear(update_sq, model_update_sq, 0.0, 1e-4);
    const double ratio = std::sqrt(model_weight_sq / model_update_sq);
    for (int i = 0; i < kRows * kDim; ++i) {
      mw[i] -= ratio * 0.01 * model_update[i];
      ExpectNear(w[i / kDim][i % kDim], mw[i], 1e-5, 1e-5);
    }
    ASSERT_FALSE(HasFailure()) << "at step " << step.step;
  }
}

INSTANTIATE_TEST_SUITE_P(DecayDecoupledOrInTheDirection, LambTest, ::testing::Bool());

TEST(OptimizerTest, SparseAdamMakesUpForTheStepsARowMissed) {
  // A row of plain Adam that gets gradient 0 in the steps between, against one that is not touched.
  constexpr int kDim = 5;
  const OptimizerSpec dense = Spec(OptimizerKind::kAdam);
  const OptimizerSpec sparse = Spec(OptimizerKind::kSparseAdam);
  std::vector<float> w1(kDim, 0.5f), w2(kDim, 0.5f);
  std::vector<float> s1 = NewSlots(dense, kDim), s2 = NewSlots(sparse, kDim);
  const std::vector<float> zero(kDim, 0.0f);
  OptimizerStep step;
  for (step.step = 1; step.step <= 200; ++step.step) {
    const bool touched = step.step % 17 == 3 || step.step < 5;
    const std::vector<float> g = Normals(kDim, 1.0f, static_cast<uint32_t>(step.step));
    GetUpdateRow(dense, ValueType::kFloat32)(w1.data(), s1.data(), touched ? g.data() : zero.data(),
                                             kDim, PrepareStep(dense, step));
    if (!touched) continue;
    GetUpdateRow(sparse, ValueType::kFloat32)(w2.data(), s2.data(), g.data(), kDim,
                                              PrepareStep(sparse, step));
    for (int i = 0; i < 2 * kDim; ++i) ExpectNear(s2[i], s1[i], 1e-7, 1e-5);
  }
}

TEST(OptimizerTest, SparseAdamTakesAStepThatDoesNotAdvanceAsTheNextOne) {
  const OptimizerSpec spec = Spec(OptimizerKind::kSparseAdam);
  const float g = 1.0f;
  for (int64_t second : {int64_t{100}, int64_t{50}, int64_t{101}}) {
    float w = 0.0f;
    std::vector<float> slots = NewSlots(spec, 1);
    OptimizerStep step;
    step.step = 100;
    GetUpdateRow(spec, ValueType::kFloat32)(&w, slots.data(), &g, 1, PrepareStep(spec, step));
    step.step = second;
    GetUpdateRow(spec, ValueType::kFloat32)(&w, slots.data(), &g, 1, PrepareStep(spec, step));
    EXPECT_NEAR(slots[0], 0.19, 1e-6) << second;
    uint32_t last;
    std::memcpy(&last, &slots[2], sizeof last);
    EXPECT_EQ(last, second);
  }
}

TEST(OptimizerTest, FtrlGivesExactZerosUnderL1) {
  const OptimizerSpec spec = Spec(OptimizerKind::kFtrl);
  OptimizerStep step;
  step.l1 = 10.0f;
  std::vector<float> w(9, 0.5f), slots(18, 0.0f);  // an accumulator of 0: a quadratic term of 0 too
  const std::vector<float> g(9, 0.0f);
  GetUpdateRow(spec, ValueType::kFloat32)(w.data(), slots.data(), g.data(), 9,
                                          PrepareStep(spec, step));
  for (float value : w) EXPECT_EQ(value, 0.0f);
}

TEST(OptimizerTest, ProximalOptimizersGiveExactZerosUnderL1AndKeepNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (OptimizerKind kind : {OptimizerKind::kProximalGradientDescent,
                             OptimizerKind::kProximalAdagrad, OptimizerKind::kAdagradDa}) {
    const OptimizerSpec spec = Spec(kind);
    SCOPED_TRACE(spec.Name());
    OptimizerStep step;
    step.learning_rate = 0.1f;
    step.l1 = 1e4f;
    std::vector<float> w(9, 0.5f), slots = NewSlots(spec, 9);
    std::vector<float> g(9, 0.25f);
    GetUpdateRow(spec, ValueType::kFloat32)(w.data(), slots.data(), g.data(), 9,
                                            PrepareStep(spec, step));
    for (float value : w) EXPECT_EQ(value, 0.0f);
    g[4] = nan;  // is not taken for something small
    GetUpdateRow(spec, ValueType::kFloat32)(w.data(), slots.data(), g.data(), 9,
                                            PrepareStep(spec, step));
    for (int i = 0; i < 9; ++i) EXPECT_EQ(std::isnan(w[i]), i == 4) << i;
  }
}

TEST(OptimizerTest, AdagradDaMakesUpForTheStepsARowMissed) {
  // A row that gets gradient 0 in the steps between, against one that is not touched in them.
  constexpr int kDim = 5;
  OptimizerSpec spec = Spec(OptimizerKind::kAdagradDa);
  spec.slot_init[1] = 0.1f;
  const UpdateRowFn update = GetUpdateRow(spec, ValueType::kFloat32);
  std::vector<float> w1(kDim, 0.5f), w2(kDim, -3.0f);
  std::vector<float> s1 = NewSlots(spec, kDim), s2 = NewSlots(spec, kDim);
  const std::vector<float> zero(kDim, 0.0f);
  OptimizerStep step;
  step.l1 = 0.01f;
  step.l2 = 0.1f;
  for (step.step = 1; step.step <= 50; ++step.step) {
    const bool touched = step.step % 17 == 3;
    const std::vector<float> g = Normals(kDim, 1.0f, static_cast<uint32_t>(step.step));
    const StepConstants k = PrepareStep(spec, step);
    update(w1.data(), s1.data(), touched ? g.data() : zero.data(), kDim, k);
    if (!touched) continue;
    update(w2.data(), s2.data(), g.data(), kDim, k);
    EXPECT_EQ(w1, w2) << "at step " << step.step;
  }
}

TEST(OptimizerTest, RoundsConstantsAsKerasDoes) {
  const OptimizerSpec spec = Spec(OptimizerKind::kAdam);
  OptimizerStep step;
  const StepConstants keras = PrepareStep(spec, step);
  EXPECT_EQ(keras.one_minus_beta2, 0.001f);
  EXPECT_EQ(keras.alpha, 0.001f * std::sqrt(1.0f - 0.999f) / (1.0f - 0.9f));
  step.beta2 = 0.999f;  // as TensorFlow's kernels see it
  EXPECT_EQ(PrepareStep(spec, step).one_minus_beta2, 1.0f - 0.999f);
  step.step = int64_t{1} << 40;
  EXPECT_EQ(PrepareStep(spec, step).alpha, 0.001f);
}

TEST(OptimizerTest, KnowsTheSlotsOfEachKind) {
  EXPECT_EQ(Spec(OptimizerKind::kNone).num_slots(), 0);
  EXPECT_EQ(Spec(OptimizerKind::kAdam).num_slots(), 2);
  EXPECT_EQ(Spec(OptimizerKind::kAdam, kAmsgrad).num_slots(), 3);
  EXPECT_EQ(Spec(OptimizerKind::kRmsprop, kCentered | kHasMomentum).num_slots(), 3);
  EXPECT_EQ(Spec(OptimizerKind::kSparseAdam).num_scalars(), 1);
  EXPECT_EQ(Spec(OptimizerKind::kProximalGradientDescent).num_slots(), 0);
  EXPECT_EQ(Spec(OptimizerKind::kProximalAdagrad).num_slots(), 1);
  EXPECT_EQ(Spec(OptimizerKind::kAdagradDa).num_slots(), 2);
  EXPECT_STREQ(Spec(OptimizerKind::kAdagradDa).SlotName(1), "gradient_squared_accumulator");
  EXPECT_STREQ(Spec(OptimizerKind::kRmsprop, kCentered).SlotName(1), "average_gradient");
  EXPECT_STREQ(Spec(OptimizerKind::kAdam).SlotName(2), "");
  EXPECT_EQ(Spec(OptimizerKind::kRmsprop, kCentered).Name(), "RMSprop(centered)");
  EXPECT_EQ(Spec(OptimizerKind::kAdam).Name(), "Adam");

  EXPECT_TRUE(Spec(OptimizerKind::kNone).SameSlots(Spec(OptimizerKind::kSgd)));
  EXPECT_TRUE(Spec(OptimizerKind::kMomentum).SameSlots(Spec(OptimizerKind::kMomentum, kNesterov)));
  EXPECT_FALSE(Spec(OptimizerKind::kAdam).SameSlots(Spec(OptimizerKind::kAdam, kAmsgrad)));
  EXPECT_FALSE(Spec(OptimizerKind::kAdam).SameSlots(Spec(OptimizerKind::kLamb)));
  EXPECT_FALSE(Spec(OptimizerKind::kNone).SameSlots(Spec(OptimizerKind::kAdagrad)));
  EXPECT_TRUE(Spec(OptimizerKind::kSgd).SameSlots(Spec(OptimizerKind::kProximalGradientDescent)));
  EXPECT_FALSE(Spec(OptimizerKind::kAdagrad).SameSlots(Spec(OptimizerKind::kProximalAdagrad)));
}

TEST(OptimizerTest, RefusesHyperparametersThatCannotBe) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto refused = [](OptimizerKind kind, void (*change)(OptimizerStep*, float), float value) {
    OptimizerStep step;
    change(&step, value);
    const Status status = ValidateStep(Spec(kind), step);
    EXPECT_EQ(status.ok() ? StatusCode::kOk : status.code(), StatusCode::kInvalidArgument) << value;
  };
  const auto rate = [](OptimizerStep* s, float v) { s->learning_rate = v; };
  const auto beta1 = [](OptimizerStep* s, float v) { s->beta1 = v; };
  const auto beta2 = [](OptimizerStep* s, float v) { s->beta2 = v; };
  refused(OptimizerKind::kSgd, rate, nan);
  refused(OptimizerKind::kAdam, rate, std::numeric_limits<float>::infinity());
  refused(OptimizerKind::kFtrl, rate, 0.0f);
  for (float bad : {-0.1f, 1.0f, 2.0f, nan}) {
    refused(OptimizerKind::kAdam, beta1, bad);
    refused(OptimizerKind::kLamb, beta2, bad);
  }
  refused(OptimizerKind::kMomentum, beta1, 1.5f);
  refused(OptimizerKind::kRmsprop, beta2, -0.5f);
  refused(OptimizerKind::kFtrl, [](OptimizerStep* s, float v) { s->l1 = v; }, -1.0f);
  refused(OptimizerKind::kFtrl, [](OptimizerStep* s, float v) { s->lr_power = v; }, 0.5f);
  for (OptimizerKind kind : {OptimizerKind::kProximalGradientDescent,
                             OptimizerKind::kProximalAdagrad, OptimizerKind::kAdagradDa}) {
    refused(kind, [](OptimizerStep* s, float v) { s->l1 = v; }, -1.0f);
    refused(kind, [](OptimizerStep* s, float v) { s->l2 = v; }, -1.0f);
    refused(kind, [](OptimizerStep* s, float v) { s->step = v; }, 0.0f);
  }
  refused(OptimizerKind::kProximalAdagrad, rate, 0.0f);
  refused(OptimizerKind::kSgd, [](OptimizerStep* s, float v) { s->step = v; }, 0.0f);
  OptimizerStep almost;
  almost.beta2 = 0.99999999999;  // rounds to 1
  EXPECT_FALSE(ValidateStep(Spec(OptimizerKind::kAdam), almost).ok());
  EXPECT_TRUE(ValidateStep(Spec(OptimizerKind::kMomentum), almost).ok());
}

}  // namespace
}  // namespace embedding
}  // namespace taco
