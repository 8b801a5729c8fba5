#include <ATen/ATen.h>

#include <vector>

#include "torch_ext/bindings/adapter.h"
#include "torch_ext/fusion/fuse.h"

namespace taco {
namespace bindings {
namespace {

using Kind = fusion::Element::Kind;

fusion::Element ElementOf(const at::Tensor& tensor) {
  fusion::Element element;
  element.size = static_cast<int>(tensor.element_size());
  element.id = static_cast<int>(tensor.scalar_type());
  switch (tensor.scalar_type()) {
    case at::kFloat:
      element.kind = Kind::kFloat32;
      break;
    case at::kHalf:
      element.kind = Kind::kFloat16;
      break;
    case at::kBFloat16:
      element.kind = Kind::kBFloat16;
      break;
    case at::kDouble:
      element.kind = Kind::kFloat64;
      break;
    default:
      element.kind = Kind::kOther;
  }
  return element;
}

// Fusion only writes through `data` of what its caller declared as written to.
fusion::Segment SegmentOf(const char* op, const char* what, const at::Tensor& tensor,
                          bool written) {
  CheckPlain(op, what, tensor);
  fusion::Segment segment;
  segment.data = written ? tensor.mutable_data_ptr() : const_cast<void*>(tensor.const_data_ptr());
  segment.count = tensor.numel();
  segment.element = ElementOf(tensor);
  return segment;
}

std::vector<fusion::Segment> SegmentsOf(const char* op, at::TensorList tensors, bool written) {
  std::vector<fusion::Segment> segments;
  segments.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors) {
    segments.push_back(SegmentOf(op, "a tensor of the list", tensor, written));
  }
  return segments;
}

void Fuse(at::TensorList tensors, const at::Tensor& buffer, double scale) {
  const auto segments = SegmentsOf("fuse", tensors, false);
  TorchExecutor executor;
  ThrowIfError("fuse", fusion::Fuse(segments.data(), static_cast<int64_t>(segments.size()),
                                    static_cast<float>(scale), &executor,
                                    SegmentOf("fuse", "buffer", buffer, true)));
}

void Unfuse(const at::Tensor& buffer, at::TensorList tensors, double scale) {
  const auto segments = SegmentsOf("unfuse", tensors, true);
  TorchExecutor executor;
  ThrowIfError("unfuse", fusion::Unfuse(SegmentOf("unfuse", "buffer", buffer, false),
                                        static_cast<float>(scale), &executor, segments.data(),
                                        static_cast<int64_t>(segments.size())));
}

}  // namespace

TORCH_LIBRARY_IMPL(taco, CPU, m) {
  m.impl("fuse", Fuse);
  m.impl("unfuse", Unfuse);
}

}  // namespace bindings
}  // namespace taco
