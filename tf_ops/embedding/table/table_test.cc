// Table against a slow, obvious model: a std::map of vectors. One thread; see
// table_concurrency_test.cc for many.
#include "tf_ops/embedding/table/table.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tf_ops/embedding/table/snapshot.h"
#include "tf_ops/embedding/table/test_util.h"

namespace taco {
namespace embedding {
namespace {

constexpr int kDim = 5;
using Vector = std::vector<float>;
using Model = std::map<int64_t, Vector>;

// Keys that other tables reserve, and neighbours of them.
int64_t AwkwardKey(std::mt19937_64* random, int64_t range) {
  switch ((*random)() % 8) {
    case 0:
      return std::numeric_limits<int64_t>::min() + static_cast<int64_t>((*random)() % 3);
    case 1:
      return std::numeric_limits<int64_t>::max() - static_cast<int64_t>((*random)() % 3);
    case 2:
      return static_cast<int64_t>((*random)() % 5) - 2;
    default:
      return static_cast<int64_t>((*random)() % range) << ((*random)() % 2 * 32);
  }
}

Vector RandomVector(std::mt19937_64* random) {
  Vector v(kDim);
  for (float& x : v) x = static_cast<float>(static_cast<int64_t>((*random)() % 2001) - 1000) / 8;
  return v;
}

Vector InitialVector(const Table& table, int64_t key) {
  Vector v(kDim);
  InlineExecutor inline_executor;
  // A key that is absent reads as its initial value; ask an empty table of the same name.
  std::unique_ptr<Table> fresh;
  EXPECT_TRUE(Table::Create(table.options(), &fresh).ok());
  fresh->Lookup(&key, 1, {}, v.data(), nullptr, &inline_executor);
  return v;
}

void ExpectSame(const Table& table, const Model& model, const std::vector<int64_t>& keys) {
  InlineExecutor inline_executor;
  std::vector<float> values(keys.size() * kDim);
  std::unique_ptr<bool[]> exists(new bool[keys.size()]);
  const Vector none(kDim, -12345.0f);
  table.Lookup(keys.data(), keys.size(), {Table::Miss::Fill::kOneRow, none.data()}, values.data(),
               exists.get(), &inline_executor);
  for (size_t i = 0; i < keys.size(); ++i) {
    const auto it = model.find(keys[i]);
    ASSERT_EQ(exists[i], it != model.end()) << "key " << keys[i];
    const Vector& expected = it == model.end() ? none : it->second;
    for (int d = 0; d < kDim; ++d) ASSERT_EQ(values[i * kDim + d], expected[d]) << keys[i];
  }
  ASSERT_EQ(table.size(), static_cast<int64_t>(model.size()));
}

Model ReadSnapshot(Table* table) {
  Model model;
  const auto snapshot = table->BeginSnapshot();
  RowBatch batch;
  int64_t rows = 0;
  while (snapshot->Next(&batch)) {
    for (int64_t i = 0; i < batch.count; ++i, ++rows) {
      const uint8_t* row = batch.rows + i * snapshot->layout().stride;
      const float* v = reinterpret_cast<const float*>(RowLayout::Vector(row));
      const bool fresh =
          model.emplace(RowLayout::Header(row)->key, Vector(v, v + snapshot->layout().dim)).second;
      EXPECT_TRUE(fresh) << "key twice in one snapshot";
    }
  }
  EXPECT_EQ(rows, snapshot->rows());
  return model;
}

class TableModelTest : public ::testing::TestWithParam<int> {};

TEST_P(TableModelTest, AgreesWithAMapUnderRandomBatches) {
  std::mt19937_64 random(GetParam());
  ThreadedExecutor executor(3);
  std::unique_ptr<Table> table = MakeTable(kDim, OptimizerKind::kSgd);
  Model model;
  const int64_t range = GetParam() % 2 == 0 ? 300 : 20000;
  for (int64_t round = 0; round < 120 * SoakFactor(); ++round) {
    const int64_t n = random() % (random() % 10 == 0 ? 4000 : 200);
    std::vector<int64_t> keys(n);
    std::vector<float> values;
    std::unique_ptr<bool[]> exists(new bool[n]);
    for (int64_t i = 0; i < n; ++i) {
      keys[i] = AwkwardKey(&random, range);
      const Vector v = RandomVector(&random);
      values.insert(values.end(), v.begin(), v.end());
      exists[i] = random() % 2 == 0;
    }
    const auto value = [&](int64_t i) {
      return Vector(values.begin() + i * kDim, values.begin() + (i + 1) * kDim);
    };
    switch (random() % 9) {
      case 0:
      case 1:
      case 2:
        ASSERT_STATUS_OK(table->Upsert(keys.data(), n, values.data(), &executor));
        for (int64_t i = 0; i < n; ++i) model[keys[i]] = value(i);
        break;
      case 3:
        ASSERT_STATUS_OK(table->Accumulate(keys.data(), n, values.data(), exists.get(), &executor));
        for (int64_t i = 0; i < n; ++i) {
          const auto it = model.find(keys[i]);
          if ((it != model.end()) != exists[i]) continue;
          if (it == model.end()) {
            model[keys[i]] = value(i);
          } else {
            for (int d = 0; d < kDim; ++d) it->second[d] += values[i * kDim + d];
          }
        }
        break;
      case 4: {
        int64_t erased = 0;
        ASSERT_STATUS_OK(table->Erase(keys.data(), n, &executor, &erased));
        int64_t expected = 0;
        for (const int64_t key : keys) expected += model.erase(key);
        ASSERT_EQ(erased, expected);
        break;
      }
      case 5: {  // SGD with a learning rate of 1: w -= sum of gradients, exact in these numbers
        OptimizerSpec spec;
        spec.kind = OptimizerKind::kSgd;
        OptimizerStep step;
        step.learning_rate = 1.0f;
        for (int64_t i = 0; i < n; ++i) {
          if (model.count(keys[i]) == 0) model[keys[i]] = InitialVector(*table, keys[i]);
        }
        Model sums;
        for (int64_t i = 0; i < n; ++i) {
          Vector& sum = sums.emplace(keys[i], Vector(kDim, 0.0f)).first->second;
          for (int d = 0; d < kDim; ++d) sum[d] += values[i * kDim + d];
        }
        for (const auto& [key, sum] : sums) {
          for (int d = 0; d < kDim; ++d) model[key][d] -= sum[d];
        }
        ASSERT_STATUS_OK(table->Apply(keys.data(), n, ValueType::kFloat32, values.data(), spec,
                                      step, &executor));
        break;
      }
      case 6:
        if (random() % 4 == 0) ASSERT_STATUS_OK(table->Shrink(&executor));
        break;
      case 7:
        if (random() % 8 == 0) {
          ASSERT_STATUS_OK(table->Clear());
          model.clear();
        }
        if (random() % 8 == 0) table->Reserve(random() % 100000);
        break;
      case 8:
        ASSERT_EQ(ReadSnapshot(table.get()), model);
        break;
    }
    for (int i = 0; i < 20; ++i) keys.push_back(AwkwardKey(&random, range));
    ASSERT_NO_FATAL_FAILURE(ExpectSame(*table, model, keys));
  }
  ASSERT_EQ(ReadSnapshot(table.get()), model);
}

INSTANTIATE_TEST_SUITE_P(Seeds, TableModelTest, ::testing::Range(0, 8));

TEST(TableTest, MissesReadTheInitialValueAndWriteNothing) {
  std::unique_ptr<Table> table = MakeTable(kDim);
  InlineExecutor executor;
  const std::vector<int64_t> keys = {5, -1, 5, std::numeric_limits<int64_t>::min()};
  std::vector<float> first(keys.size() * kDim), second(keys.size() * kDim);
  table->Lookup(keys.data(), keys.size(), {}, first.data(), nullptr, &executor);
  table->Lookup(keys.data(), keys.size(), {}, second.data(), nullptr, &executor);
  EXPECT_EQ(first, second);
  EXPECT_TRUE(std::equal(first.begin(), first.begin() + kDim, first.begin() + 2 * kDim));
  EXPECT_EQ(table->size(), 0);
}

TEST(TableTest, InitialValuesDoNotDependOnOrderThreadsOrInsertion) {
  std::vector<int64_t> keys(20000);
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<int64_t>(i * 7919);
  std::unique_ptr<Table> forward = MakeTable(kDim, OptimizerKind::kSgd);
  std::unique_ptr<Table> backward = MakeTable(kDim, OptimizerKind::kSgd);
  const std::vector<float> zeros(keys.size() * kDim, 0.0f);
  OptimizerSpec spec;
  spec.kind = OptimizerKind::kSgd;
  InlineExecutor inline_executor;
  ThreadedExecutor threads(4);
  ASSERT_STATUS_OK(forward->Apply(keys.data(), keys.size(), ValueType::kFloat32, zeros.data(), spec,
                                  {}, &inline_executor));
  std::vector<int64_t> reversed(keys.rbegin(), keys.rend());
  ASSERT_STATUS_OK(backward->Apply(reversed.data(), keys.size(), ValueType::kFloat32, zeros.data(),
                                   spec, {}, &threads));
  EXPECT_EQ(ReadSnapshot(forward.get()), ReadSnapshot(backward.get()));
}

TEST(TableTest, SlotsSurviveUpsertAndStartFreshOnInsert) {
  std::unique_ptr<Table> table = MakeTable(kDim);
  InlineExecutor executor;
  OptimizerSpec adagrad;
  adagrad.kind = OptimizerKind::kAdagrad;
  adagrad.slot_init[0] = 0.5f;
  const int64_t keys[] = {1, 2};
  const std::vector<float> ones(2 * kDim, 1.0f);
  ASSERT_STATUS_OK(table->Apply(keys, 1, ValueType::kFloat32, ones.data(), adagrad, {}, &executor));
  ASSERT_STATUS_OK(table->Upsert(keys, 2, ones.data(), &executor));
  const auto snapshot = table->BeginSnapshot();
  RowBatch batch;
  std::map<int64_t, float> accumulator;
  while (snapshot->Next(&batch)) {
    for (int64_t i = 0; i < batch.count; ++i) {
      const uint8_t* row = batch.rows + i * snapshot->layout().stride;
      accumulator[RowLayout::Header(row)->key] = snapshot->layout().Slots(row)[0];
    }
  }
  EXPECT_EQ(accumulator, (std::map<int64_t, float>{{1, 1.5f}, {2, 0.5f}}));
}

TEST(TableTest, AnotherOptimizersSlotsAreRefusedUntilDropped) {
  std::unique_ptr<Table> table = MakeTable(kDim);
  InlineExecutor executor;
  const int64_t key = 1;
  const Vector ones(kDim, 1.0f);
  OptimizerSpec adam, adagrad, sgd;
  adam.kind = OptimizerKind::kAdam;
  adagrad.kind = OptimizerKind::kAdagrad;
  sgd.kind = OptimizerKind::kSgd;
  ASSERT_STATUS_OK(table->Apply(&key, 1, ValueType::kFloat32, ones.data(), adam, {}, &executor));
  const Status refused =
      table->Apply(&key, 1, ValueType::kFloat32, ones.data(), adagrad, {}, &executor);
  EXPECT_EQ(refused.code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(refused.message().find("Adam"), std::string::npos);
  EXPECT_NE(refused.message().find("drop_slots"), std::string::npos);
  EXPECT_STATUS_OK(table->Apply(&key, 1, ValueType::kFloat32, ones.data(), sgd, {}, &executor));
  Vector before(kDim), after(kDim);
  table->Lookup(&key, 1, {}, before.data(), nullptr, &executor);
  ASSERT_STATUS_OK(table->SetOptimizer(adagrad, true, &executor));
  table->Lookup(&key, 1, {}, after.data(), nullptr, &executor);
  EXPECT_EQ(before, after);
  EXPECT_STATUS_OK(table->Apply(&key, 1, ValueType::kFloat32, ones.data(), adagrad, {}, &executor));
}

TEST(TableTest, ImportTakesWholeRows) {
  std::unique_ptr<Table> from = MakeTable(kDim);
  std::unique_ptr<Table> to = MakeTable(kDim);
  ThreadedExecutor executor(2);
  OptimizerSpec adam;
  adam.kind = OptimizerKind::kAdam;
  std::vector<int64_t> keys(3000);
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<int64_t>(i) - 1500;
  const std::vector<float> grads(keys.size() * kDim, 0.25f);
  ASSERT_STATUS_OK(from->Apply(keys.data(), keys.size(), ValueType::kFloat32, grads.data(), adam,
                               {}, &executor));
  {
    const auto snapshot = from->BeginSnapshot();
    RowBatch batch;
    while (snapshot->Next(&batch)) {
      ASSERT_STATUS_OK(to->Import(snapshot->layout(), snapshot->optimizer(), batch.rows,
                                  batch.count, false, &executor));
    }
  }
  EXPECT_EQ(ReadSnapshot(from.get()), ReadSnapshot(to.get()));
  OptimizerStep second;
  second.step = 2;
  for (Table* table : {from.get(), to.get()}) {
    ASSERT_STATUS_OK(table->Apply(keys.data(), keys.size(), ValueType::kFloat32, grads.data(), adam,
                                  second, &executor));
  }
  EXPECT_EQ(ReadSnapshot(from.get()), ReadSnapshot(to.get()));

  std::unique_ptr<Table> narrow = MakeTable(kDim - 1);
  EXPECT_EQ(narrow->Import(from->layout(), adam, nullptr, 0, false, &executor).code(),
            StatusCode::kInvalidArgument);
}

TEST(TableTest, BadOptionsAreRefusedWithTheValue) {
  for (const int dim : {0, -1, Table::kMaxDim + 1}) {
    TableOptions options;
    options.dim = dim;
    std::unique_ptr<Table> table;
    const Status status = Table::Create(options, &table);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(std::to_string(dim)), std::string::npos);
    EXPECT_EQ(table, nullptr);
  }
}

TEST(TableTest, EveryDimensionAndTypeKeepsItsBytes) {
  ThreadedExecutor executor(2);
  std::mt19937_64 random(3);
  for (const ValueType type : {ValueType::kFloat32, ValueType::kBFloat16, ValueType::kFloat16}) {
    for (const int dim : {1, 2, 3, 7, 8, 16, 17, 64, 129, 1000, 4096}) {
      std::unique_ptr<Table> table = MakeTable(dim, OptimizerKind::kAdam, type);
      const size_t bytes = dim * ValueBytes(type);
      const std::vector<int64_t> keys = {0, -7, 9, 1 << 20};
      std::vector<uint8_t> in(keys.size() * bytes), out(keys.size() * bytes);
      for (uint8_t& b : in) b = static_cast<uint8_t>(random() % 100);
      ASSERT_STATUS_OK(table->Upsert(keys.data(), keys.size(), in.data(), &executor));
      table->Lookup(keys.data(), keys.size(), {}, out.data(), nullptr, &executor);
      EXPECT_EQ(in, out) << "dim " << dim;
    }
  }
}

// The first and last slot value of each row.
std::map<int64_t, std::pair<float, float>> SlotEnds(Table* table) {
  std::map<int64_t, std::pair<float, float>> ends;
  const auto snapshot = table->BeginSnapshot();
  const RowLayout& layout = snapshot->layout();
  RowBatch batch;
  while (snapshot->Next(&batch)) {
    for (int64_t i = 0; i < batch.count; ++i) {
      const uint8_t* row = batch.rows + i * layout.stride;
      const float* slots = layout.Slots(row);
      ends[RowLayout::Header(row)->key] = {slots[0], slots[layout.num_slots * layout.dim - 1]};
    }
  }
  return ends;
}

// A batch and a table so large that rows are written around the cache.
TEST(TableTest, LargeUpsertsKeepTheLastOfEachKeyAndLeaveSlotsAlone) {
  constexpr int kWidth = 32;
  constexpr int64_t kRows = 150000;
  for (const int threads : {1, 2}) {
    const auto table = MakeTable(kWidth, OptimizerKind::kAdagrad);
    ThreadedExecutor executor(threads);
    OptimizerSpec adagrad;
    adagrad.kind = OptimizerKind::kAdagrad;
    std::vector<int64_t> keys(kRows);
    std::vector<float> values(kRows * kWidth);
    for (int64_t i = 0; i < kRows; ++i) {
      keys[i] = i;
      std::fill_n(values.begin() + i * kWidth, kWidth, static_cast<float>(i % 1000));
    }
    ASSERT_STATUS_OK(table->Apply(keys.data(), kRows, ValueType::kFloat32, values.data(), adagrad,
                                  {}, &executor));
    const auto slots = SlotEnds(table.get());

    std::mt19937_64 random(threads);
    std::vector<int64_t> last(kRows, -1);
    for (int64_t i = 0; i < kRows; ++i) {
      keys[i] = static_cast<int64_t>(random() % kRows);
      last[keys[i]] = i;
      for (int d = 0; d < kWidth; ++d) values[i * kWidth + d] = static_cast<float>(i + d);
    }
    ASSERT_STATUS_OK(table->Upsert(keys.data(), kRows, values.data(), &executor));
    EXPECT_EQ(SlotEnds(table.get()), slots);
    for (int64_t i = 0; i < kRows; ++i) keys[i] = i;
    table->Lookup(keys.data(), kRows, {}, values.data(), nullptr, &executor);
    for (int64_t i = 0; i < kRows; ++i) {
      if (last[i] < 0) continue;
      for (int d = 0; d < kWidth; ++d) {
        ASSERT_EQ(values[i * kWidth + d], static_cast<float>(last[i] + d)) << i;
      }
    }
  }
}

TEST(TableTest, MemoryStaysWithinAQuarterOfThePayloadAtAnyMomentOfGrowth) {
  constexpr int kBatch = 4096;
  InlineExecutor executor;
  std::unique_ptr<Table> table = MakeTable(16);
  std::vector<int64_t> keys(kBatch);
  const std::vector<float> values(kBatch * 16, 1.0f);
  for (int64_t next = 0; next < 600000; next += kBatch) {
    for (int i = 0; i < kBatch; ++i) keys[i] = next + i;
    ASSERT_STATUS_OK(table->Upsert(keys.data(), kBatch, values.data(), &executor));
    const TableStats stats = table->Stats();
    if (stats.rows >= 300000) {
      ASSERT_LE(stats.bytes, 1.25 * stats.payload_bytes) << stats.rows << " rows";
    }
  }
}

TEST(TableTest, ErasingGivesMemoryBackAndReusesIt) {
  constexpr int64_t kRows = 300000;
  ThreadedExecutor executor(2);
  std::unique_ptr<Table> table = MakeTable(16);
  std::vector<int64_t> keys(kRows);
  for (int64_t i = 0; i < kRows; ++i) keys[i] = i;
  const std::vector<float> values(kRows * 16, 1.0f);
  ASSERT_STATUS_OK(table->Upsert(keys.data(), kRows, values.data(), &executor));
  const int64_t full = table->Stats().bytes;
  // A sliding window of the same size must not grow.
  for (int64_t start = 0; start < kRows; start += 10000) {
    ASSERT_STATUS_OK(table->Erase(keys.data() + start, 10000, &executor));
    std::vector<int64_t> fresh(10000);
    for (int64_t i = 0; i < 10000; ++i) fresh[i] = kRows + start + i;
    ASSERT_STATUS_OK(table->Upsert(fresh.data(), 10000, values.data(), &executor));
  }
  EXPECT_LE(table->Stats().bytes, full + full / 20);
  for (int64_t& key : keys) key += kRows;
  ASSERT_STATUS_OK(table->Erase(keys.data(), kRows - 1000, &executor));
  EXPECT_EQ(table->size(), 1000);
  EXPECT_LT(table->Stats().bytes, full / 4) << "erase alone gives memory back";
  ASSERT_STATUS_OK(table->Shrink(&executor));
  EXPECT_LT(table->Stats().bytes, full / 16);
  std::vector<float> out(1000 * 16);
  std::unique_ptr<bool[]> exists(new bool[1000]);
  table->Lookup(keys.data() + kRows - 1000, 1000, {}, out.data(), exists.get(), &executor);
  EXPECT_EQ(std::count(exists.get(), exists.get() + 1000, true), 1000);
}

TEST(TableTest, StatsCountWhatHappened) {
  InlineExecutor executor;
  std::unique_ptr<Table> table = MakeTable(4);
  const std::vector<int64_t> keys = {1, 2, 3, 4};
  const std::vector<float> values(16, 0.0f);
  ASSERT_STATUS_OK(table->Upsert(keys.data(), 3, values.data(), &executor));
  std::vector<float> out(16);
  EXPECT_EQ(table->Stats().hit_rate, 0.0);
  table->Lookup(keys.data(), 4, {}, out.data(), nullptr, &executor);
  ASSERT_STATUS_OK(table->Erase(keys.data(), 1, &executor));
  const TableStats stats = table->Stats();
  EXPECT_EQ(stats.rows, 2);
  EXPECT_EQ(stats.lookups, 4);
  EXPECT_EQ(stats.hits, 3);
  EXPECT_EQ(stats.hit_rate, 0.75);
  EXPECT_EQ(stats.inserts, 3);
  EXPECT_EQ(stats.erases, 1);
  EXPECT_GT(stats.bytes, 0);
  EXPECT_GE(stats.mean_probe, 1.0);
}

TEST(TableTest, TheHitRateIsOfLookupsAloneAndOutlivesClear) {
  std::unique_ptr<Table> table = MakeTable(4);
  ThreadedExecutor executor(2);
  std::vector<int64_t> keys(10000);
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<int64_t>(i);
  std::vector<float> rows(keys.size() * 4, 1.0f);
  ASSERT_STATUS_OK(table->Upsert(keys.data(), 7500, rows.data(), &executor));
  OptimizerSpec sgd;
  sgd.kind = OptimizerKind::kSgd;
  ASSERT_STATUS_OK(
      table->Apply(keys.data(), 7500, ValueType::kFloat32, rows.data(), sgd, {}, &executor));
  EXPECT_EQ(table->Stats().lookups, 0);
  table->Lookup(keys.data(), keys.size(), {}, rows.data(), nullptr, &executor);
  EXPECT_EQ(table->Stats().hit_rate, 0.75);
  ASSERT_STATUS_OK(table->Clear());
  table->Lookup(keys.data(), keys.size(), {}, rows.data(), nullptr, &executor);
  EXPECT_EQ(table->Stats().lookups, 20000);
  EXPECT_EQ(table->Stats().hit_rate, 0.375);
}

TEST(TableCreateTest, AnInitSizeBeyondTheMachineIsRefused) {
  for (const int64_t init_size : {int64_t{-1}, int64_t{1} << 40, INT64_MAX}) {
    TableOptions options;
    options.name = "t";
    options.dim = 8;
    options.init_size = init_size;
    std::unique_ptr<Table> table;
    const Status status = Table::Create(options, &table);
    EXPECT_FALSE(status.ok());
    EXPECT_NE(status.message().find("init_size"), std::string::npos) << status.message();
  }
}

TEST(TableCreateTest, ReservingBeyondTheMachineIsIgnored) {
  TableOptions options;
  options.name = "t";
  options.dim = 8;
  std::unique_ptr<Table> table;
  ASSERT_TRUE(Table::Create(options, &table).ok());
  table->Reserve(INT64_MAX);
  EXPECT_EQ(table->size(), 0);
}

}  // namespace
}  // namespace embedding
}  // namespace taco
