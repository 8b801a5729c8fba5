// The kernels, compiled for the CPU: what tests load. One function runs a kernel by its name.

#include <cstring>

#include "torch_ext/cuda/accumulate.cu"
#include "torch_ext/cuda/fuse.cu"
#include "torch_ext/cuda/topk_pass.cu"
#include "torch_ext/cuda/topk_select.cu"

namespace {

using taco::cuda::Emulate;

struct Size {
  const char* name;
  uint64_t bytes;
};
constexpr Size kSizes[] = {
    {"Control", sizeof(taco::cuda::Control)},
    {"Run", sizeof(taco::cuda::Run)},
    {"TopkStep", sizeof(taco::cuda::TopkStep)},
    {"Mailbox", sizeof(taco::cuda::Mailbox)},
    {"AccumulateStep", sizeof(taco::cuda::AccumulateStep)},
    {"FuseStep", sizeof(taco::cuda::FuseStep)},
};

template <class Argument>
bool RunIf(const char* wanted, const char* name, void (*kernel)(Argument), uint32_t blocks,
           const void* argument, int order) {
  if (std::strcmp(wanted, name) != 0) return false;
  Argument copy;
  std::memcpy(&copy, argument, sizeof copy);
  Emulate<Argument>(kernel, blocks, copy, order);
  return true;
}

}  // namespace

#define TACO_RUN_IF(kernel) RunIf(name, #kernel, kernel, blocks, argument, order)

// Runs a kernel; false if there is none of this name. order: 0 forwards, 1 backwards, 2 scrambled.
extern "C" bool taco_emulate(const char* name, uint32_t blocks, const void* argument, int order) {
  return TACO_RUN_IF(topk_sample) || TACO_RUN_IF(topk_pass) || TACO_RUN_IF(topk_put_back) ||
         TACO_RUN_IF(topk_digits) || TACO_RUN_IF(topk_count) || TACO_RUN_IF(topk_emit) ||
         TACO_RUN_IF(accumulate_check) || TACO_RUN_IF(accumulate_add) || TACO_RUN_IF(fuse_transfer);
}

// Bytes of a structure of the kernels; 0 if there is none of this name.
extern "C" uint64_t taco_emulated_size(const char* name) {
  for (const Size& size : kSizes) {
    if (std::strcmp(size.name, name) == 0) return size.bytes;
  }
  return 0;
}
