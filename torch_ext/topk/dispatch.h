// The kernels of the instruction set that this process uses.
#ifndef TORCH_EXT_TOPK_DISPATCH_H_
#define TORCH_EXT_TOPK_DISPATCH_H_

#include "torch_ext/topk/kernels.h"

namespace taco {
namespace topk {

MarkFn GetMark(base::ValueType grad, bool with_velocity);
MarkFn GetMarkResidual();

}  // namespace topk
}  // namespace taco

#endif  // TORCH_EXT_TOPK_DISPATCH_H_
