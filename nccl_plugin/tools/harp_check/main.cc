// harp-check: does a NCCL net plugin keep to the interface's rules? docs/harp_check.md
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "nccl_plugin/tools/harp_check/case.h"
#include "nccl_plugin/tools/harp_check/report.h"
#include "nccl_plugin/tools/harp_check/runner.h"

namespace taco {
namespace harp {
namespace {

constexpr int kAllPassed = 0;
constexpr int kSomeFailed = 1;
constexpr int kCouldNotRun = 2;

constexpr char kUsage[] =
    "usage: harp-check PLUGIN.so [--versions 6,7,...] [--device N] [--seconds S] [--json FILE]\n"
    "                  [--only CASE,...] [--to N]\n"
    "       harp-check --list\n"
    "\n"
    "  --versions  of the interface, from 6 to 12; all that the plugin exports otherwise\n"
    "  --device    one device alone; all otherwise\n"
    "  --to        connects to this device; each to itself otherwise\n"
    "  --seconds   that a case may take, 20 otherwise\n"
    "  --json      writes the results to a file too\n"
    "  --only      these cases alone\n"
    "  --list      says which cases there are\n"
    "\n"
    "HARP_CHECK_VERBOSE=1 shows what the plugin logs. Exits with 0 where all passed, 1 where a\n"
    "case failed, 2 where nothing could be run.\n";

struct Options {
  std::string plugin;
  std::vector<int> versions;  // empty: those that are there
  int device = -1;
  int to = -1;
  double seconds = 20;
  std::string json;
  std::vector<std::string> only;
};

[[noreturn]] void Refuse(const std::string& sentence) {
  std::fprintf(stderr, "harp-check: %s\n", sentence.c_str());
  std::exit(kCouldNotRun);
}

std::vector<std::string> Split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

double ToNumber(const std::string& option, const std::string& text, double least, double most) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != 0 || !(value >= least && value <= most)) {
    Refuse(option + " does not take '" + text + "'");
  }
  return value;
}

bool Knows(const std::string& name) {
  for (const Case& each : AllCases()) {
    if (name == each.name) return true;
  }
  return false;
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--help") {
      std::fputs(kUsage, stdout);
      std::exit(kAllPassed);
    }
    if (argument == "--list") {
      for (const Case& each : AllCases()) std::printf("%-16s %s\n", each.name, each.what);
      std::exit(kAllPassed);
    }
    if (argument.compare(0, 2, "--") != 0) {
      if (!options.plugin.empty()) Refuse("one plugin at a time");
      options.plugin = argument;
      continue;
    }
    if (i + 1 == argc) Refuse(argument + " wants a value, or there is no such option; see --help");
    const std::string value = argv[++i];
    if (argument == "--versions") {
      for (const std::string& part : Split(value)) {
        options.versions.push_back(
            static_cast<int>(ToNumber(argument, part, kOldestVersion, kNewestVersion)));
      }
    } else if (argument == "--device") {
      options.device = static_cast<int>(ToNumber(argument, value, 0, 1 << 20));
    } else if (argument == "--to") {
      options.to = static_cast<int>(ToNumber(argument, value, 0, 1 << 20));
    } else if (argument == "--seconds") {
      options.seconds = ToNumber(argument, value, 0.1, 1e6);
    } else if (argument == "--json") {
      options.json = value;
    } else if (argument == "--only") {
      for (const std::string& name : Split(value)) {
        if (!Knows(name)) Refuse("there is no case '" + name + "'; see --list");
        options.only.push_back(name);
      }
    } else {
      Refuse("there is no option " + argument + "; see --help");
    }
  }
  if (options.plugin.empty()) {
    std::fputs(kUsage, stderr);
    std::exit(kCouldNotRun);
  }
  // dlopen looks for a name without a slash elsewhere.
  if (options.plugin.find('/') == std::string::npos) options.plugin = "./" + options.plugin;
  return options;
}

void Add(const Outcome& outcome, Report* report) {
  std::fputs(ToLine(outcome).c_str(), stdout);
  std::fflush(stdout);
  report->outcomes.push_back(outcome);
}

void RunVersion(const Options& options, const Survey& survey, Report* report) {
  const int first = options.device < 0 ? 0 : options.device;
  const int last = options.device < 0 ? survey.devices - 1 : options.device;
  for (int dev = first; dev <= last; ++dev) {
    for (const Case& each : AllCases()) {
      bool wanted = options.only.empty();
      for (const std::string& name : options.only) wanted |= name == each.name;
      if (!wanted) continue;
      const Subject subject = {options.plugin, survey.outcome.version, dev, options.to};
      Add(RunCase(each, subject, options.seconds), report);
    }
  }
}

void LookAtExports(Report* report) {
  std::string error;
  const std::vector<std::string> strange = StrangeExports(report->plugin, &error);
  if (!error.empty()) report->warnings.push_back("its symbols cannot be read: " + error);
  if (strange.empty()) return;
  std::string text = std::to_string(strange.size()) + " exported symbols may clash with others':";
  for (size_t i = 0; i < strange.size() && i < 5; ++i) text += " " + strange[i];
  report->warnings.push_back(text + (strange.size() > 5 ? " ..." : ""));
}

int Main(int argc, char** argv) {
  const Options options = Parse(argc, argv);
  Report report;
  report.plugin = options.plugin;
  if (!std::ifstream(options.plugin)) Refuse(options.plugin + " cannot be read");
  LookAtExports(&report);
  for (const std::string& warning : report.warnings) std::printf("warning: %s\n", warning.c_str());
  std::vector<int> versions = options.versions;
  if (versions.empty()) {
    for (int v = kOldestVersion; v <= kNewestVersion; ++v) versions.push_back(v);
  }
  for (int version : versions) {
    const Survey survey = SurveyVersion(options.plugin, version, options.seconds);
    if (!survey.found && survey.outcome.cause.compare(0, 6, "dlopen") == 0) {
      Refuse(survey.outcome.cause);
    }
    if (!survey.found && survey.outcome.verdict == Verdict::kFailed) {
      std::printf("v%d is not exported\n", version);
      report.missing.push_back(version);
      if (!options.versions.empty()) Add(survey.outcome, &report);
      continue;
    }
    report.versions.push_back(version);
    std::printf("v%d '%s', %d devices%s%s\n", version, survey.name.c_str(), survey.devices,
                survey.missing.empty() ? "" : ", lacks", survey.missing.c_str());
    Add(survey.outcome, &report);
    if (survey.outcome.Passed()) RunVersion(options, survey, &report);
  }
  if (report.versions.empty()) Refuse(options.plugin + " has no version of NCCL's net plugin");
  std::fputs(ToSummary(report).c_str(), stdout);
  if (!options.json.empty() && !(std::ofstream(options.json) << ToJson(report)).flush()) {
    Refuse(options.json + " cannot be written");
  }
  return report.Count(false) == 0 ? kAllPassed : kSomeFailed;
}

}  // namespace
}  // namespace harp
}  // namespace taco

int main(int argc, char** argv) { return taco::harp::Main(argc, argv); }
