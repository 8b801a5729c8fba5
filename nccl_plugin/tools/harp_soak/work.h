// What is done in a shift. Either function runs in the shift's own process, and ends it with a
// cause where something is wrong (harp_check's Fail).
#ifndef NCCL_PLUGIN_TOOLS_HARP_SOAK_WORK_H_
#define NCCL_PLUGIN_TOOLS_HARP_SOAK_WORK_H_

#include <atomic>
#include <cstdint>

#include "nccl_plugin/tools/harp_check/case.h"
#include "nccl_plugin/tools/harp_soak/shift.h"

namespace taco {
namespace harp {

// In memory that the processes share.
struct Tally {
  std::atomic<uint64_t> connections, messages, bytes, kills;
  std::atomic<int64_t> heap_growth;      // of the last shift, bytes in use
  std::atomic<int64_t> resident_growth;  // of the last shift, bytes
};

// Connects, transfers, compares every byte and closes, again and again, in several ways. At the end
// memory, descriptors and threads are what they were after the first quarter. To look at them takes
// some seconds more.
void WorkTransfers(const Subject& subject, const Shift& shift, double seconds, Tally* tally);

// Again and again: another process is the peer, and is killed while messages are under way. The
// request must fail, with a word in the log, soon after HARP_DEAD_SECONDS. `dead_seconds`: that.
void WorkKilledPeer(const Subject& subject, const Shift& shift, double seconds, double dead_seconds,
                    Tally* tally);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_SOAK_WORK_H_
