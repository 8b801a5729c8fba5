// How fast messages go: many under way, or one to and fro.
#ifndef NCCL_PLUGIN_TOOLS_HARP_PERF_MEASURE_H_
#define NCCL_PLUGIN_TOOLS_HARP_PERF_MEASURE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "nccl_plugin/tools/harp_perf/transport.h"

namespace taco {
namespace harp {

struct Throughput {
  uint64_t messages = 0;
  double seconds = 0;
  // Of this end: the time of processors that its process was charged, in seconds and in cycles of
  // their time stamp counter, whose rate is that of the same seconds.
  double processor_seconds = 0;
  double processor_cycles = 0;
  std::optional<Costs> costs;

  // Two parts of one measurement, one after the other.
  Throughput& operator+=(const Throughput& next);
};

// So many messages of `size`, `depth` under way: this end sends or receives them. A receiver looks
// at the first and last bytes of each.
Throughput Stream(Line* line, bool sends, size_t size, uint64_t messages, int depth);

// One message there and one back, `rounds` times; the nanoseconds of each. The side that does not
// begin gives an empty list.
std::vector<int64_t> PingPong(Line* out, Line* in, bool begins, size_t size, uint64_t rounds);

// Reads the clock until `ns` have passed, `rounds` times; the nanoseconds that each took. What is
// more than `ns` is time in which the thread did not run, or the processor did something else.
std::vector<int64_t> ClockLoops(int64_t ns, uint64_t rounds);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_PERF_MEASURE_H_
