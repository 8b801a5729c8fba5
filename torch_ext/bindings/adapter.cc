#include "torch_ext/bindings/adapter.h"

namespace taco {
namespace bindings {

base::ValueType ValueTypeOf(const char* op, const char* what, at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return base::ValueType::kFloat32;
    case at::kHalf:
      return base::ValueType::kFloat16;
    case at::kBFloat16:
      return base::ValueType::kBFloat16;
    default:
      TORCH_CHECK(false, "taco::", op, ": ", what, " is of dtype ", type,
                  "; float32, float16 and bfloat16 are supported. Cast it with .float().");
  }
}

void CheckPlain(const char* op, const char* what, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.device().is_cpu(), "taco::", op, ": ", what, " is on ", tensor.device(),
              " and the other tensors are on the CPU. Move it with .cpu().");
  TORCH_CHECK(tensor.layout() == at::kStrided && tensor.is_contiguous(), "taco::", op, ": ", what,
              " is not contiguous (sizes ", tensor.sizes(),
              "). Pass .contiguous(), or for what is "
              "written to, a tensor that was made contiguous.");
}

void CheckPlain(const char* op, const char* what, const at::Tensor& tensor, at::ScalarType type) {
  CheckPlain(op, what, tensor);
  TORCH_CHECK(tensor.scalar_type() == type, "taco::", op, ": ", what, " is of dtype ",
              tensor.scalar_type(), " and has to be of ", type,
              ". Cast it with .to(), or make it "
              "so.");
}

}  // namespace bindings
}  // namespace taco
