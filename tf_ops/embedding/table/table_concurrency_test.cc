// What table.h promises to many threads; also run under the thread sanitizer.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tf_ops/embedding/table/snapshot.h"
#include "tf_ops/embedding/table/table.h"
#include "tf_ops/embedding/table/test_util.h"

namespace taco {
namespace embedding {
namespace {

constexpr int kDim = 16;

OptimizerSpec Sgd() {
  OptimizerSpec spec;
  spec.kind = OptimizerKind::kSgd;
  return spec;
}

// Adds one to every element of every row of the batch.
void AddOne(Table* table, const std::vector<int64_t>& keys, Executor* executor) {
  const std::vector<float> minus_one(keys.size() * kDim, -1.0f);
  OptimizerStep step;
  step.learning_rate = 1.0f;
  EXPECT_STATUS_OK(table->Apply(keys.data(), keys.size(), ValueType::kFloat32, minus_one.data(),
                                Sgd(), step, executor));
}

std::unique_ptr<Table> ZeroTable(const std::string& name) {
  TableOptions options;
  options.name = name;
  options.dim = kDim;
  std::unique_ptr<Table> table;
  EXPECT_TRUE(Table::Create(options, &table).ok());
  return table;
}

TEST(TableConcurrencyTest, NoUpdateIsLostAndNoRowIsTorn) {
  constexpr int kThreads = 4;
  const int rounds = static_cast<int>(30 * SoakFactor());
  std::unique_ptr<Table> table = ZeroTable("counts");
  std::vector<int64_t> keys(3000);
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<int64_t>(i) * 31 - 500;
  std::atomic<bool> stop{false};
  std::vector<std::thread> readers;
  for (int t = 0; t < 2; ++t) {
    readers.emplace_back([&] {
      InlineExecutor executor;
      std::vector<float> out(keys.size() * kDim);
      while (!stop) {
        table->Lookup(keys.data(), keys.size(), {}, out.data(), nullptr, &executor);
        for (size_t i = 0; i < keys.size(); ++i) {
          for (int d = 1; d < kDim; ++d) ASSERT_EQ(out[i * kDim], out[i * kDim + d]) << "torn row";
        }
      }
    });
  }
  std::vector<std::thread> writers;
  for (int t = 0; t < kThreads; ++t) {
    writers.emplace_back([&] {
      ThreadedExecutor executor(2);
      for (int round = 0; round < rounds; ++round) AddOne(table.get(), keys, &executor);
    });
  }
  for (std::thread& writer : writers) writer.join();
  stop = true;
  for (std::thread& reader : readers) reader.join();
  InlineExecutor executor;
  std::vector<float> out(keys.size() * kDim);
  table->Lookup(keys.data(), keys.size(), {}, out.data(), nullptr, &executor);
  for (const float x : out) ASSERT_EQ(x, static_cast<float>(kThreads * rounds));
}

// Writers touch, insert and erase while snapshots run. Two tables get the same batches, one call
// after the other under a common lock, so at any moment between calls their sums are known.
TEST(TableConcurrencyTest, ASnapshotIsOneMoment) {
  std::unique_ptr<Table> table = ZeroTable("cut");
  InlineExecutor inline_executor;
  // Every call adds one to all rows of a fixed set: in any cut all of them hold the same number.
  std::vector<int64_t> fixed(20000);
  for (size_t i = 0; i < fixed.size(); ++i) fixed[i] = static_cast<int64_t>(i);
  AddOne(table.get(), fixed, &inline_executor);
  std::atomic<bool> stop{false};
  std::thread trainer([&] {
    ThreadedExecutor executor(2);
    while (!stop) AddOne(table.get(), fixed, &executor);
  });
  std::thread churner([&] {  // other keys come and go, whole batches at a time
    InlineExecutor executor;
    std::vector<int64_t> batch(500);
    for (int64_t round = 1; !stop; ++round) {
      for (size_t i = 0; i < batch.size(); ++i) batch[i] = -static_cast<int64_t>(i) - round * 1000;
      AddOne(table.get(), batch, &executor);
      if (round % 2 == 0) EXPECT_STATUS_OK(table->Erase(batch.data(), batch.size(), &executor));
    }
  });
  float previous = 0.0f;
  for (int64_t round = 0; round < 15 * SoakFactor(); ++round) {
    const auto snapshot = table->BeginSnapshot();
    std::map<int64_t, float> seen;
    std::map<int64_t, int> churned;
    RowBatch batch;
    int64_t rows = 0;
    while (snapshot->Next(&batch)) {
      for (int64_t i = 0; i < batch.count; ++i, ++rows) {
        const uint8_t* row = batch.rows + i * snapshot->layout().stride;
        const int64_t key = RowLayout::Header(row)->key;
        const float value = reinterpret_cast<const float*>(RowLayout::Vector(row))[0];
        if (key < 0) {
          ++churned[-key / 1000];
        } else {
          ASSERT_TRUE(seen.emplace(key, value).second) << "key twice";
        }
      }
    }
    ASSERT_EQ(rows, snapshot->rows());
    ASSERT_EQ(seen.size(), fixed.size());
    const float moment = seen.begin()->second;
    for (const auto& [key, value] : seen) ASSERT_EQ(value, moment) << "two moments in one cut";
    ASSERT_GE(moment, previous);
    previous = moment;
    for (const auto& [batch_number, count] : churned) ASSERT_EQ(count, 500) << "half a batch";
  }
  stop = true;
  trainer.join();
  churner.join();
}

TEST(TableConcurrencyTest, SnapshotsOfSeveralTablesAreTheSameMoment) {
  std::unique_ptr<Table> a = ZeroTable("a");
  std::unique_ptr<Table> b = ZeroTable("b");
  std::vector<int64_t> keys(4000);
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<int64_t>(i);
  std::atomic<bool> stop{false};
  std::thread trainer([&] {
    InlineExecutor executor;
    while (!stop) {
      AddOne(a.get(), keys, &executor);
      AddOne(b.get(), keys, &executor);
    }
  });
  float last = 0.0f;
  while (last < 50.0f * SoakFactor()) {
    auto snapshots = Table::BeginSnapshots({a.get(), b.get()});
    float moment[2] = {0.0f, 0.0f};
    for (int t = 0; t < 2; ++t) {
      RowBatch batch;
      while (snapshots[t]->Next(&batch)) {
        for (int64_t i = 0; i < batch.count; ++i) {
          const uint8_t* row = batch.rows + i * snapshots[t]->layout().stride;
          moment[t] = reinterpret_cast<const float*>(RowLayout::Vector(row))[0];
        }
      }
    }
    // The trainer does a, then b: the cut may fall between the two calls, nowhere else.
    ASSERT_TRUE(moment[0] == moment[1] || moment[0] == moment[1] + 1)
        << moment[0] << " and " << moment[1];
    last = moment[0];
  }
  stop = true;
  trainer.join();
}

TEST(TableConcurrencyTest, AnAbandonedSnapshotReleasesEveryone) {
  std::unique_ptr<Table> table = ZeroTable("abandoned");
  // More rows than the side buffer takes, so that a writer has to wait for the consumer.
  const int64_t rows = static_cast<int64_t>(Snapshot::kSideBufferBytes / 80) + 50000;
  std::vector<int64_t> keys(rows);
  for (int64_t i = 0; i < rows; ++i) keys[i] = i;
  InlineExecutor inline_executor;
  AddOne(table.get(), keys, &inline_executor);
  auto snapshot = table->BeginSnapshot();
  std::thread trainer([&] {
    InlineExecutor executor;
    AddOne(table.get(), keys, &executor);
  });
  RowBatch batch;
  ASSERT_TRUE(snapshot->Next(&batch));
  snapshot.reset();
  trainer.join();
  EXPECT_STATUS_OK(table->Clear());
  EXPECT_EQ(table->size(), 0);
}

TEST(TableConcurrencyTest, AFullSideBufferSlowsTheWriterAndLosesNothing) {
  std::unique_ptr<Table> table = ZeroTable("slow reader");
  const int64_t rows = static_cast<int64_t>(Snapshot::kSideBufferBytes / 80) + 50000;
  std::vector<int64_t> keys(rows);
  for (int64_t i = 0; i < rows; ++i) keys[i] = i;
  InlineExecutor inline_executor;
  AddOne(table.get(), keys, &inline_executor);
  auto snapshot = table->BeginSnapshot();
  std::thread trainer([&] {
    ThreadedExecutor executor(2);
    AddOne(table.get(), keys, &executor);
  });
  int64_t seen = 0;
  RowBatch batch;
  while (snapshot->Next(&batch)) {
    for (int64_t i = 0; i < batch.count; ++i, ++seen) {
      const uint8_t* row = batch.rows + i * snapshot->layout().stride;
      ASSERT_EQ(reinterpret_cast<const float*>(RowLayout::Vector(row))[0], 1.0f);
    }
  }
  EXPECT_EQ(seen, rows);
  trainer.join();
}

TEST(TableConcurrencyTest, RowsKeepTheirVectorsWhileSlotsComeAndGo) {
  std::unique_ptr<Table> table = ZeroTable("slots");
  ThreadedExecutor executor(3);
  std::vector<int64_t> keys(30000);
  std::vector<float> rows(keys.size() * kDim);
  for (size_t i = 0; i < keys.size(); ++i) {
    keys[i] = static_cast<int64_t>(i) * 3 - 7000;
    std::fill_n(rows.begin() + i * kDim, kDim, static_cast<float>(i));
  }
  ASSERT_STATUS_OK(table->Upsert(keys.data(), keys.size(), rows.data(), &executor));
  std::vector<int64_t> erased(keys.begin(), keys.begin() + 5000);  // gaps in every shard
  ASSERT_STATUS_OK(table->Erase(erased.data(), erased.size(), &executor));
  std::fill_n(rows.begin(), erased.size() * kDim, 0.0f);
  std::atomic<bool> stop{false};
  std::thread reader([&] {
    InlineExecutor inline_executor;
    std::vector<float> out(rows.size());
    do {
      table->Lookup(keys.data(), keys.size(), {}, out.data(), nullptr, &inline_executor);
      ASSERT_EQ(out, rows);
    } while (!stop);
  });
  OptimizerSpec adam;
  adam.kind = OptimizerKind::kAdam;
  adam.slot_init[1] = 0.5f;
  for (int64_t round = 0; round < 5 * SoakFactor(); ++round) {
    EXPECT_STATUS_OK(table->SetOptimizer(Sgd(), /*drop_slots=*/true, &executor));
    EXPECT_STATUS_OK(table->SetOptimizer(adam, /*drop_slots=*/false, &executor));
  }
  stop = true;
  reader.join();
  const auto snapshot = table->BeginSnapshot();
  const RowLayout& layout = snapshot->layout();
  EXPECT_EQ(snapshot->rows(), static_cast<int64_t>(keys.size() - erased.size()));
  RowBatch batch;
  while (snapshot->Next(&batch)) {
    for (int64_t i = 0; i < batch.count; ++i) {
      const uint8_t* row = batch.rows + i * layout.stride;
      ASSERT_EQ(RowLayout::Header(row)->freq, 1u);
      for (int d = 0; d < kDim; ++d) {
        ASSERT_EQ(layout.Slots(row)[d], 0.0f);
        ASSERT_EQ(layout.Slots(row)[kDim + d], 0.5f);
      }
    }
  }
}

// LAMB.

std::unique_ptr<Table> LambTable(int dim = kDim) {
  TableOptions options;
  options.name = "lamb";
  options.dim = dim;
  options.initializer = {InitializerKind::kConstant, 1.0f, 0.0f, 0};
  options.optimizer.kind = OptimizerKind::kLamb;
  std::unique_ptr<Table> table;
  EXPECT_TRUE(Table::Create(options, &table).ok());
  return table;
}

void ApplyLamb(Table* table, const std::vector<int64_t>& keys, const std::vector<float>& grads,
               Executor* executor) {
  OptimizerSpec spec;
  spec.kind = OptimizerKind::kLamb;
  OptimizerStep step;
  step.learning_rate = 0.1f;
  step.weight_decay = 0.5f;
  EXPECT_STATUS_OK(table->Apply(keys.data(), keys.size(), ValueType::kFloat32, grads.data(), spec,
                                step, executor));
}

// The same gradient for all: rows that have seen equally many steps stay alike, so that what a row
// holds follows from their number alone.
void StepAll(Table* table, const std::vector<int64_t>& keys, Executor* executor) {
  ApplyLamb(table, keys, std::vector<float>(keys.size() * table->options().dim, 0.25f), executor);
}

// Rows by key, as a snapshot packs them.
std::map<int64_t, std::string> PackedRows(Table* table) {
  std::map<int64_t, std::string> rows;
  const auto snapshot = table->BeginSnapshot();
  const size_t stride = snapshot->layout().stride;
  RowBatch batch;
  while (snapshot->Next(&batch)) {
    for (int64_t i = 0; i < batch.count; ++i) {
      const uint8_t* row = batch.rows + i * stride;
      rows[RowLayout::Header(row)->key].assign(reinterpret_cast<const char*>(row), stride);
    }
  }
  return rows;
}

// What an element is after 0, 1, ... `steps` of StepAll. The decay alone, which comes first in a
// step, leads to none of these.
std::vector<float> LambStates(const std::vector<int64_t>& keys, int steps) {
  std::unique_ptr<Table> table = LambTable();
  InlineExecutor executor;
  std::vector<float> states;
  for (int s = 0; s <= steps; ++s) {
    if (s > 0) StepAll(table.get(), keys, &executor);
    std::vector<float> row(kDim);
    table->Lookup(keys.data(), 1, {}, row.data(), nullptr, &executor);
    states.push_back(row[0]);
  }
  const std::set<float> known(states.begin(), states.end());
  EXPECT_EQ(known.size(), states.size());
  for (const float state : states) EXPECT_EQ(known.count(state - state * 0.5f * 0.1f), 0u);
  return states;
}

// Looks all keys up until `stop`: every element of a row is the same one of `states`.
void ReadStates(const Table& table, const std::vector<int64_t>& keys,
                const std::vector<float>& states, const std::atomic<bool>& stop) {
  const std::set<float> known(states.begin(), states.end());
  InlineExecutor executor;
  std::vector<float> out(keys.size() * kDim);
  while (!stop) {
    table.Lookup(keys.data(), keys.size(), {}, out.data(), nullptr, &executor);
    for (size_t i = 0; i < out.size(); i += kDim) {
      ASSERT_EQ(known.count(out[i]), 1u) << out[i] << " is half a step";
      for (int d = 1; d < kDim; ++d) ASSERT_EQ(out[i], out[i + d]) << "torn row";
    }
  }
}

TEST(TableConcurrencyTest, NobodySeesHalfALambStepAndNoneIsLost) {
  constexpr int kThreads = 2;
  constexpr int kSteps = 25;
  std::vector<int64_t> keys(3000);
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<int64_t>(i) * 17 - 999;
  const std::vector<float> states = LambStates(keys, kThreads * kSteps);
  for (int64_t round = 0; round < SoakFactor(); ++round) {
    std::unique_ptr<Table> table = LambTable();
    std::atomic<bool> stop{false};
    std::thread reader([&] { ReadStates(*table, keys, states, stop); });
    std::vector<std::thread> trainers;
    for (int t = 0; t < kThreads; ++t) {
      trainers.emplace_back([&] {
        ThreadedExecutor executor(2);
        for (int s = 0; s < kSteps; ++s) StepAll(table.get(), keys, &executor);
      });
    }
    for (std::thread& trainer : trainers) trainer.join();
    stop = true;
    reader.join();
    const auto rows = PackedRows(table.get());
    ASSERT_EQ(rows.size(), keys.size());
    for (const auto& [key, row] : rows) {
      const uint8_t* bytes = reinterpret_cast<const uint8_t*>(row.data());
      ASSERT_EQ(RowLayout::Header(bytes)->freq, static_cast<uint32_t>(kThreads * kSteps));
      ASSERT_EQ(reinterpret_cast<const float*>(RowLayout::Vector(bytes))[0], states.back());
    }
  }
}

TEST(TableConcurrencyTest, AnEraseComesBeforeOrAfterALambStep) {
  constexpr int kSteps = 100;
  // So few that Erase takes them all in one hold of the locks: they stay alike.
  std::vector<int64_t> keys(1000);
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<int64_t>(i) * 5 - 77;
  const std::vector<float> states = LambStates(keys, kSteps);
  for (int64_t round = 0; round < SoakFactor(); ++round) {
    std::unique_ptr<Table> table = LambTable();
    std::atomic<bool> stop{false};
    std::thread reader([&] { ReadStates(*table, keys, states, stop); });
    std::thread eraser([&] {
      InlineExecutor executor;
      while (!stop) EXPECT_STATUS_OK(table->Erase(keys.data(), keys.size(), &executor));
    });
    InlineExecutor executor;
    for (int s = 0; s < kSteps; ++s) StepAll(table.get(), keys, &executor);
    stop = true;
    reader.join();
    eraser.join();
  }
}

TEST(TableConcurrencyTest, LambStepsOnTheSameKeysComeOneAfterTheOther) {
  struct Batch {
    std::vector<int64_t> keys;
    std::vector<float> grads;
  };
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  Batch batches[2];
  for (int b = 0; b < 2; ++b) {
    for (int64_t i = 0; i < 2000; ++i) batches[b].keys.push_back(i + b * 1000);
    for (int i = 0; i < 2000 * kDim; ++i) batches[b].grads.push_back(normal(random));
  }
  const auto step = [&](Table* table, int b, Executor* executor) {
    ApplyLamb(table, batches[b].keys, batches[b].grads, executor);
  };
  std::map<int64_t, std::string> in_order[2];
  for (int first = 0; first < 2; ++first) {
    InlineExecutor executor;
    std::unique_ptr<Table> table = LambTable();
    step(table.get(), first, &executor);
    step(table.get(), 1 - first, &executor);
    in_order[first] = PackedRows(table.get());
  }
  ASSERT_NE(in_order[0], in_order[1]);
  for (int64_t round = 0; round < 40 * SoakFactor(); ++round) {
    std::unique_ptr<Table> table = LambTable();
    std::atomic<int> ready{0};
    const auto work = [&](int b) {
      ThreadedExecutor executor(2);
      for (++ready; ready < 2;) std::this_thread::yield();
      step(table.get(), b, &executor);
    };
    std::thread other(work, 1);
    work(0);
    other.join();
    const auto rows = PackedRows(table.get());
    ASSERT_TRUE(rows == in_order[0] || rows == in_order[1]) << "the steps have mixed";
  }
}

// LAMB holds its locks while it waits for the snapshot's reader.
TEST(TableConcurrencyTest, ASlowSnapshotSlowsLambAndHoldsTheRowsOfItsMoment) {
  constexpr int kWide = 512;  // few rows fill the side buffer
  std::unique_ptr<Table> table = LambTable(kWide);
  const size_t stride = table->layout().stride;
  std::vector<int64_t> keys(Snapshot::kSideBufferBytes / stride + 4000);
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<int64_t>(i);
  InlineExecutor inline_executor;
  StepAll(table.get(), keys, &inline_executor);
  float moment[kWide];
  table->Lookup(keys.data(), 1, {}, moment, nullptr, &inline_executor);
  auto snapshot = table->BeginSnapshot();
  std::thread trainer([&] {
    ThreadedExecutor executor(2);
    StepAll(table.get(), keys, &executor);
  });
  size_t seen = 0;
  RowBatch batch;
  while (snapshot->Next(&batch)) {
    for (int64_t i = 0; i < batch.count; ++i, ++seen) {
      const uint8_t* row = batch.rows + i * stride;
      ASSERT_EQ(reinterpret_cast<const float*>(RowLayout::Vector(row))[0], moment[0]);
    }
  }
  EXPECT_EQ(seen, keys.size());
  trainer.join();
}

TEST(TableConcurrencyTest, EverythingAtOnce) {
  std::unique_ptr<Table> table = ZeroTable("everything");
  constexpr int kThreads = 3;
  std::atomic<int> running{kThreads};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      InlineExecutor executor;
      OptimizerSpec adam;
      adam.kind = OptimizerKind::kAdam;
      for (int64_t round = 0; round < 400 * SoakFactor(); ++round) {
        std::vector<int64_t> keys(1 + random() % 300);
        for (int64_t& key : keys) key = static_cast<int64_t>(random() % 5000) - 2500;
        std::vector<float> values(keys.size() * kDim, 0.5f);
        switch (random() % 12) {
          case 0:
            EXPECT_STATUS_OK(table->Erase(keys.data(), keys.size(), &executor));
            break;
          case 1:
            EXPECT_STATUS_OK(table->Upsert(keys.data(), keys.size(), values.data(), &executor));
            break;
          case 2:
            if (random() % 10 == 0) EXPECT_STATUS_OK(table->Shrink(&executor));
            break;
          case 3:
            if (random() % 10 == 0) EXPECT_STATUS_OK(table->Clear());
            break;
          case 4:
            table->Stats();
            break;
          case 5:
            if (random() % 10 == 0) EXPECT_STATUS_OK(table->SetOptimizer(Sgd(), true, &executor));
            break;
          case 6:
          case 7:
            table->Lookup(keys.data(), keys.size(), {}, values.data(), nullptr, &executor);
            break;
          default:
            // Another thread may have switched the table to SGD and back in between.
            EXPECT_STATUS_OK(table->Apply(keys.data(), keys.size(), ValueType::kFloat32,
                                          values.data(), adam, {}, &executor));
        }
      }
      --running;
    });
  }
  while (running > 0) {
    const auto snapshot = table->BeginSnapshot();
    RowBatch batch;
    int64_t rows = 0;
    while (snapshot->Next(&batch)) rows += batch.count;
    EXPECT_EQ(rows, snapshot->rows());
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace embedding
}  // namespace taco
