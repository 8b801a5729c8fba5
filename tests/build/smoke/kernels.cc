#include "tests/build/smoke/kernels.h"
#include <string>
#define STR2(x) #x
#define STR(x) STR2(x)
namespace smoke::TACO_SIMD_NAMESPACE {
float Sum(const std::vector<float>& v) {
  std::vector<float> w;
  for (float x : v) w.push_back(x * 2 + 1);
  float s = 0;
  for (float x : w) s += x;
  return s;
}
const char* Name() { return STR(TACO_SIMD_NAMESPACE); }
}
