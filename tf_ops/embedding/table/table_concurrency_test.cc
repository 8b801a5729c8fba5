// What table.h promises to many threads; also run under the thread sanitizer.
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
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
            if (random() % 10 == 0) EXPECT_STATUS_OK(table->SetOptimizer(Sgd(), true));
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
