#include "nccl_plugin/engine/statistics.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace taco {
namespace harp {
namespace {

std::string HostName() {
  char host[64] = {};
  gethostname(host, sizeof(host) - 1);
  return host;
}

double WallClock() {
  timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

std::string StatisticsFile(const std::string& path) {
  std::string made;
  for (size_t at = 0; at < path.size(); ++at) {
    const char next = at + 1 < path.size() ? path[at + 1] : 0;
    if (path[at] == '%' && (next == 'p' || next == 'h')) {
      made += next == 'p' ? std::to_string(getpid()) : HostName();
      ++at;
    } else {
      made += path[at];
    }
  }
  return made;
}

std::string Quoted(const std::string& text) {
  std::string made = "\"";
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') made += '\\';
    made += letter >= ' ' ? letter : '?';
  }
  return made + "\"";
}

Statistics::~Statistics() {
  if (file_ >= 0) close(file_);
}

bool Statistics::Open(const std::string& file, double seconds, std::string* error) {
  // Several processes may share the file: a line is one write, at the end.
  file_ = open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file_ < 0) {
    *error = "HARP_STATS cannot be written to " + file + ": " + std::strerror(errno);
    return false;
  }
  pause_ns_ = static_cast<int64_t>(seconds * 1e9);
  process_ = "\"host\": " + Quoted(HostName()) + ", \"process\": " + std::to_string(getpid());
  return true;
}

bool Statistics::Due(int64_t now) {
  if (file_ < 0 || now < next_) return false;
  next_ = now + pause_ns_;
  return true;
}

void Statistics::Write(const std::string& fields) {
  char time[32];
  std::snprintf(time, sizeof(time), "%.3f", WallClock());
  const std::string line =
      "{\"time\": " + std::string(time) + ", " + process_ + ", " + fields + "}\n";
  // A full disk is no reason to end a training.
  if (write(file_, line.data(), line.size()) < 0) return;
}

}  // namespace harp
}  // namespace taco
