#include <ATen/ATen.h>

#include <tuple>
#include <vector>

#include "torch_ext/bindings/adapter.h"
#include "torch_ext/topk/accumulate.h"
#include "torch_ext/topk/compress.h"

namespace taco {
namespace bindings {
namespace {

constexpr int64_t kStateSize = 8;

// The state tensor holds the core's State, field by field.
topk::State ReadState(const at::Tensor& tensor) {
  const double* field = tensor.const_data_ptr<double>();
  topk::State state;
  state.threshold = static_cast<float>(field[0]);
  state.steps = static_cast<int64_t>(field[1]);
  state.misses = static_cast<int64_t>(field[2]);
  state.fitting = static_cast<float>(field[3]);
  return state;
}

void WriteState(const topk::State& state, const at::Tensor& tensor) {
  double* field = tensor.mutable_data_ptr<double>();
  field[0] = static_cast<double>(state.threshold);
  field[1] = static_cast<double>(state.steps);
  field[2] = static_cast<double>(state.misses);
  field[3] = static_cast<double>(state.fitting);
  field[4] = static_cast<double>(state.passes);
  field[5] = static_cast<double>(state.sent);
  field[6] = state.input_sq;
  field[7] = state.residual_sq;
}

void CheckCompanion(const char* op, const char* what, const at::Tensor& tensor, int64_t n) {
  CheckPlain(op, what, tensor, at::kFloat);
  TORCH_CHECK(tensor.numel() == n, "taco::", op, ": ", what, " has ", tensor.numel(),
              " elements and grad ", n, ". Make it with torch.zeros(grad.numel()).");
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> TopkCompress(
    const at::Tensor& grad, const at::Tensor& residual, const at::Tensor& state, int64_t k,
    double scale, bool exact, std::optional<at::ScalarType> values_dtype,
    const std::optional<at::Tensor>& velocity, double momentum) {
  constexpr const char* kOp = "topk_compress";
  CheckPlain(kOp, "grad", grad);
  const int64_t n = grad.numel();
  CheckCompanion(kOp, "residual", residual, n);
  CheckPlain(kOp, "state", state, at::kDouble);
  TORCH_CHECK(state.numel() == kStateSize, "taco::topk_compress: state has ", state.numel(),
              " elements and has to have ", kStateSize,
              ". Make it with torch.zeros(8, dtype=torch.float64).");
  topk::CompressInput input;
  input.n = n;
  input.grad = grad.const_data_ptr();
  input.grad_type = ValueTypeOf(kOp, "grad", grad.scalar_type());
  input.residual = residual.mutable_data_ptr<float>();
  input.scale = static_cast<float>(scale);
  input.momentum = static_cast<float>(momentum);
  if (velocity.has_value()) {
    CheckCompanion(kOp, "velocity", *velocity, n);
    input.velocity = velocity->mutable_data_ptr<float>();
  }
  TORCH_CHECK(velocity.has_value() || momentum == 0.0, "taco::topk_compress: momentum is ",
              momentum,
              " and there is no velocity. Pass velocity=torch.zeros(grad.numel()) and keep it.");
  TORCH_CHECK(k >= 0 && k <= n, "taco::topk_compress: k is ", k, " and grad has ", n,
              " elements: k must be from 0 to that number.");
  const at::ScalarType dtype = values_dtype.value_or(grad.scalar_type());
  topk::Packed packed;
  packed.value_type = ValueTypeOf(kOp, "values_dtype", dtype);
  const int64_t capacity = topk::Capacity(n, k, exact);
  at::Tensor indices = at::empty({capacity}, grad.options().dtype(at::kInt));
  at::Tensor values = at::empty({capacity}, grad.options().dtype(dtype));
  packed.indices = indices.mutable_data_ptr<int32_t>();
  packed.values = values.mutable_data_ptr();
  topk::State carried = ReadState(state);
  TorchExecutor executor;
  ThrowIfError(kOp, topk::Compress(input, k, exact, &executor, &carried, &packed));
  WriteState(carried, state);
  at::Tensor count = at::empty({}, grad.options().dtype(at::kLong));
  *count.mutable_data_ptr<int64_t>() = packed.count;
  return {indices, values, count};
}

topk::PackedList ListOf(const char* op, const at::Tensor& indices, const at::Tensor& values) {
  CheckPlain(op, "indices", indices, at::kInt);
  CheckPlain(op, "values", values);
  TORCH_CHECK(indices.numel() == values.numel(), "taco::", op, ": ", indices.numel(),
              " indices and ", values.numel(), " values: pass as many of each.");
  topk::PackedList list;
  list.indices = indices.const_data_ptr<int32_t>();
  list.values = values.const_data_ptr();
  list.value_type = ValueTypeOf(op, "values", values.scalar_type());
  list.count = indices.numel();
  return list;
}

void Accumulate(const char* op, const std::vector<topk::PackedList>& lists, double scale,
                const at::Tensor& out) {
  TorchExecutor executor;
  ThrowIfError(op, topk::Accumulate(lists.data(), static_cast<int64_t>(lists.size()),
                                    static_cast<float>(scale), out.numel(), &executor,
                                    out.mutable_data_ptr<float>()));
}

at::Tensor TopkDecompress(const at::Tensor& indices, const at::Tensor& values, int64_t n,
                          double scale) {
  constexpr const char* kOp = "topk_decompress";
  TORCH_CHECK(n >= 0, "taco::topk_decompress: n is ", n, " and must not be negative.");
  const std::vector<topk::PackedList> lists = {ListOf(kOp, indices, values)};
  at::Tensor out = at::zeros({n}, values.options().dtype(at::kFloat));
  Accumulate(kOp, lists, scale, out);
  return out;
}

void TopkAccumulate(const at::Tensor& out, at::TensorList indices, at::TensorList values,
                    double scale) {
  constexpr const char* kOp = "topk_accumulate_";
  CheckPlain(kOp, "out", out, at::kFloat);
  TORCH_CHECK(indices.size() == values.size(), "taco::topk_accumulate_: ", indices.size(),
              " lists of indices and ", values.size(), " of values: pass as many of each.");
  std::vector<topk::PackedList> lists;
  lists.reserve(indices.size());
  for (size_t i = 0; i < indices.size(); ++i) lists.push_back(ListOf(kOp, indices[i], values[i]));
  Accumulate(kOp, lists, scale, out);
}

}  // namespace

TORCH_LIBRARY_IMPL(taco, CPU, m) {
  m.impl("topk_compress", TopkCompress);
  m.impl("topk_decompress", TopkDecompress);
  m.impl("topk_accumulate_", TopkAccumulate);
}

}  // namespace bindings
}  // namespace taco
