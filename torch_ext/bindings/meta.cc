// Shapes and dtypes without data: what torch.compile and fake tensors ask for.

#include <ATen/ATen.h>

#include <tuple>

#include "torch_ext/bindings/adapter.h"

namespace taco {
namespace bindings {
namespace {

// As topk::Capacity, for sizes that are not known yet. 0 <= k <= n, which the CPU kernel checks.
c10::SymInt Capacity(const c10::SymInt& n, const c10::SymInt& k, bool exact) {
  return exact ? k : n.min(k + k / 3);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> TopkCompress(
    const at::Tensor& grad, const at::Tensor&, const at::Tensor&, c10::SymInt k, double, bool exact,
    std::optional<at::ScalarType> values_dtype, const std::optional<at::Tensor>&, double) {
  const c10::SymInt capacity = Capacity(grad.sym_numel(), k, exact);
  const at::ScalarType dtype = values_dtype.value_or(grad.scalar_type());
  ValueTypeOf("topk_compress", "grad", grad.scalar_type());
  ValueTypeOf("topk_compress", "values_dtype", dtype);
  return {at::empty_symint({capacity}, grad.options().dtype(at::kInt)),
          at::empty_symint({capacity}, grad.options().dtype(dtype)),
          at::empty({}, grad.options().dtype(at::kLong))};
}

at::Tensor TopkDecompress(const at::Tensor&, const at::Tensor& values, c10::SymInt n, double) {
  return at::empty_symint({n}, values.options().dtype(at::kFloat));
}

void TopkAccumulate(const at::Tensor&, at::TensorList, at::TensorList, double) {}

void Fuse(at::TensorList, const at::Tensor&, double) {}

void Unfuse(const at::Tensor&, at::TensorList, double) {}

}  // namespace

TORCH_LIBRARY_IMPL(taco, Meta, m) {
  m.impl("topk_compress", TopkCompress);
  m.impl("topk_decompress", TopkDecompress);
  m.impl("topk_accumulate_", TopkAccumulate);
  m.impl("fuse", Fuse);
  m.impl("unfuse", Unfuse);
}

}  // namespace bindings
}  // namespace taco
