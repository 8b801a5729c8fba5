// harp-helper: HARP_IO=afxdp for training processes without privileges. docs/harp_packet_io.md
#include <grp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "nccl_plugin/tools/harp_helper/server.h"

namespace taco {
namespace harp {
namespace {

constexpr char kUsage[] =
    R"(usage: harp-helper [--socket PATH] [--group GROUP] [--interfaces NAMES] [--clients N]

Opens AF_XDP for processes of HARP (HARP_IO=afxdp) that have no privileges themselves. Needs root, or
CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_IPC_LOCK. Ends on SIGTERM; what it has opened works on.

--socket PATH        where it listens (/run/harp-helper.sock); HARP_HELPER for the processes
--group GROUP        whose members may ask; without it root and this user alone. They can send any
                     frame over the interfaces, and receive those to UDP ports of their own
--interfaces NAMES   as HARP_IFACE: names or how they begin, by commas; =eth0 exactly, ^docker all but
                     these. By default all but the loopback and virtual bridges
--clients N          at a time (64)
)";

[[noreturn]] void Die(const std::string& why, int status) {
  std::fprintf(stderr, "harp-helper: %s\n", why.c_str());
  std::exit(status);
}

HelperOptions Parse(int count, char** words) {
  HelperOptions options;
  options.path = kHelperSocket;
  for (int index = 1; index < count; ++index) {
    const std::string word = words[index];
    if (word == "--help") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    }
    if (index + 1 == count) Die(word + " wants a value, or there is no such option; --help", 2);
    const std::string value = words[++index];
    if (word == "--socket") {
      options.path = value;
    } else if (word == "--group") {
      char* end = nullptr;
      const unsigned long number = std::strtoul(value.c_str(), &end, 10);
      const group* const named = getgrnam(value.c_str());
      if (named == nullptr && (value.empty() || *end != 0)) Die("there is no group " + value, 2);
      options.group = named != nullptr ? named->gr_gid : static_cast<gid_t>(number);
    } else if (word == "--interfaces") {
      options.interfaces = value;
    } else if (word == "--clients") {
      const int number = std::atoi(value.c_str());
      if (number < 1 || number > 1024) Die("--clients takes 1 to 1024", 2);
      options.clients = static_cast<size_t>(number);
    } else {
      Die("there is no option " + word + "; --help", 2);
    }
  }
  return options;
}

int Main(int count, char** words) {
  HelperServer server(Parse(count, words));
  // A descriptor for each UDP port of each client.
  rlimit files = {};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  sigprocmask(SIG_BLOCK, &ends, nullptr);
  const int stop = signalfd(-1, &ends, SFD_CLOEXEC);
  std::string error;
  if (stop < 0 || !server.Begin(&error)) Die(error.empty() ? std::strerror(errno) : error, 1);
  std::fprintf(stderr, "harp-helper: ready\n");
  server.Run(stop);
  return 0;
}

}  // namespace
}  // namespace harp
}  // namespace taco

int main(int count, char** words) { return taco::harp::Main(count, words); }
