// Runs each case in a process of its own, so that a crash or a hang is that case's failure alone.
#ifndef NCCL_PLUGIN_TOOLS_HARP_CHECK_RUNNER_H_
#define NCCL_PLUGIN_TOOLS_HARP_CHECK_RUNNER_H_

#include <functional>
#include <string>

#include "nccl_plugin/tools/harp_check/case.h"

namespace taco {
namespace harp {

enum class Verdict { kOk, kSkipped, kFailed, kCrashed, kHung };

const char* ToText(Verdict verdict);

struct Outcome {
  int version = 0;
  int dev = -1;  // -1: of the version as a whole
  std::string name;
  Verdict verdict = Verdict::kOk;
  double ms = 0;
  std::string cause;  // empty where it is ok
  std::string state;  // lines that tell where every side was, after a crash or a hang

  bool Passed() const { return verdict == Verdict::kOk || verdict == Verdict::kSkipped; }
};

// Runs `body` in a process of its own, for so long at most. version, dev and name are the caller's
// to set. Not while other threads of this process run.
Outcome RunApart(const std::function<void()>& body, double seconds);

// What one version has.
struct Survey {
  bool found = false;
  int devices = 0;
  std::string name;
  std::string missing;  // calls that are NULL, with spaces between
  Outcome outcome;      // of the case "init"
};

// Opens the plugin in another process: this one never has it in memory.
Survey SurveyVersion(const std::string& path, int version, double seconds);

Outcome RunCase(const Case& each, const Subject& subject, double seconds);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_CHECK_RUNNER_H_
