#include "nccl_plugin/engine/settings.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>

namespace taco {
namespace harp {
namespace {

// Reads a number between two bounds; says what is wrong otherwise.
template <typename T>
void Number(const char* (*get)(const char*), const char* name, double least, double most, T* value,
            std::vector<std::string>* problems) {
  const char* text = get(name);
  if (text == nullptr || *text == 0) return;
  char* end = nullptr;
  const double number = std::strtod(text, &end);
  const bool whole = std::is_floating_point_v<T> || number == std::floor(number);
  if (*end != 0 || !(number >= least && number <= most) || !whole) {
    std::ostringstream problem;
    problem << name << "=" << text << " is no " << (std::is_floating_point_v<T> ? "" : "whole ")
            << "number from " << least << " to " << most << "; " << *value << " is used";
    problems->push_back(problem.str());
    return;
  }
  *value = static_cast<T>(number);
}

// A key that cannot be had must not mean that nothing is encrypted: `problem` then says why.
void ReadKey(const char* (*get)(const char*), std::optional<AeadKey>* key, std::string* problem) {
  const auto given = [&](const char* name) {
    const char* value = get(name);
    return value != nullptr && *value != 0 ? value : nullptr;
  };
  const char* const text = given("HARP_KEY");
  const char* const file = given("HARP_KEY_FILE");
  if (text == nullptr && file == nullptr) return;
  std::string digits;
  std::string where = "HARP_KEY";
  if (text != nullptr) {
    digits = text;
  } else {
    where = std::string("HARP_KEY_FILE=") + file;
    std::ifstream stream(file);
    if (!stream) {
      *problem = where + " cannot be read: " + std::strerror(errno);
      return;
    }
    digits.assign(std::istreambuf_iterator<char>(stream), {});
  }
  *key = ParseAeadKey(digits);
  if (!*key) {
    *problem =
        where + " holds no key: 64 hexadecimal digits are wanted, as `openssl rand -hex 32` gives";
  }
}

}  // namespace

Settings ReadSettings(const char* (*get)(const char* name)) {
  Settings settings;
  if (const char* io = get("HARP_IO"); io != nullptr && *io != 0) {
    const std::string kind = io;
    if (kind == "auto" || kind == "udp" || kind == "afxdp" || kind == "dpdk") {
      settings.io = kind;
    } else {
      settings.problems.push_back("HARP_IO=" + kind + " is none of auto, udp, afxdp and dpdk; " +
                                  settings.io + " is used");
    }
  }
  if (const char* congestion = get("HARP_CONGESTION"); congestion != nullptr && *congestion != 0) {
    if (std::string(congestion) == "swift" || std::string(congestion) == "cubic") {
      settings.congestion = congestion;
    } else {
      settings.problems.push_back(std::string("HARP_CONGESTION=") + congestion +
                                  " is neither swift nor cubic; " + settings.congestion +
                                  " is used");
    }
  }
  for (const char* name : {"NCCL_SOCKET_IFNAME", "HARP_IFACE"}) {
    if (const char* value = get(name); value != nullptr && *value != 0) settings.interfaces = value;
  }
  if (const char* faults = get("HARP_FAULTS"); faults != nullptr) settings.faults = faults;
  if (const char* stats = get("HARP_STATS"); stats != nullptr) settings.stats = stats;
  if (const char* path = get("HARP_HELPER"); path != nullptr && *path != 0) settings.helper = path;
  if (const char* args = get("HARP_DPDK_ARGS"); args != nullptr) settings.dpdk_args = args;
  if (const char* place = get("HARP_DPDK_ADDRESS"); place != nullptr) settings.dpdk_address = place;
  std::vector<std::string>* problems = &settings.problems;
  Number(get, "HARP_PATHS", 1, 64, &settings.paths, problems);
  Number(get, "HARP_ENGINES", 0, 64, &settings.engines, problems);
  Number(get, "HARP_DEAD_SECONDS", 0.1, 86400, &settings.dead_seconds, problems);
  Number(get, "HARP_CONNECT_SECONDS", 0.1, 86400, &settings.connect_seconds, problems);
  Number(get, "HARP_DPDK_MTU", 0, 60000, &settings.dpdk_mtu, problems);
  Number(get, "HARP_CREDIT_BYTES", 0, 1e12, &settings.credit_bytes, problems);
  Number(get, "HARP_QUEUE_US", 1, 1e6, &settings.queue_us, problems);
  Number(get, "HARP_SOCKET_BYTES", 65536, 1 << 30, &settings.socket_bytes, problems);
  Number(get, "HARP_STATS_SECONDS", 0.01, 86400, &settings.stats_seconds, problems);
  ReadKey(get, &settings.key, &settings.key_problem);
  int checksum = settings.key ? 0 : 1;  // the tag is more than a checksum
  Number(get, "HARP_CHECKSUM", 0, 1, &checksum, problems);
  settings.checksum = checksum != 0;
  int zero_copy = settings.dpdk_zero_copy ? 1 : 0;
  Number(get, "HARP_DPDK_ZERO_COPY", 0, 1, &zero_copy, problems);
  settings.dpdk_zero_copy = zero_copy != 0;
  int segmentation = 1;
  Number(get, "HARP_SEGMENTATION", 0, 1, &segmentation, problems);
  settings.segmentation = segmentation != 0;
  return settings;
}

std::string Settings::ToText() const {
  std::ostringstream text;
  text << "HARP_IO=" << io << " HARP_IFACE=" << interfaces << " HARP_PATHS=" << paths
       << " HARP_ENGINES=" << engines << " HARP_DEAD_SECONDS=" << dead_seconds
       << " HARP_CONNECT_SECONDS=" << connect_seconds << " HARP_CHECKSUM=" << checksum
       << " HARP_SEGMENTATION=" << segmentation << " HARP_CONGESTION=" << congestion
       << " HARP_QUEUE_US=" << queue_us << " HARP_CREDIT_BYTES=" << credit_bytes
       << " HARP_SOCKET_BYTES=" << socket_bytes << " HARP_STATS=" << stats
       << " HARP_STATS_SECONDS=" << stats_seconds;
  if (key || !key_problem.empty()) text << " HARP_KEY=" << (key ? "set" : "unusable");
  if (io == "afxdp") text << " HARP_HELPER=" << helper;
  if (io == "dpdk") {
    text << " HARP_DPDK_ARGS=" << dpdk_args << " HARP_DPDK_ADDRESS=" << dpdk_address
         << " HARP_DPDK_MTU=" << dpdk_mtu << " HARP_DPDK_ZERO_COPY=" << dpdk_zero_copy;
  }
  if (!faults.empty()) text << " HARP_FAULTS=" << faults;
  return text.str();
}

}  // namespace harp
}  // namespace taco
