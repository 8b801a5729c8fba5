// harp-perf: throughput and latency of a net plugin, or of TCP, between two machines.
//
//   harp-perf --listen 10.0.0.1:5000                              on one
//   harp-perf --connect 10.0.0.1:5000 --io tcp --io PLUGIN.so     on the other: says what is
//   measured
//
// Both sides run the same list of measurements; what they need to know goes over a TCP connection
// of its own, as NCCL's bootstrap does.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "nccl_plugin/tools/harp_perf/control.h"
#include "nccl_plugin/tools/harp_perf/measure.h"
#include "nccl_plugin/tools/harp_perf/pings.h"
#include "nccl_plugin/tools/harp_perf/report.h"
#include "nccl_plugin/tools/harp_perf/transport.h"

namespace taco {
namespace harp {

[[noreturn]] void Die(const std::string& why) {
  std::fprintf(stderr, "harp-perf: %s\n", why.c_str());
  std::exit(1);
}

namespace {

constexpr char kUsage[] =
    R"(usage: harp-perf --listen ADDRESS:PORT [--interface NAME] [--processor N]
       harp-perf --connect ADDRESS:PORT --io KIND [--io KIND...] [options]

KIND: tcp (one data socket, as NCCL's default), tcp4 (four), or the path of a net plugin, before which
variables may stand: "HARP_PATHS=1 PLUGIN.so".
--sizes 8,65536,1048576  bytes of messages (these)
--seconds 1              about, a measurement
--rounds 3               each kind in turn, so often
--depth 8                messages under way
--pings 20000            round trips of --ping-bytes (8)
--interface NAME         of several devices of a plugin this one, on this side
--address A              TCP's own, numeric (that of the connection)
--processor N            this side runs there
--histogram              of round trips, in words; JSON has it anyway
--json                   one JSON object a line, in place of words

Cycles are those of the time stamp counter in the processors' time that a side's process was charged.
System calls and copies are counted where they are made, for the connection that is measured; docs/
harp_benchmarks.md says what counts. Beside round trips stands what a loop that reads the clock for as
long takes on both sides: that much of the tail is the machine's.
)";

struct Options {
  std::string listen, connect, interface, address;
  std::vector<std::string> kinds;
  std::vector<size_t> sizes = {8, 65536, 1048576};
  double seconds = 1;
  int rounds = 3, depth = 8, processor = -1;
  uint64_t pings = 20000;
  size_t ping_bytes = 8;
  bool json = false, histogram = false;
};

std::vector<std::string> Split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

Options Parse(int count, char** words) {
  Options options;
  for (int index = 1; index < count; ++index) {
    const std::string word = words[index];
    if (word == "--json" || word == "--histogram") {
      (word == "--json" ? options.json : options.histogram) = true;
      continue;
    }
    if (word == "--help" || index + 1 == count) {
      std::fputs(kUsage, word == "--help" ? stdout : stderr);
      std::exit(word == "--help" ? 0 : 2);
    }
    const std::string value = words[++index];
    if (word == "--listen") {
      options.listen = value;
    } else if (word == "--connect") {
      options.connect = value;
    } else if (word == "--interface") {
      options.interface = value;
    } else if (word == "--address") {
      options.address = value;
    } else if (word == "--io") {
      options.kinds.push_back(value);
    } else if (word == "--sizes") {
      options.sizes.clear();
      for (const std::string& size : Split(value)) options.sizes.push_back(std::stoull(size));
    } else if (word == "--seconds") {
      options.seconds = std::stod(value);
    } else if (word == "--rounds") {
      options.rounds = std::stoi(value);
    } else if (word == "--depth") {
      options.depth = std::clamp(std::stoi(value), 1, 32);
    } else if (word == "--pings") {
      options.pings = std::stoull(value);
    } else if (word == "--ping-bytes") {
      options.ping_bytes = std::stoull(value);
    } else if (word == "--processor") {
      options.processor = std::stoi(value);
    } else {
      Die("no option " + word + "; see --help");
    }
  }
  if (options.listen.empty() == options.connect.empty()) Die("--listen or --connect; see --help");
  return options;
}

sockaddr_in Address(const std::string& text) {
  const size_t colon = text.rfind(':');
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  if (colon == std::string::npos ||
      inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr) != 1) {
    Die(text + " is no ADDRESS:PORT");
  }
  address.sin_port = htons(static_cast<uint16_t>(std::atoi(text.c_str() + colon + 1)));
  return address;
}

int Joined(const Options& options) {
  const bool listens = !options.listen.empty();
  const sockaddr_in address = Address(listens ? options.listen : options.connect);
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  const int made = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listens) {
    const int on = 1;
    setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(made, generic, sizeof(address)) != 0 || listen(made, 1) != 0) {
      Die("cannot listen on " + options.listen + ": " + std::strerror(errno));
    }
    return accept4(made, nullptr, nullptr, SOCK_CLOEXEC);
  }
  for (int attempt = 0; connect(made, generic, sizeof(address)) != 0; ++attempt) {
    if (attempt == 100) Die("nobody listens on " + options.connect);
    usleep(50'000);
  }
  return made;
}

std::unique_ptr<Transport> Opened(const std::string& kind, const Options& options,
                                  const Control& control) {
  const std::string address = options.address.empty() ? control.Local() : options.address;
  if (kind == "tcp") return OpenTcp(1, address);
  if (kind == "tcp4") return OpenTcp(4, address);
  std::istringstream words(kind);
  std::string word;
  while (words >> word && word.find('=') != std::string::npos) {
    setenv(word.substr(0, word.find('=')).c_str(), word.substr(word.find('=') + 1).c_str(), 1);
  }
  return OpenPlugin(word, options.interface);
}

// Both directions.
struct Lines {
  std::unique_ptr<Line> out, in;
};

Lines Connected(Transport* transport, const Control& control, bool begins) {
  Lines lines;
  const std::string mine = transport->Listen();
  control.Put(mine);
  const std::string theirs = control.Get(mine.size());
  if (begins) lines.out = transport->Connect(theirs);
  lines.in = transport->Accept();
  if (!begins) lines.out = transport->Connect(theirs);
  return lines;
}

// What an end of a stream has cost, as one side tells the other. Of calls and copies nothing where
// they are not known.
std::vector<double> CostsOf(const Throughput& seen) {
  std::vector<double> costs = {seen.processor_seconds, seen.processor_cycles};
  if (seen.costs) {
    for (const uint64_t each : {seen.costs->system_calls, seen.costs->user_copied_bytes,
                                seen.costs->kernel_copied_bytes}) {
      costs.push_back(static_cast<double>(each));
    }
  }
  return costs;
}

void AddCosts(const char* side, const std::vector<double>& costs, double seconds, double bytes,
              Report* report) {
  constexpr double kMib = 1 << 20;
  const std::string prefix = std::string(side) + "_";
  const auto add = [&](const char* name, double value, int digits, const char* unit) {
    report->Add((prefix + name).c_str(), value, digits, unit);
  };
  report->Say("\n  " + std::string(side) + ":");
  add("processor", costs[0] / seconds, 2, "processors,");
  add("cycles_byte", costs[1] / bytes, 3, "cycles a byte");
  if (costs.size() < 5) return;
  report->Say(",");
  add("calls_mib", costs[2] / bytes * kMib, 2, "system calls a MiB, copied");
  add("user_copies", costs[3] / bytes, 2, "times by the process,");
  add("kernel_copies", costs[4] / bytes, 2, "times by the kernel");
}

// One measurement, on both sides, in parts; the side that begins says how many messages each has,
// and counts from the first that takes its share of the time: those before find the rate.
void MeasureStream(const std::string& kind, const Lines& lines, const Control& control, bool begins,
                   size_t size, const Options& options) {
  constexpr uint64_t kLeast = 64;
  const double share = options.seconds / 8;
  Line* const line = begins ? lines.out.get() : lines.in.get();
  uint64_t messages = kLeast;
  bool counts = false;
  Throughput total;
  std::vector<double> theirs;
  for (;;) {
    if (begins) control.PutLine(std::to_string(messages));
    if (!begins) messages = std::stoull(control.GetLine());
    if (messages == 0) break;
    control.Meet();
    const Throughput seen = Stream(line, begins, size, messages, options.depth);
    control.Meet();
    if (!begins) {
      control.PutNumbers(CostsOf(seen));
      continue;
    }
    const std::vector<double> costs = control.GetNumbers();
    if (counts) {
      total += seen;
      theirs.resize(costs.size());
      for (size_t i = 0; i < costs.size(); ++i) theirs[i] += costs[i];
    }
    counts = counts || 2 * seen.seconds >= share;
    const double wanted = static_cast<double>(messages) * share / seen.seconds;
    messages = std::max(kLeast, std::min(static_cast<uint64_t>(wanted), 8 * messages));
    if (total.seconds >= options.seconds - share / 2) messages = 0;
  }
  if (!begins) return;
  const double count = static_cast<double>(total.messages);
  const double bytes = static_cast<double>(size) * count;
  Report report(kind, "stream", size, options.json);
  report.Add("gbit_s", 8e-9 * bytes / total.seconds, 2, "Gb/s,");
  report.Add("messages_s", count / total.seconds, 0, "messages a second,");
  report.Add("messages", count, 0, "messages");
  AddCosts("sender", CostsOf(total), total.seconds, bytes, &report);
  AddCosts("receiver", theirs, total.seconds, bytes, &report);
  report.Print();
}

int Main(int count, char** words) {
  Options options = Parse(count, words);
  if (options.processor >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(options.processor, &set);
    if (sched_setaffinity(0, sizeof(set), &set) != 0) Die("there is no such processor");
  }
  const bool begins = options.listen.empty();
  const Control control(Joined(options));
  // The side that begins says what is measured.
  const auto agree_text = [&](std::string* text) {
    if (begins) control.PutLine(*text);
    if (!begins) *text = control.GetLine();
  };
  const auto agree = [&](auto* value) {
    std::ostringstream text;
    text << *value;
    std::string agreed = text.str();
    agree_text(&agreed);
    std::istringstream(agreed) >> *value;
  };
  std::string kinds, sizes;
  for (const std::string& kind : options.kinds) kinds += (kinds.empty() ? "" : ",") + kind;
  for (const size_t size : options.sizes) {
    sizes += (sizes.empty() ? "" : ",") + std::to_string(size);
  }
  agree_text(&kinds);
  agree_text(&sizes);
  agree(&options.rounds);
  agree(&options.depth);
  agree(&options.pings);
  agree(&options.ping_bytes);
  options.kinds = Split(kinds);
  options.sizes.clear();
  for (const std::string& size : Split(sizes)) options.sizes.push_back(std::stoull(size));
  if (options.kinds.empty()) Die("--io says what is measured; see --help");
  for (int round = 0; round < options.rounds; ++round) {
    for (const std::string& kind : options.kinds) {
      const std::unique_ptr<Transport> transport = Opened(kind, options, control);
      const Lines lines = Connected(transport.get(), control, begins);
      for (const size_t size : options.sizes) {
        MeasureStream(kind, lines, control, begins, size, options);
      }
      if (options.pings != 0) {
        Report report(kind, "ping", options.ping_bytes, options.json);
        MeasurePings(lines.out.get(), lines.in.get(), control, begins, options.ping_bytes,
                     options.pings, options.histogram || options.json, &report);
        if (begins) report.Print();
      }
      control.Meet();
    }
  }
  return 0;
}

}  // namespace
}  // namespace harp
}  // namespace taco

int main(int count, char** words) { return taco::harp::Main(count, words); }
