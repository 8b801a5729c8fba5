// A model of processors' caches, which counts what code that is compiled for it does.
//
// GCC's -fsanitize=thread puts a call before each access to memory. Here these calls do not look
// for races: caches.cc defines them, and looks up the line in the caches of the processor that the
// thread plays at the moment. So one thread plays any number of processors, in turns, always the
// same way, and no counter of hardware is needed.
//
//   each processor: first level 48 KiB, 12 ways; second 1 MiB, 16 ways; least recently used goes
//   a write: takes the line from all the others
//
// memcpy, memmove and memset count by the linker's --wrap.
#ifndef NCCL_PLUGIN_ENGINE_SCALING_CACHES_H_
#define NCCL_PLUGIN_ENGINE_SCALING_CACHES_H_

#include <cstddef>
#include <cstdint>

namespace taco {
namespace harp {

struct CacheCounts {
  uint64_t accesses = 0;
  uint64_t first_misses = 0;
  uint64_t second_misses = 0;  // of these
  uint64_t taken = 0;          // lines that it had, and another one wrote since
  uint64_t upgrades = 0;       // lines that it wrote and others had

  // What an access costs at least; a line from the second level, from memory or the third, and from
  // another processor: round figures of server processors of the last years.
  uint64_t cycles() const {
    return accesses + 14 * first_misses + 50 * (second_misses - taken) + 120 * (taken + upgrades);
  }
};

inline constexpr int kMostProcessors = 64;

// What is accessed from now on is by this processor; -1: by nobody, and counts not.
void PlayProcessor(int processor);
// No cache has these bytes any more, as when a device has written them.
void WrittenByDevice(const void* bytes, size_t size);
CacheCounts CountsOf(int processor);
// All caches are empty, and all counts 0.
void ForgetCaches();

// While one lives its thread plays nobody.
class Unwatched {
 public:
  Unwatched();
  ~Unwatched();
  Unwatched(const Unwatched&) = delete;
  Unwatched& operator=(const Unwatched&) = delete;

 private:
  const int before_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ENGINE_SCALING_CACHES_H_
