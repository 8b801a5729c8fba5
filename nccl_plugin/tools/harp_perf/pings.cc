#include "nccl_plugin/tools/harp_perf/pings.h"

#include <algorithm>
#include <string>

#include "nccl_plugin/tools/harp_perf/measure.h"

namespace taco {
namespace harp {
namespace {

void AddPercentiles(const char* prefix, const std::vector<int64_t>& sorted, Report* report) {
  const auto add = [&](const char* name, double part, const char* unit) {
    const double us = 1e-3 * static_cast<double>(Percentile(sorted, part));
    report->Add((std::string(prefix) + name).c_str(), us, 1, unit);
  };
  add("p50_us", 0.5, "us (p50),");
  add("p99_us", 0.99, "us (p99),");
  add("p999_us", 0.999, "us (p99.9)");
}

}  // namespace

int64_t Percentile(const std::vector<int64_t>& sorted, double part) {
  return sorted[std::min(sorted.size() - 1, static_cast<size_t>(part * sorted.size()))];
}

std::vector<std::pair<double, uint64_t>> Histogram(const std::vector<int64_t>& sorted) {
  std::vector<std::pair<double, uint64_t>> counts;
  double bound = 1;
  for (const int64_t ns : sorted) {
    while (1e-3 * static_cast<double>(ns) >= bound) bound *= 1.25;
    if (counts.empty() || counts.back().first != bound) counts.emplace_back(bound, 0);
    ++counts.back().second;
  }
  return counts;
}

void MeasurePings(Line* out, Line* in, const Control& control, bool begins, size_t bytes,
                  uint64_t rounds, bool histogram, Report* report) {
  control.Meet();
  PingPong(out, in, begins, bytes, 200);
  control.Meet();
  std::vector<int64_t> times = PingPong(out, in, begins, bytes, rounds);
  std::sort(times.begin(), times.end());
  int64_t half = begins ? Percentile(times, 0.5) : 0;
  if (begins) control.PutLine(std::to_string(half));
  if (!begins) half = std::stoll(control.GetLine());
  // What keeps either side from its work makes a round trip longer.
  std::vector<int64_t> machine = ClockLoops(half, rounds);
  const std::vector<int64_t> theirs = control.Swap(machine);
  if (!begins) return;
  for (size_t round = 0; round < machine.size(); ++round) machine[round] += theirs[round] - half;
  std::sort(machine.begin(), machine.end());
  AddPercentiles("", times, report);
  report->Say("\n  a loop that reads the clock for as long:");
  AddPercentiles("machine_", machine, report);
  if (histogram) report->AddHistogram(Histogram(times));
}

}  // namespace harp
}  // namespace taco
