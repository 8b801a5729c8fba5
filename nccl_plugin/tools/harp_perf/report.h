// A measurement in words, or as JSON.
#ifndef NCCL_PLUGIN_TOOLS_HARP_PERF_REPORT_H_
#define NCCL_PLUGIN_TOOLS_HARP_PERF_REPORT_H_

#include <cstdint>
#include <cstdio>
#include <iomanip>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace taco {
namespace harp {

// A measurement: as one JSON object on a line, or as words.
class Report {
 public:
  Report(const std::string& kind, const char* what, size_t bytes, bool json) : json_(json) {
    if (json) {
      text_ << "{\"io\": \"" << kind << "\", \"what\": \"" << what << "\", \"bytes\": " << bytes;
    } else {
      text_ << kind << ", " << what << " of " << bytes << " bytes:";
    }
  }
  // `digits`: after the point, in words; `unit`: stands behind the number there.
  void Add(const char* name, double value, int digits, const char* unit) {
    if (json_) {
      text_ << ", \"" << name << "\": " << value;
    } else {
      std::ostringstream number;
      number << std::fixed << std::setprecision(digits) << value;
      text_ << " " << number.str() << " " << unit;
    }
  }
  // How many values fall below each bound, and not below the one before it.
  void AddHistogram(const std::vector<std::pair<double, uint64_t>>& counts) {
    if (json_) text_ << ", \"histogram\": [";
    const char* comma = "";
    for (const auto& [bound, count] : counts) {
      if (json_) {
        text_ << comma << "[" << bound << ", " << count << "]";
      } else {
        text_ << "\n" << std::setw(12) << bound << " us " << std::setw(10) << count;
      }
      comma = ", ";
    }
    if (json_) text_ << "]";
  }
  void Say(const std::string& words) {
    if (!json_) text_ << words;
  }
  void Print() {
    std::printf("%s%s\n", text_.str().c_str(), json_ ? "}" : "");
    std::fflush(stdout);
  }

 private:
  const bool json_;
  std::ostringstream text_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_PERF_REPORT_H_
