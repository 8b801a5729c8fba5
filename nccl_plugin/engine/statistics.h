// HARP_STATS: a line of JSON for each connection, every few seconds, appended to a file.
//
// docs/harp.md has the fields. Counters count from the connection's beginning; who wants rates
// takes the difference of two lines, as `taco harp top` does.
#ifndef NCCL_PLUGIN_ENGINE_STATISTICS_H_
#define NCCL_PLUGIN_ENGINE_STATISTICS_H_

#include <cstdint>
#include <string>

namespace taco {
namespace harp {

// `path` with %p as the process's number and %h as the host's name.
std::string StatisticsFile(const std::string& path);

// Text within quotes.
std::string Quoted(const std::string& text);

class Statistics {
 public:
  Statistics() = default;
  ~Statistics();
  Statistics(const Statistics&) = delete;
  Statistics& operator=(const Statistics&) = delete;

  // False and a sentence: it cannot be written.
  bool Open(const std::string& file, double seconds, std::string* error);

  // Whether lines are due now; once it said so, not again before the pause is over.
  bool Due(int64_t now);
  int64_t next() const { return next_; }

  // Appends one line: `fields` are those of a connection, as `"name": value` by commas.
  void Write(const std::string& fields);

 private:
  int file_ = -1;
  int64_t pause_ns_ = 0;
  int64_t next_ = 0;
  std::string process_;  // the fields that all lines have
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ENGINE_STATISTICS_H_
