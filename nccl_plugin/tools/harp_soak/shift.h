// A shift: some seconds of a process's life in which a plugin works under one set of conditions,
// all of them drawn from a seed.
#ifndef NCCL_PLUGIN_TOOLS_HARP_SOAK_SHIFT_H_
#define NCCL_PLUGIN_TOOLS_HARP_SOAK_SHIFT_H_

#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "nccl_plugin/tools/harp_check/endpoint.h"

namespace taco {
namespace harp {

enum class Kind { kTransfers, kKilledPeer };

struct Shift {
  uint64_t seed;
  int version;  // of the net interface
  Kind kind;
  std::vector<std::pair<std::string, std::string>> environment;  // variables of the plugin

  std::string ToText() const;
};

// One shift in four has a killed peer.
Shift DrawShift(uint64_t seed);

// The shift that lasts as long as the whole run: moderate conditions, the newest version.
Shift LongShift(uint64_t seed);

// What one connection is to carry, at most 32 MiB of it: sizes of all magnitudes, some receives
// larger than what is sent, some of several buffers at once; depth, polling, registration and which
// side is late, at random. `most_receives`: maxRecvs of the device.
Plan DrawPlan(std::mt19937_64* random, int version, int most_receives);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_SOAK_SHIFT_H_
