// The floating-point types of gradients and of what is sent.
#ifndef TORCH_EXT_BASE_VALUE_TYPE_H_
#define TORCH_EXT_BASE_VALUE_TYPE_H_

#include <cstddef>

namespace taco {
namespace base {

enum class ValueType { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2 };

inline constexpr int kNumValueTypes = 3;

inline size_t SizeOf(ValueType type) { return type == ValueType::kFloat32 ? 4 : 2; }

}  // namespace base
}  // namespace taco

#endif  // TORCH_EXT_BASE_VALUE_TYPE_H_
