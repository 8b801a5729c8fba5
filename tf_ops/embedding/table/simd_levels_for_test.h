// The instruction sets that this CPU runs, each with its own build of the kernels, so that a test
// can compare them.
#ifndef TF_OPS_EMBEDDING_TABLE_SIMD_LEVELS_FOR_TEST_H_
#define TF_OPS_EMBEDDING_TABLE_SIMD_LEVELS_FOR_TEST_H_

#include <vector>

#include "tf_ops/embedding/table/optimizer_kernels.h"
#include "tf_ops/embedding/table/simd.h"

namespace taco {
namespace embedding {

struct SimdLevelForTest {
  const char* name;
  decltype(&v2::UpdateRowKernel) update_row;
  decltype(&v2::LambDirectionKernel) lamb_direction;
  decltype(&v2::AddScaledKernel) add_scaled;
  decltype(&v2::LoadKernel) load;
  decltype(&v2::LoadAddKernel) load_add;
  decltype(&v2::StoreKernel) store;
};

// In the order of enum Simd. One alone on an old CPU: then there is nothing to compare.
inline std::vector<SimdLevelForTest> SimdLevelsForTest() {
  std::vector<SimdLevelForTest> levels = {{"v2", v2::UpdateRowKernel, v2::LambDirectionKernel,
                                           v2::AddScaledKernel, v2::LoadKernel, v2::LoadAddKernel,
                                           v2::StoreKernel}};
  if (CpuSimd() >= Simd::kAvx2) {
    levels.push_back({"v3", v3::UpdateRowKernel, v3::LambDirectionKernel, v3::AddScaledKernel,
                      v3::LoadKernel, v3::LoadAddKernel, v3::StoreKernel});
  }
  if (CpuSimd() >= Simd::kAvx512) {
    levels.push_back({"v4", v4::UpdateRowKernel, v4::LambDirectionKernel, v4::AddScaledKernel,
                      v4::LoadKernel, v4::LoadAddKernel, v4::StoreKernel});
  }
  return levels;
}

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_SIMD_LEVELS_FOR_TEST_H_
