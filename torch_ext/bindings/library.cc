// The ops' schemas. docs/lightcc_ops.md is their reference; the kernels stand in *_cpu.cc and
// meta.cc.

#include <torch/library.h>
#include <torch/version.h>

#include <string>

#include "torch_ext/base/simd.h"

#ifndef TACO_VERSION
#error "compile with taco_torch_cc_library"
#endif

TORCH_LIBRARY(taco, m) {
  m.def(
      "topk_compress(Tensor grad, Tensor(a!) residual, Tensor(b!) state, SymInt k, *, "
      "float scale=1.0, bool exact=False, ScalarType? values_dtype=None, "
      "Tensor(c!)? velocity=None, float momentum=0.0) "
      "-> (Tensor indices, Tensor values, Tensor count)");
  m.def("topk_decompress(Tensor indices, Tensor values, SymInt n, *, float scale=1.0) -> Tensor");
  m.def(
      "topk_accumulate_(Tensor(a!) out, Tensor[] indices, Tensor[] values, *, float scale=1.0) "
      "-> ()");
  m.def("fuse(Tensor[] tensors, Tensor(a!) buffer, *, float scale=1.0) -> ()");
  m.def("unfuse(Tensor buffer, Tensor(a!)[] tensors, *, float scale=1.0) -> ()");
  // What the library says of itself, as JSON: taco doctor shows it.
  m.def("build_info() -> str", []() -> std::string {
    const std::string simd = taco::base::NameOf(taco::base::ActiveSimd());
    return "{\"taco\": \"" TACO_VERSION "\", \"torch_built\": \"" TORCH_VERSION "\", \"simd\": \"" +
           simd + "\"}";
  });
}
