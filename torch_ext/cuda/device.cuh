// What the kernels of this folder are written in, on a GPU; emulation.h is the same on a CPU.
//
// NVRTC compiles the files of python/taco/lightcc/cuda/_source.py as one text, at run time, without
// any header: what the shared headers of base/ and topk/ want of the standard library stands here.
// Every function is one of the device (--device-as-default-execution-space), and no multiplication
// is contracted with an addition (--fmad=false): results are those of the CPU, bit for bit.
//
// A kernel takes one structure, by value, runs with kThreads threads a block, and consists of
// phases:
//
//   EachThread([&](int t) { ... });     a barrier, the threads, a barrier
//
// Code between phases is run by every thread alike and may read shared memory, not write it. What
// a thread keeps from one phase to the next stands in shared memory: so the emulation can run a
// phase as a loop over the threads, in any order, and a result that depends on the order shows that
// a barrier is missing.
#ifndef TORCH_EXT_CUDA_DEVICE_CUH_
#define TORCH_EXT_CUDA_DEVICE_CUH_

#ifdef __CUDACC_RTC__

using uint8_t = unsigned char;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;

namespace std {
using ::memcpy;
template <class T>
constexpr const T& min(const T& a, const T& b) {
  return b < a ? b : a;
}
template <class T>
constexpr const T& max(const T& a, const T& b) {
  return a < b ? b : a;
}
}  // namespace std

#define TACO_UNROLL _Pragma("unroll")
#define TACO_KERNEL extern "C" __global__ void __launch_bounds__(256)

namespace taco {
namespace cuda {

constexpr int kThreads = 256;

inline uint32_t BlockIndex() { return blockIdx.x; }
inline uint32_t NumBlocks() { return gridDim.x; }

template <class Body>
inline void EachThread(const Body& body) {
  __syncthreads();
  body(static_cast<int>(threadIdx.x));
  __syncthreads();
}

// Each returns what was there before.
inline uint32_t AtomicAdd(uint32_t* at, uint32_t by) { return atomicAdd(at, by); }
inline uint64_t AtomicAdd(uint64_t* at, uint64_t by) { return atomicAdd(at, by); }
inline uint64_t AtomicMax(uint64_t* at, uint64_t with) { return atomicMax(at, with); }

// What this thread wrote before is seen by whoever sees what it writes after: on the device, and on
// the host too.
inline void Fence() { __threadfence(); }
inline void FenceOfSystem() { __threadfence_system(); }

}  // namespace cuda
}  // namespace taco

#else
#include "torch_ext/cuda/emulation.h"
#endif  // __CUDACC_RTC__

#endif  // TORCH_EXT_CUDA_DEVICE_CUH_
