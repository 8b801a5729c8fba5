// The kernels behind initializer.h, compiled once per instruction set: x86-64-v2, v3 and v4. They
// differ in speed alone: every level gives the same bits (initializer_test.cc compares them).
#ifndef TF_OPS_EMBEDDING_TABLE_INITIALIZER_KERNELS_H_
#define TF_OPS_EMBEDDING_TABLE_INITIALIZER_KERNELS_H_

#include <cstdint>

#include "tf_ops/embedding/table/initializer.h"

namespace taco {
namespace embedding {

namespace v2 {
void InitializeKernel(const InitializerSpec& spec, uint64_t stream, ValueType type, int dim,
                      void* vector);
}
namespace v3 {
void InitializeKernel(const InitializerSpec& spec, uint64_t stream, ValueType type, int dim,
                      void* vector);
}
namespace v4 {
void InitializeKernel(const InitializerSpec& spec, uint64_t stream, ValueType type, int dim,
                      void* vector);
}

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_INITIALIZER_KERNELS_H_
