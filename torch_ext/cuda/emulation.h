// device.cuh for a CPU: blocks and threads are loops, in an order that the test chooses.
//
// Single-threaded. Results that depend on the order are a defect of a kernel; emulated_test.cc and
// tests/torch_ext/cuda_emulated_test.py run several orders. What it cannot show: a kernel's speed,
// memory that two blocks see in different orders, and a compiler that reads the code otherwise.
#ifndef TORCH_EXT_CUDA_EMULATION_H_
#define TORCH_EXT_CUDA_EMULATION_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#define TACO_KERNEL extern "C" void
#define __grid_constant__
#define __shared__ static  // one block at a time
#define TACO_UNROLL

namespace taco {
namespace cuda {

constexpr int kThreads = 256;

struct Emulation {
  uint32_t block = 0;
  uint32_t blocks = 1;
  int order = 0;
};

inline Emulation emulation;

// The i-th to run of `count`, a power of two or in the first two orders any number.
inline uint32_t Ordered(int order, uint32_t i, uint32_t count) {
  if (order == 0) return i;
  if (order == 1) return count - 1 - i;
  return (i * 167 + 13) % count;  // coprime to 256
}

inline uint32_t BlockIndex() { return emulation.block; }
inline uint32_t NumBlocks() { return emulation.blocks; }

template <class Body>
inline void EachThread(const Body& body) {
  for (uint32_t i = 0; i < kThreads; ++i) {
    body(static_cast<int>(Ordered(emulation.order, i, kThreads)));
  }
}

template <class T>
inline T AtomicAdd(T* at, T by) {
  const T before = *at;
  *at += by;
  return before;
}
inline uint64_t AtomicMax(uint64_t* at, uint64_t with) {
  const uint64_t before = *at;
  *at = std::max(before, with);
  return before;
}

inline void Fence() {}
inline void FenceOfSystem() {}

// Runs a kernel: every block, one after the other.
template <class Argument>
void Emulate(void (*kernel)(Argument), uint32_t blocks, const Argument& argument, int order) {
  emulation = {0, blocks, order};
  for (uint32_t i = 0; i < blocks; ++i) {
    // Blocks need not be a power of two: the scrambled order of threads goes with a plain one.
    emulation.block = Ordered(std::min(order, 1), i, blocks);
    kernel(argument);
  }
}

}  // namespace cuda
}  // namespace taco

#endif  // TORCH_EXT_CUDA_EMULATION_H_
