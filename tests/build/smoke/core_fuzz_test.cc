#include "tests/build/smoke/core.h"
#include <cstdint>
#include <cstddef>
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* d, size_t n) {
  std::vector<float> v(d, d + n); smoke::Sum(v);
  return 0;
}
