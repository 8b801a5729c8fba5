// Which of the three builds of the kernels (x86-64-v2, v3, v4) this process uses.
#ifndef TORCH_EXT_BASE_SIMD_H_
#define TORCH_EXT_BASE_SIMD_H_

namespace taco {
namespace base {

enum class Simd { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

// The best level that this CPU runs.
Simd CpuSimd();

// The level that the kernels are dispatched to: CpuSimd(), or less where TACO_SIMD in the
// environment says "baseline" or "avx2". Read once, at the first call. Thread-safe.
Simd ActiveSimd();

// "baseline", "avx2" or "avx512", as TACO_SIMD spells it.
const char* NameOf(Simd level);

}  // namespace base
}  // namespace taco

#endif  // TORCH_EXT_BASE_SIMD_H_
