// The kernels behind optimizer.h, compiled once per instruction set: x86-64-v2, v3 and v4. They
// differ in speed alone: every level gives the same bits (optimizer_test.cc compares them).
#ifndef TF_OPS_EMBEDDING_TABLE_OPTIMIZER_KERNELS_H_
#define TF_OPS_EMBEDDING_TABLE_OPTIMIZER_KERNELS_H_

#include "tf_ops/embedding/table/optimizer.h"

#define TACO_DECLARE_OPTIMIZER_KERNELS                                    \
  UpdateRowFn UpdateRowKernel(const OptimizerSpec& spec, ValueType type); \
  LambDirectionFn LambDirectionKernel(ValueType type);                    \
  AddScaledFn AddScaledKernel(ValueType type);                            \
  LoadFn LoadKernel(ValueType type);                                      \
  LoadFn LoadAddKernel(ValueType type);                                   \
  void StoreKernel(ValueType type, const float* in, void* out, int dim);

namespace taco {
namespace embedding {

// base^exponent by repeated squaring: the same bits on every machine, which libm does not promise.
inline double IntegerPower(double base, uint64_t exponent) {
  double result = 1.0;
  for (; exponent != 0; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
  }
  return result;
}

namespace v2 {
TACO_DECLARE_OPTIMIZER_KERNELS
}
namespace v3 {
TACO_DECLARE_OPTIMIZER_KERNELS
}
namespace v4 {
TACO_DECLARE_OPTIMIZER_KERNELS
}

}  // namespace embedding
}  // namespace taco

#undef TACO_DECLARE_OPTIMIZER_KERNELS

#endif  // TF_OPS_EMBEDDING_TABLE_OPTIMIZER_KERNELS_H_
