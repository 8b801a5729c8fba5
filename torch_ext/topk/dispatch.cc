#include "torch_ext/topk/dispatch.h"

#include "torch_ext/base/simd.h"

namespace taco {
namespace topk {

MarkFn GetMark(base::ValueType grad, bool with_velocity) {
  switch (base::ActiveSimd()) {
    case base::Simd::kAvx512:
      return v4::MarkKernel(grad, with_velocity);
    case base::Simd::kAvx2:
      return v3::MarkKernel(grad, with_velocity);
    default:
      return v2::MarkKernel(grad, with_velocity);
  }
}

MarkFn GetMarkResidual() {
  switch (base::ActiveSimd()) {
    case base::Simd::kAvx512:
      return v4::MarkResidualKernel();
    case base::Simd::kAvx2:
      return v3::MarkResidualKernel();
    default:
      return v2::MarkResidualKernel();
  }
}

}  // namespace topk
}  // namespace taco
