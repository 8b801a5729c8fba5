// What HARP's plugin tells of an end of a connection beyond NCCL's interface, to tools that measure
// it: `dlsym(plugin, "taco_harp_counters")`. NCCL does not know of it.
#ifndef NCCL_PLUGIN_ABI_COUNTERS_H_
#define NCCL_PLUGIN_ABI_COUNTERS_H_

#include <cstdint>

extern "C" {

// Counted since the end was opened, by whoever moved it.
struct TacoHarpCounters {
  uint64_t system_calls;         // of its packet I/O
  uint64_t user_copied_bytes;    // in the process: by HARP, and with dpdk by the driver
  uint64_t kernel_copied_bytes;  // by the kernel, in those calls or below them
};

// `comm`: what connect or accept gave. Any thread, as often as wanted; it may wait for the one that
// moves the connection. 0: `counters` is filled in.
using TacoHarpCountersCall = int (*)(void* comm, TacoHarpCounters* counters);
__attribute__((visibility("default"))) int taco_harp_counters(void* comm,
                                                              TacoHarpCounters* counters);

}  // extern "C"

#endif  // NCCL_PLUGIN_ABI_COUNTERS_H_
