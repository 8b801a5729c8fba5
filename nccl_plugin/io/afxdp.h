// The kind of PacketIo that takes frames from an interface before the kernel's network stack sees
// them (AF_XDP), and sends them past it. What it cannot reach as frames goes through sockets of the
// kernel beside it, with the same ports: destinations of this machine, neighbours that the kernel
// does not know yet, packets that come in parts.
#ifndef NCCL_PLUGIN_IO_AFXDP_H_
#define NCCL_PLUGIN_IO_AFXDP_H_

#include <memory>
#include <string>

#include "nccl_plugin/io/packet_io.h"
#include "nccl_plugin/io/udp.h"

namespace taco {
namespace harp {

// As OpenUdp, over one interface (`others` is empty). The first one of a process for an interface
// takes its queues, for which it needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF, or harp-helper at
// the socket `helper` (empty: there is none); the last one to go gives them back. One process an
// interface.
std::unique_ptr<PacketIo> OpenAfxdp(UdpOptions options, const std::string& helper,
                                    std::string* error);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_AFXDP_H_
