// What the variable REFERENCE_FAULT makes the reference plugin do wrong, for harp-check to find.
#ifndef NCCL_PLUGIN_TOOLS_HARP_CHECK_TESTING_FAULT_H_
#define NCCL_PLUGIN_TOOLS_HARP_CHECK_TESTING_FAULT_H_

#include <cstdlib>
#include <cstring>

namespace taco {
namespace harp {
namespace reference {

inline bool Fault(const char* name) {
  const char* fault = std::getenv("REFERENCE_FAULT");
  return fault != nullptr && std::strcmp(fault, name) == 0;
}

// With REFERENCE_SHY, two of three calls that may say "not yet" say so, which is right.
inline bool Shy() {
  static thread_local unsigned calls = 0;
  return std::getenv("REFERENCE_SHY") != nullptr && calls++ % 3 != 2;
}

}  // namespace reference
}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_CHECK_TESTING_FAULT_H_
