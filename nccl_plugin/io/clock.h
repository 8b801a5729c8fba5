// Nanoseconds that never go back.
#ifndef NCCL_PLUGIN_IO_CLOCK_H_
#define NCCL_PLUGIN_IO_CLOCK_H_

#include <time.h>

#include <cstdint>

namespace taco {
namespace harp {

inline int64_t Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_CLOCK_H_
