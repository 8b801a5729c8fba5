// harp-soak: a net plugin at work for a long time, under conditions that change.
//
//   harp-soak PLUGIN.so --minutes 30
//
// Shift after shift, each in a process of its own: transfers of every kind with every byte
// compared, on a network that loses, doubles and changes packets; connections closed with messages
// under way; peers that are killed. Beside them one process works from beginning to end. Nothing
// may be wrong, hang, crash, or leave memory, descriptors or threads behind.
//
// Status: 0 all was well; 1 something was not; 2 it could not run.

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <string>

#include "nccl_plugin/tools/harp_check/board.h"
#include "nccl_plugin/tools/harp_check/runner.h"
#include "nccl_plugin/tools/harp_soak/shift.h"
#include "nccl_plugin/tools/harp_soak/work.h"

namespace taco {
namespace harp {
namespace {

constexpr char kUsage[] =
    R"(usage: harp-soak PLUGIN.so [options]

--minutes 30      how long
--shift 20        seconds of a shift
--seed 1          of the first shift; the same seed draws the same conditions
--interface lo    HARP_IFACE of the plugin, which connects the interface with itself
--json FILE       the sums, as one JSON object
)";

constexpr double kGraceSeconds = 90;  // beyond its time a shift hangs
constexpr double kDeadSeconds = 3;    // HARP_DEAD_SECONDS of each shift
constexpr int kMostFailed = 5;        // shifts; more of them say nothing new
constexpr int kFailed = 1;
constexpr int kCouldNotRun = 2;

struct Options {
  std::string plugin, interface = "lo", json;
  double minutes = 30, shift = 20;
  uint64_t seed = 1;
};

[[noreturn]] void Refuse(const std::string& why) {
  std::fprintf(stderr, "harp-soak: %s\n", why.c_str());
  std::exit(kCouldNotRun);
}

double Number(const std::string& option, const std::string& text, double least, double most) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != 0 || !(number >= least && number <= most)) {
    Refuse(option + " wants a number from " + std::to_string(least) + " to " +
           std::to_string(most) + ", not '" + text + "'");
  }
  return number;
}

Options Parse(int count, char** words) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word == "--help") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    }
    if (word.compare(0, 2, "--") != 0) {
      if (!options.plugin.empty()) Refuse("one plugin at a time; see --help");
      options.plugin = word;
      continue;
    }
    if (i + 1 == count) Refuse(word + " wants a value, or there is no such option; see --help");
    const std::string value = words[++i];
    if (word == "--minutes") {
      options.minutes = Number(word, value, 0.01, 1e6);
    } else if (word == "--shift") {
      options.shift = Number(word, value, 1, 1e6);
    } else if (word == "--seed") {
      options.seed = static_cast<uint64_t>(Number(word, value, 0, 1e15));
    } else if (word == "--interface") {
      options.interface = value;
    } else if (word == "--json") {
      options.json = value;
    } else {
      Refuse("there is no option " + word + "; see --help");
    }
  }
  if (options.plugin.empty()) {
    std::fputs(kUsage, stderr);
    std::exit(kCouldNotRun);
  }
  if (options.plugin.find('/') == std::string::npos) options.plugin = "./" + options.plugin;
  if (!std::ifstream(options.plugin)) Refuse(options.plugin + " cannot be read");
  return options;
}

// Memory that the forks share, of one who works.
Tally* NewTally() {
  void* memory =
      mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) Refuse("no shared memory");
  return new (memory) Tally();
}

// One shift, and its line.
bool Run(const Options& options, const Shift& shift, double seconds, const char* label,
         Tally* tally) {
  const uint64_t connections = tally->connections, messages = tally->messages;
  const uint64_t bytes = tally->bytes;
  tally->heap_growth = tally->resident_growth = 0;
  const Outcome outcome = RunApart(
      [&] {
        setenv("HARP_IFACE", ("=" + options.interface).c_str(), 1);
        for (const auto& [name, value] : shift.environment) {
          setenv(name.c_str(), value.c_str(), 1);
        }
        const Subject subject = {options.plugin, shift.version, 0};
        if (shift.kind == Kind::kKilledPeer) {
          WorkKilledPeer(subject, shift, seconds, kDeadSeconds, tally);
        } else {
          WorkTransfers(subject, shift, seconds, tally);
        }
      },
      seconds + kGraceSeconds);
  const bool well = outcome.verdict == Verdict::kOk;
  std::printf(
      "%-7s %s: %.0f s, %llu connections, %llu messages, %.3f GB, heap %+.1f KiB, resident "
      "%+.1f MiB (%s)\n",
      well ? "ok" : ToText(outcome.verdict), label, outcome.ms / 1e3,
      static_cast<unsigned long long>(tally->connections - connections),
      static_cast<unsigned long long>(tally->messages - messages),
      static_cast<double>(tally->bytes - bytes) / 1e9,
      static_cast<double>(tally->heap_growth) / 1024,
      static_cast<double>(tally->resident_growth) / (1 << 20), shift.ToText().c_str());
  if (!well) std::printf("  %s\n%s", outcome.cause.c_str(), outcome.state.c_str());
  std::fflush(stdout);
  return well;
}

int Main(int argc, char** argv) {
  const Options options = Parse(argc, argv);
  Tally* const tally = NewTally();
  Tally* const of_long = NewTally();
  const double seconds = options.minutes * 60;
  const int64_t begin = NowUs();
  const auto left = [&] { return seconds - static_cast<double>(NowUs() - begin) / 1e6; };
  std::fflush(nullptr);
  const pid_t long_one = fork();
  if (long_one < 0) Refuse("no fork");
  if (long_one == 0) {
    const bool well = Run(options, LongShift(options.seed), seconds, "the long shift", of_long);
    std::fflush(nullptr);
    _exit(well ? 0 : kFailed);
  }
  int shifts = 0, failed = 0;
  do {
    const Shift shift = DrawShift(options.seed + static_cast<uint64_t>(shifts));
    const std::string label = "shift " + std::to_string(++shifts);
    failed += !Run(options, shift, std::clamp(left(), 1.0, options.shift), label.c_str(), tally);
  } while (left() > 1 && failed < kMostFailed);
  int status = 0;
  waitpid(long_one, &status, 0);
  ++shifts;
  failed += !(WIFEXITED(status) && WEXITSTATUS(status) == 0);

  const auto sum = [&](std::atomic<uint64_t> Tally::* field) {
    return static_cast<unsigned long long>((tally->*field).load() + (of_long->*field).load());
  };
  char text[400];
  std::snprintf(
      text, sizeof(text),
      "{\"seconds\": %.0f, \"seed\": %llu, \"shifts\": %d, \"failed\": %d, "
      "\"connections\": %llu, \"messages\": %llu, \"bytes\": %llu, \"killed_peers\": %llu, "
      "\"long_shift_heap_growth\": %lld, \"long_shift_resident_growth\": %lld}\n",
      static_cast<double>(NowUs() - begin) / 1e6, static_cast<unsigned long long>(options.seed),
      shifts, failed, sum(&Tally::connections), sum(&Tally::messages), sum(&Tally::bytes),
      sum(&Tally::kills), static_cast<long long>(of_long->heap_growth),
      static_cast<long long>(of_long->resident_growth));
  std::fputs(text, stdout);
  if (!options.json.empty() && !(std::ofstream(options.json) << text).flush()) {
    Refuse(options.json + " cannot be written");
  }
  return failed == 0 ? 0 : kFailed;
}

}  // namespace
}  // namespace harp
}  // namespace taco

int main(int argc, char** argv) { return taco::harp::Main(argc, argv); }
