// What a run has found, as lines for people and as JSON.
#ifndef NCCL_PLUGIN_TOOLS_HARP_CHECK_REPORT_H_
#define NCCL_PLUGIN_TOOLS_HARP_CHECK_REPORT_H_

#include <string>
#include <vector>

#include "nccl_plugin/tools/harp_check/runner.h"

namespace taco {
namespace harp {

struct Report {
  std::string plugin;
  std::vector<int> versions;  // that it exports, of those asked for
  std::vector<int> missing;   // that it does not
  std::vector<std::string> warnings;
  std::vector<Outcome> outcomes;

  int Count(bool passed) const;
};

// "v8 dev0 short ok 12 ms", and what went wrong.
std::string ToLine(const Outcome& outcome);
std::string ToSummary(const Report& report);
std::string ToJson(const Report& report);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_CHECK_REPORT_H_
