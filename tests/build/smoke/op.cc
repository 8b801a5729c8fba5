#include "tests/build/smoke/core.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
namespace smoke {
using namespace tensorflow;
REGISTER_OP("SmokeSum").Input("x: float").Output("y: float").SetShapeFn([](shape_inference::InferenceContext* c) { c->set_output(0, c->Scalar()); return absl::OkStatus(); });
class SmokeSum : public OpKernel {
 public:
  using OpKernel::OpKernel;
  void Compute(OpKernelContext* ctx) override {
    auto x = ctx->input(0).flat<float>();
    Tensor* y; OP_REQUIRES_OK(ctx, ctx->allocate_output(0, {}, &y));
    y->scalar<float>()() = Sum(std::vector<float>(x.data(), x.data() + x.size()));
  }
};
REGISTER_KERNEL_BUILDER(Name("SmokeSum").Device(DEVICE_CPU), SmokeSum);
}
static const char* kV __attribute__((used)) = TACO_VERSION " " TACO_TENSORFLOW_VERSION;
// sandboxed 11755
// local 8576
// sandboxed 31858
// local 13028
