// Round trips: how long they take, and what the machine itself does to so short a time.
#ifndef NCCL_PLUGIN_TOOLS_HARP_PERF_PINGS_H_
#define NCCL_PLUGIN_TOOLS_HARP_PERF_PINGS_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "nccl_plugin/tools/harp_perf/control.h"
#include "nccl_plugin/tools/harp_perf/report.h"
#include "nccl_plugin/tools/harp_perf/transport.h"

namespace taco {
namespace harp {

// Of sorted values.
int64_t Percentile(const std::vector<int64_t>& sorted, double part);

// Sorted nanoseconds by bounds of microseconds, each a quarter more than the last; those with none
// are left out.
std::vector<std::pair<double, uint64_t>> Histogram(const std::vector<int64_t>& sorted);

// As many round trips as `rounds`, and then as many times as long as half of them took, in which
// both sides do nothing but read the clock: the fields machine_... say how long those became.
// The side that begins writes the report.
void MeasurePings(Line* out, Line* in, const Control& control, bool begins, size_t bytes,
                  uint64_t rounds, bool histogram, Report* report);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_PERF_PINGS_H_
