// What the core's tests share: threads for batch calls, a table with sensible defaults.
#ifndef TF_OPS_EMBEDDING_TABLE_TEST_UTIL_H_
#define TF_OPS_EMBEDDING_TABLE_TEST_UTIL_H_

#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tf_ops/embedding/table/executor.h"
#include "tf_ops/embedding/table/table.h"

namespace taco {
namespace embedding {

// Starts threads for each Run: slow, and every interleaving is possible.
class ThreadedExecutor final : public Executor {
 public:
  explicit ThreadedExecutor(int threads) : threads_(threads) {}
  int parallelism() const override { return threads_; }
  void Run(int64_t count, const std::function<void(int64_t)>& task) override {
    std::atomic<int64_t> next{0};
    const auto work = [&] {
      for (int64_t i = next++; i < count; i = next++) task(i);
    };
    std::vector<std::thread> helpers;
    for (int t = 1; t < threads_; ++t) helpers.emplace_back(work);
    work();
    for (std::thread& helper : helpers) helper.join();
  }

 private:
  const int threads_;
};

inline std::unique_ptr<Table> MakeTable(int dim, OptimizerKind kind = OptimizerKind::kNone,
                                        ValueType type = ValueType::kFloat32) {
  TableOptions options;
  options.name = "test";
  options.dim = dim;
  options.value_type = type;
  options.initializer = {InitializerKind::kUniform, -1.0f, 1.0f, 7};
  options.optimizer.kind = kind;
  std::unique_ptr<Table> table;
  const Status status = Table::Create(options, &table);
  EXPECT_TRUE(status.ok()) << status.message();
  return table;
}

// How many times more work than usual: `make soak` sets TACO_SOAK_SECONDS.
inline int64_t SoakFactor() {
  const char* seconds = std::getenv("TACO_SOAK_SECONDS");
  return seconds == nullptr ? 1 : 1 + std::atoll(seconds) / 10;
}

#define ASSERT_STATUS_OK(expr)                        \
  do {                                                \
    const ::taco::embedding::Status taco_s_ = (expr); \
    ASSERT_TRUE(taco_s_.ok()) << taco_s_.message();   \
  } while (0)

#define EXPECT_STATUS_OK(expr)                        \
  do {                                                \
    const ::taco::embedding::Status taco_s_ = (expr); \
    EXPECT_TRUE(taco_s_.ok()) << taco_s_.message();   \
  } while (0)

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_TEST_UTIL_H_
