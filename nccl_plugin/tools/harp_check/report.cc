#include "nccl_plugin/tools/harp_check/report.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

namespace taco {
namespace harp {
namespace {

// A plugin's texts may hold any bytes; what is not ASCII becomes a question mark.
std::string Quoted(const std::string& text) {
  std::string out = "\"";
  for (unsigned char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else {
      out += c < 32 || c > 126 ? '?' : static_cast<char>(c);
    }
  }
  return out + "\"";
}

template <class T, class ToText>
std::string List(const std::vector<T>& items, const ToText& to_text) {
  std::string out = "[";
  for (size_t i = 0; i < items.size(); ++i) out += (i == 0 ? "" : ", ") + to_text(items[i]);
  return out + "]";
}

std::string CaseToJson(const Outcome& outcome) {
  std::string verdict = ToText(outcome.verdict);
  for (char& c : verdict) c = static_cast<char>(std::tolower(c));
  char ms[32];
  std::snprintf(ms, sizeof(ms), "%.1f", outcome.ms);
  return "\n    {\"version\": " + std::to_string(outcome.version) +
         ", \"device\": " + std::to_string(outcome.dev) + ", \"case\": " + Quoted(outcome.name) +
         ", \"result\": " + Quoted(verdict) + ", \"ms\": " + ms +
         ", \"cause\": " + Quoted(outcome.cause) + ", \"state\": " + Quoted(outcome.state) + "}";
}

}  // namespace

int Report::Count(bool passed) const {
  return static_cast<int>(
      std::count_if(outcomes.begin(), outcomes.end(),
                    [passed](const Outcome& outcome) { return outcome.Passed() == passed; }));
}

std::string ToLine(const Outcome& outcome) {
  char ms[32];
  std::snprintf(ms, sizeof(ms), " %.0f ms", outcome.ms);
  const std::string device = outcome.dev < 0 ? "" : " dev" + std::to_string(outcome.dev);
  std::string line = "v" + std::to_string(outcome.version) + device + " " + outcome.name + " " +
                     ToText(outcome.verdict) + ms;
  if (!outcome.cause.empty()) line += ": " + outcome.cause;
  return line + "\n" + outcome.state;
}

std::string ToSummary(const Report& report) {
  const auto skipped =
      std::count_if(report.outcomes.begin(), report.outcomes.end(),
                    [](const Outcome& outcome) { return outcome.verdict == Verdict::kSkipped; });
  return std::to_string(report.Count(true) - skipped) + " passed, " +
         std::to_string(report.Count(false)) + " failed, " + std::to_string(skipped) +
         " skipped, " + std::to_string(report.warnings.size()) + " warnings\n";
}

std::string ToJson(const Report& report) {
  const auto number = [](int value) { return std::to_string(value); };
  return "{\n  \"plugin\": " + Quoted(report.plugin) +
         ",\n  \"versions\": " + List(report.versions, number) +
         ",\n  \"missing\": " + List(report.missing, number) +
         ",\n  \"warnings\": " + List(report.warnings, Quoted) +
         ",\n  \"failed\": " + std::to_string(report.Count(false)) +
         ",\n  \"cases\": " + List(report.outcomes, CaseToJson) + "\n}\n";
}

}  // namespace harp
}  // namespace taco
