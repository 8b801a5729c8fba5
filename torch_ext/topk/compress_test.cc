// Compress against the reference: what is sent, what stays, over steps, inputs, types and threads.

#include "torch_ext/topk/compress.h"

#include <map>
#include <string>

#include "gtest/gtest.h"
#include "torch_ext/base/threads_for_test.h"
#include "torch_ext/topk/reference_for_test.h"

namespace taco {
namespace topk {
namespace {

using base::ValueType;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Sent {
  std::vector<int32_t> indices;
  Floats values;
};

// One rank: what it carries, and one step checked in full.
class Rank0 {
 public:
  explicit Rank0(int64_t n) : residual(n, 0.0f) {}

  Sent Run(const Gradient& grad, int64_t k, base::Executor* executor) {
    const int64_t n = static_cast<int64_t>(residual.size());
    CompressInput input;
    input.n = n;
    input.grad = grad.data();
    input.grad_type = grad.type;
    input.residual = residual.data();
    input.velocity = velocity.empty() ? nullptr : velocity.data();
    input.momentum = momentum;
    input.scale = scale;
    const int64_t capacity = Capacity(n, k, exact);
    Sent sent{std::vector<int32_t>(capacity), Floats(capacity)};
    std::vector<uint16_t> halves(capacity);
    Packed packed;
    packed.indices = sent.indices.data();
    packed.value_type = type;
    packed.values = type == ValueType::kFloat32 ? static_cast<void*>(sent.values.data())
                                                : static_cast<void*>(halves.data());
    const base::Status status = Compress(input, k, exact, executor, &state, &packed);
    EXPECT_TRUE(status.ok()) << status.message();
    for (int64_t i = 0; i < capacity && type != ValueType::kFloat32; ++i) {
      sent.values[i] = type == ValueType::kFloat16 ? base::FromFloat16(halves[i])
                                                   : base::FromBFloat16(halves[i]);
    }
    for (int64_t i = packed.count; i < capacity; ++i) {
      EXPECT_EQ(sent.indices[i], n - 1);
      EXPECT_EQ(sent.values[i], 0.0f);
    }
    sent.indices.resize(packed.count);
    sent.values.resize(packed.count);
    return sent;
  }

  // Runs a step and compares everything with the reference.
  Sent RunChecked(const Gradient& grad, int64_t k, base::Executor* executor) {
    Floats v = residual, u = velocity;
    for (size_t i = 0; i < v.size(); ++i) {
      float step = grad.values[i] * scale;
      if (!u.empty()) step = u[i] = u[i] * momentum + step;
      v[i] += step;
    }
    const Sent sent = Run(grad, k, executor);
    const int64_t count = static_cast<int64_t>(sent.indices.size());
    const int64_t all = NonZeros(v);
    if (exact || all <= k - k / 4) {
      EXPECT_EQ(count, std::min(k, all));
    } else {
      EXPECT_GE(count, k - k / 4);
      EXPECT_LE(count, std::min<int64_t>(k + k / 3, v.size()));
    }
    EXPECT_EQ(sent.indices, Largest(v, count));
    double input_sq = 0.0, residual_sq = 0.0;
    size_t next = 0;
    int64_t wrong_value = -1, wrong_rest = -1, wrong_velocity = -1;  // where, if anywhere
    for (int64_t i = 0; i < static_cast<int64_t>(v.size()); ++i) {
      const bool is_sent = next < sent.indices.size() && sent.indices[next] == i;
      float rest = std::isfinite(v[i]) || k == 0 ? v[i] : 0.0f;
      if (is_sent) {
        const float wanted = AsSent(v[i], type);
        if (!Same(sent.values[next], wanted)) wrong_value = i;
        rest = std::isfinite(v[i]) ? v[i] - wanted : 0.0f;
        ++next;
      }
      if (!Same(residual[i] + 0.0f, rest + 0.0f)) wrong_rest = i;
      if (!u.empty()) {
        const bool cleared = is_sent || (k > 0 && !std::isfinite(v[i]));
        if (!Same(velocity[i], cleared ? 0.0f : u[i])) wrong_velocity = i;
      }
      input_sq += static_cast<double>(v[i]) * static_cast<double>(v[i]);
      residual_sq += static_cast<double>(residual[i]) * static_cast<double>(residual[i]);
    }
    EXPECT_EQ(wrong_value, -1);
    EXPECT_EQ(wrong_rest, -1);
    EXPECT_EQ(wrong_velocity, -1);
    if (std::isfinite(input_sq) && input_sq < 1e30) {
      EXPECT_NEAR(state.input_sq, input_sq, 1e-5 * input_sq);
      EXPECT_NEAR(state.residual_sq, residual_sq, 1e-5 * residual_sq + 1e-30);
    }
    EXPECT_EQ(state.sent, count);
    return sent;
  }

  Floats residual, velocity;
  State state;
  bool exact = false;
  ValueType type = ValueType::kFloat32;
  float scale = 1.0f, momentum = 0.0f;
};

Floats Make(const std::string& kind, int64_t n, std::mt19937* random) {
  std::normal_distribution<float> normal;
  Floats values(n);
  for (int64_t i = 0; i < n; ++i) {
    const float x = normal(*random);
    if (kind == "normal") values[i] = x;
    if (kind == "heavy") values[i] = x / std::max(1e-3f, std::fabs(normal(*random)));
    if (kind == "zeros") values[i] = 0.0f;
    if (kind == "negative zeros") values[i] = -0.0f;
    if (kind == "ties") values[i] = x > 0 ? 1.0f : -1.0f;
    if (kind == "few values") values[i] = std::round(x);
    if (kind == "sparse") values[i] = (*random)() % 1000 == 0 ? x : 0.0f;
    if (kind == "clustered") values[i] = i < n / 50 ? 100.0f * x : 1e-3f * x;
    if (kind == "denormal") values[i] = 1e-42f * x;
    if (kind == "growing") values[i] = x * static_cast<float>(i + 1);
    if (kind == "huge") values[i] = 1e9f * x;
    if (kind == "some nan") values[i] = (*random)() % 500 == 0 ? kNan : x;
    if (kind == "all infinite") values[i] = x > 0 ? kInf : -kInf;
    if (kind == "one nan") values[i] = i == n / 2 ? kNan : x;
  }
  return values;
}

const char* const kKinds[] = {"normal",   "heavy",        "zeros",    "negative zeros", "ties",
                              "sparse",   "clustered",    "denormal", "growing",        "huge",
                              "some nan", "all infinite", "one nan",  "few values"};

TEST(CompressTest, SendsTheLargestAndKeepsTheRestOverManySteps) {
  std::mt19937 random(1);
  base::InlineExecutor executor;
  for (const char* kind : kKinds) {
    for (const bool exact : {false, true}) {
      for (const int64_t n : {1, 17, 4096, 9001}) {
        SCOPED_TRACE(std::string(kind) + (exact ? " exact " : " ") + std::to_string(n));
        Rank0 rank(n);
        rank.exact = exact;
        for (int step = 0; step < 3; ++step) {
          const Gradient grad(Make(kind, n, &random), ValueType::kFloat32);
          rank.RunChecked(grad, std::max<int64_t>(1, n / 100), &executor);
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST(CompressTest, AnyKFromNothingToAll) {
  std::mt19937 random(2);
  base::InlineExecutor executor;
  for (const int64_t n : {0, 1, 2, 17, 5000}) {
    for (const int64_t k : {int64_t{0}, int64_t{1}, int64_t{2}, n / 2, n - 1, n}) {
      if (k < 0 || k > n) continue;
      for (const bool exact : {false, true}) {
        for (const char* kind : {"normal", "few values", "one nan"}) {
          SCOPED_TRACE(std::to_string(n) + " " + std::to_string(k));
          Rank0 rank(n);
          rank.exact = exact;
          for (int step = 0; step < 3; ++step) {
            rank.RunChecked(Gradient(Make(kind, n, &random), ValueType::kFloat32), k, &executor);
          }
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST(CompressTest, EveryPairOfTypesWithScaleAndMomentum) {
  std::mt19937 random(3);
  base::InlineExecutor executor;
  for (const auto grad_type : {ValueType::kFloat32, ValueType::kFloat16, ValueType::kBFloat16}) {
    for (const auto type : {ValueType::kFloat32, ValueType::kFloat16, ValueType::kBFloat16}) {
      for (const bool with_velocity : {false, true}) {
        for (const char* kind : {"normal", "some nan", "huge"}) {
          Rank0 rank(9001);
          rank.type = type;
          rank.scale = 0.37f;
          if (with_velocity) rank.velocity.assign(9001, 0.0f);
          rank.momentum = 0.9f;
          for (int step = 0; step < 4; ++step) {
            rank.RunChecked(Gradient(Make(kind, 9001, &random), grad_type), 90, &executor);
          }
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST(CompressTest, NothingIsLostWhereNothingIsRounded) {
  // Multiples of 2^-10 of moderate size: every sum is exact.
  std::mt19937 random(4);
  base::InlineExecutor executor;
  constexpr int64_t kN = 5000;
  for (const auto type : {ValueType::kFloat32, ValueType::kFloat16, ValueType::kBFloat16}) {
    Rank0 rank(kN);
    rank.type = type;
    std::vector<double> balance(kN, 0.0);
    for (int step = 0; step < 40; ++step) {
      Floats values(kN);
      for (int64_t i = 0; i < kN; ++i) {
        values[i] = static_cast<float>(static_cast<int>(random() % 2048) - 1024) / 1024.0f;
        balance[i] += static_cast<double>(values[i]);
      }
      const Sent sent = rank.Run(Gradient(values, ValueType::kFloat32), 50, &executor);
      for (size_t i = 0; i < sent.indices.size(); ++i) {
        balance[sent.indices[i]] -= static_cast<double>(sent.values[i]);
      }
    }
    for (int64_t i = 0; i < kN; ++i) ASSERT_EQ(static_cast<double>(rank.residual[i]), balance[i]);
  }
}

TEST(CompressTest, ThreadsChangeNothing) {
  std::mt19937 random(5);
  constexpr int64_t kN = 150001;
  for (const char* kind : {"normal", "clustered", "ties", "some nan"}) {
    for (const bool exact : {false, true}) {
      std::vector<Floats> grads;
      for (int step = 0; step < 3; ++step) grads.push_back(Make(kind, kN, &random));
      std::map<int, std::vector<Sent>> sent;
      std::map<int, Floats> residual;
      std::map<int, State> states;
      for (const int threads : {1, 2, 5}) {
        base::ThreadsForTest executor(threads);
        Rank0 rank(kN);
        rank.exact = exact;
        for (const Floats& grad : grads) {
          sent[threads].push_back(rank.Run(Gradient(grad, ValueType::kFloat32), 1500, &executor));
        }
        residual[threads] = rank.residual;
        states[threads] = rank.state;
      }
      for (const int threads : {2, 5}) {
        for (size_t step = 0; step < grads.size(); ++step) {
          ASSERT_EQ(sent[threads][step].indices, sent[1][step].indices);
          for (size_t i = 0; i < sent[1][step].values.size(); ++i) {
            ASSERT_TRUE(Same(sent[threads][step].values[i], sent[1][step].values[i]));
          }
        }
        ASSERT_EQ(residual[threads], residual[1]);
        ASSERT_EQ(states[threads].threshold, states[1].threshold);
        ASSERT_EQ(states[threads].residual_sq, states[1].residual_sq);
      }
    }
  }
}

TEST(CompressTest, OnePassIsEnoughOnceGradientsAreSteady) {
  std::mt19937 random(6);
  base::InlineExecutor executor;
  for (const bool exact : {false, true}) {
    Rank0 rank(1 << 17);
    rank.exact = exact;
    int64_t more = 0;
    for (int step = 0; step < 15; ++step) {
      rank.Run(Gradient(Make("normal", 1 << 17, &random), ValueType::kFloat32), 1311, &executor);
      more += rank.state.passes > 1;
    }
    EXPECT_LE(more, 1);
  }
}

TEST(CompressTest, AThresholdThatCannotBeOneIsEstimatedAnew) {
  std::mt19937 random(7);
  base::InlineExecutor executor;
  for (const float threshold : {kNan, kInf, -1.0f, 1e30f, 1e-30f}) {
    Rank0 rank(50000);
    rank.state.threshold = threshold;
    rank.RunChecked(Gradient(Make("normal", 50000, &random), ValueType::kFloat32), 500, &executor);
    EXPECT_GT(rank.state.threshold, 1.0f);
    EXPECT_LT(rank.state.threshold, 10.0f);
  }
}

TEST(CompressTest, ASkippedStepDoesNotSpoilTheThreshold) {
  std::mt19937 random(8);
  base::InlineExecutor executor;
  Rank0 rank(50000);
  rank.RunChecked(Gradient(Make("normal", 50000, &random), ValueType::kFloat32), 500, &executor);
  const float before = rank.state.threshold;
  rank.RunChecked(Gradient(Make("all infinite", 50000, &random), ValueType::kFloat32), 500,
                  &executor);
  EXPECT_EQ(rank.state.threshold, before);
  for (const float rest : rank.residual) EXPECT_TRUE(std::isfinite(rest));
}

TEST(CompressTest, RefusesWhatIsOutOfRangeAndChangesNothing) {
  base::InlineExecutor executor;
  State state;
  Packed packed;
  CompressInput input;
  input.n = 10;
  for (const int64_t k : {int64_t{-1}, int64_t{11}}) {
    const base::Status status = Compress(input, k, false, &executor, &state, &packed);
    EXPECT_EQ(status.code(), base::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("k must be from 0"), std::string::npos);
  }
  input.n = int64_t{1} << 31;
  const base::Status status = Compress(input, 5, false, &executor, &state, &packed);
  EXPECT_NE(status.message().find("smaller buckets"), std::string::npos);
  EXPECT_EQ(state.steps, 0);
}

}  // namespace
}  // namespace topk
}  // namespace taco
