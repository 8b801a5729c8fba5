#include "torch_ext/topk/accumulate.h"

#include "gtest/gtest.h"
#include "torch_ext/base/threads_for_test.h"
#include "torch_ext/topk/reference_for_test.h"

namespace taco {
namespace topk {
namespace {

using base::ValueType;

struct List {
  std::vector<int32_t> indices;
  Floats values;
  PackedList view() const {
    PackedList made;
    made.indices = indices.data();
    made.values = values.data();
    made.count = static_cast<int64_t>(indices.size());
    return made;
  }
};

std::vector<List> MakeLists(int ranks, int64_t n, int64_t count, bool ascending) {
  std::mt19937 random(static_cast<unsigned>(ranks));
  std::normal_distribution<float> normal;
  std::vector<List> lists(ranks);
  for (List& list : lists) {
    for (int64_t i = 0; i < count; ++i) {
      list.indices.push_back(static_cast<int32_t>(random() % n));
      list.values.push_back(normal(random));
    }
    if (ascending) std::sort(list.indices.begin(), list.indices.end());
  }
  return lists;
}

TEST(AccumulateTest, SumsByRankThenPositionWhateverTheThreads) {
  for (const bool ascending : {true, false}) {
    for (const int ranks : {0, 1, 7}) {
      const int64_t n = 5000;
      const std::vector<List> lists = MakeLists(ranks, n, 20000, ascending);
      Floats wanted(n, 0.5f);
      std::vector<PackedList> views;
      for (const List& list : lists) {
        views.push_back(list.view());
        for (size_t i = 0; i < list.indices.size(); ++i) {
          const float scaled = list.values[i] * 0.3f;
          wanted[list.indices[i]] += scaled;
        }
      }
      for (const int threads : {1, 2, 5}) {
        base::ThreadsForTest executor(threads);
        Floats out(n, 0.5f);
        ASSERT_TRUE(Accumulate(views.data(), ranks, 0.3f, n, &executor, out.data()).ok());
        ASSERT_EQ(out, wanted);
      }
    }
  }
}

TEST(AccumulateTest, SixteenBitValuesAreReadAsTheyWereRounded) {
  base::InlineExecutor executor;
  const int32_t indices[] = {0, 2};
  const uint16_t halves[] = {base::ToFloat16(1.5f), base::ToFloat16(-2.0f)};
  const uint16_t brains[] = {base::ToBFloat16(4.0f), base::ToBFloat16(8.0f)};
  const PackedList lists[] = {{indices, halves, ValueType::kFloat16, 2},
                              {indices, brains, ValueType::kBFloat16, 2}};
  Floats out(3, 0.0f);
  ASSERT_TRUE(Accumulate(lists, 2, 1.0f, 3, &executor, out.data()).ok());
  EXPECT_EQ(out, (Floats{5.5f, 0.0f, 6.0f}));
}

TEST(AccumulateTest, AnIndexOutOfRangeIsAnErrorAndNothingIsWritten) {
  base::InlineExecutor executor;
  for (const int32_t bad : {-1, 3, INT32_MIN, INT32_MAX}) {
    const List good{{0, 1}, {1.0f, 1.0f}};
    const List list{{0, bad}, {1.0f, 1.0f}};
    const PackedList views[] = {good.view(), list.view()};
    Floats out(3, 0.0f);
    const base::Status status = Accumulate(views, 2, 1.0f, 3, &executor, out.data());
    EXPECT_EQ(status.code(), base::StatusCode::kDataLoss);
    EXPECT_NE(status.message().find("list 1, position 1"), std::string::npos);
    EXPECT_NE(status.message().find(std::to_string(bad)), std::string::npos);
    EXPECT_EQ(out, Floats(3, 0.0f));
  }
}

}  // namespace
}  // namespace topk
}  // namespace taco
