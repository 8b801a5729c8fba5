// The queues of an interface, and how many frames each gets: the same whoever opens them, this
// process or harp-helper.
#ifndef NCCL_PLUGIN_IO_XDP_QUEUES_H_
#define NCCL_PLUGIN_IO_XDP_QUEUES_H_

#include <string>
#include <vector>

#include "nccl_plugin/io/xdp_socket.h"

namespace taco {
namespace harp {

inline constexpr uint32_t kMaxXdpQueues = 64;

// By so many, the first ones, packets may be sent: no more than are received by.
uint32_t CountXdpSendQueues(const std::string& name);

// At least one. `copies`: the driver's zero-copy is not to be asked for.
std::vector<XdpSocket::Options> XdpQueuesOf(int interface, const std::string& name, bool copies);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_XDP_QUEUES_H_
