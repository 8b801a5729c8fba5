#include "tests/build/smoke/core.h"
#include "tests/build/smoke/kernels.h"
namespace smoke {
float Sum(const std::vector<float>& v) {
  if (__builtin_cpu_supports("avx512bw")) return v4::Sum(v);
  if (__builtin_cpu_supports("avx2")) return v3::Sum(v);
  return v2::Sum(v);
}
std::string Level() {
  if (__builtin_cpu_supports("avx512bw")) return v4::Name();
  if (__builtin_cpu_supports("avx2")) return v3::Name();
  return v2::Name();
}
}
