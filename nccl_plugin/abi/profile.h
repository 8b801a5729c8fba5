// What NCCL's profiler is told of a request: an event that begins and ends, from v10 on.
//
// The profiler looks at the plugin's number to know what stands behind extData. Ours is the one of
// NCCL's own socket transport, version 1, so that profilers show HARP's requests as they show that
// transport's.
#ifndef NCCL_PLUGIN_ABI_PROFILE_H_
#define NCCL_PLUGIN_ABI_PROFILE_H_

#include <cstddef>
#include <cstdint>

#include "nccl_plugin/abi/nccl_types.h"

namespace taco {
namespace harp {

inline constexpr int64_t kProfiledAs = (int64_t{2} << 16) | 1;  // a socket transport, version 1

// extData of an event that begins.
struct ProfiledSocket {
  uint8_t type = 1;  // the only kind of event
  struct {
    int fd = -1;
    int op = 0;  // 0: send, 1: receive
    size_t length = 0;
  } sock;
};
static_assert(sizeof(ProfiledSocket) == 24 && offsetof(ProfiledSocket, sock) == 8, "as profilers");

// Begins an event below `parent`, which came with isend or irecv. Null: nobody listens.
inline void* BeginEvent(ncclProfilerCallback_t profiler, void* parent, bool receives, int fd,
                        size_t length) {
  void* event = nullptr;
  if (profiler == nullptr || parent == nullptr) return event;
  ProfiledSocket data;
  data.sock.fd = fd;
  data.sock.op = receives ? 1 : 0;
  data.sock.length = length;
  profiler(&event, ncclProfilerNetEventStart, parent, kProfiledAs, &data);
  return event;
}

inline void EndEvent(ncclProfilerCallback_t profiler, void* event) {
  if (profiler == nullptr || event == nullptr) return;
  profiler(&event, ncclProfilerNetEventStop, nullptr, 0, nullptr);
}

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ABI_PROFILE_H_
