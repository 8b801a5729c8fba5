// How upserts take batches of many kinds: hot rows, and blocks of mostly new keys.
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tf_ops/embedding/table/snapshot.h"
#include "tf_ops/embedding/table/table.h"
#include "tf_ops/embedding/table/test_util.h"

namespace taco {
namespace embedding {
namespace {

using Vector = std::vector<float>;
// By key: the vector, and how many updates it had.
using Rows = std::map<int64_t, std::pair<Vector, uint32_t>>;

Rows ReadAll(Snapshot* snapshot) {
  Rows rows;
  RowBatch batch;
  while (snapshot->Next(&batch)) {
    for (int64_t i = 0; i < batch.count; ++i) {
      const uint8_t* row = batch.rows + i * snapshot->layout().stride;
      const auto* v = reinterpret_cast<const float*>(RowLayout::Vector(row));
      const RowHeader* header = RowLayout::Header(row);
      rows[header->key] = {Vector(v, v + snapshot->layout().dim), header->freq};
    }
  }
  return rows;
}

// Of the close writes of a hot row only the last is done, where rows are written around the cache.
TEST(UpsertTest, AHotRowKeepsItsLastValueAndCountsEveryUpdate) {
  constexpr int kWidth = 64;
  constexpr int64_t kRows = 140000;
  for (const int threads : {1, 2}) {
    const auto table = MakeTable(kWidth);
    ThreadedExecutor executor(threads);
    std::vector<int64_t> keys(kRows);
    std::vector<float> values(kRows * kWidth);
    for (int64_t i = 0; i < kRows; ++i) keys[i] = i;
    ASSERT_STATUS_OK(table->Upsert(keys.data(), kRows, values.data(), &executor));

    std::mt19937_64 random(threads);
    std::vector<uint32_t> updates(kRows, 1);
    std::vector<int64_t> last(kRows, -1);
    const int64_t n = 16000;
    for (int64_t i = 0; i < n; ++i) {
      // Some blocks have hot rows, others none.
      const uint64_t hot = i % 4000 < 2500 ? random() % 10 : 9;
      keys[i] = hot < 4 ? 7 : hot < 6 ? 8 : static_cast<int64_t>(random() % kRows);
      last[keys[i]] = i;
      ++updates[keys[i]];
      for (int d = 0; d < kWidth; ++d) values[i * kWidth + d] = static_cast<float>(i + d);
    }
    ASSERT_STATUS_OK(table->Upsert(keys.data(), n, values.data(), &executor));
    const Rows rows = ReadAll(table->BeginSnapshot().get());
    for (int64_t i = 0; i < kRows; ++i) {
      const auto& [vector, count] = rows.at(i);
      ASSERT_EQ(count, updates[i]) << i;
      if (last[i] < 0) continue;
      for (int d = 0; d < kWidth; ++d) ASSERT_EQ(vector[d], static_cast<float>(last[i] + d)) << i;
    }
  }
}

// Blocks of new keys are inserted without a search for them: present and repeated ones among them
// are found, and a snapshot that began before keeps their old rows.
TEST(UpsertTest, PresentKeysAmongManyNewOnesAreUpdated) {
  constexpr int kDim = 5;
  InlineExecutor executor;
  std::mt19937_64 random(3);
  for (const int new_of_ten : {10, 6, 4}) {
    SCOPED_TRACE(new_of_ten);
    const auto table = MakeTable(kDim);
    Rows model;
    int64_t fresh = 0;
    const auto upsert = [&](int64_t n) {
      std::vector<int64_t> keys(n);
      std::vector<float> values;
      for (int64_t& key : keys) {
        const bool is_new = fresh == 0 || static_cast<int>(random() % 10) < new_of_ten;
        key = is_new ? fresh++ : static_cast<int64_t>(random() % fresh);
        const Vector value(kDim, static_cast<float>(random() % 1000));
        values.insert(values.end(), value.begin(), value.end());
        model[key].first = value;
        ++model[key].second;
      }
      ASSERT_STATUS_OK(table->Upsert(keys.data(), n, values.data(), &executor));
    };
    for (const int64_t n : {1, 1024, 1025, 4000}) upsert(n);
    EXPECT_EQ(ReadAll(table->BeginSnapshot().get()), model);
    const Rows before = model;
    {
      const auto snapshot = table->BeginSnapshot();
      upsert(3000);
      EXPECT_EQ(ReadAll(snapshot.get()), before);
    }
    EXPECT_EQ(ReadAll(table->BeginSnapshot().get()), model);
  }
}

}  // namespace
}  // namespace embedding
}  // namespace taco
