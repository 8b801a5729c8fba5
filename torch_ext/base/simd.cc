#include "torch_ext/base/simd.h"

#include <algorithm>
#include <cstdlib>
#include <string>

namespace taco {
namespace base {

Simd CpuSimd() {
  __builtin_cpu_init();
  // Every CPU with these also has what else x86-64-v3 names (F16C, LZCNT, MOVBE).
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  if (!v3) return Simd::kBaseline;
  const bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  return v4 ? Simd::kAvx512 : Simd::kAvx2;
}

Simd ActiveSimd() {
  static const Simd level = [] {
    const char* wish = std::getenv("TACO_SIMD");
    const std::string name = wish == nullptr ? "" : wish;
    if (name == "baseline") return Simd::kBaseline;
    if (name == "avx2") return std::min(Simd::kAvx2, CpuSimd());
    return CpuSimd();
  }();
  return level;
}

const char* NameOf(Simd level) {
  switch (level) {
    case Simd::kBaseline:
      return "baseline";
    case Simd::kAvx2:
      return "avx2";
    case Simd::kAvx512:
      return "avx512";
  }
  return "";
}

}  // namespace base
}  // namespace taco
