// A PacketIo over some UDP ports of an interface that the process shares (port.h).
#ifndef NCCL_PLUGIN_IO_PORT_IO_H_
#define NCCL_PLUGIN_IO_PORT_IO_H_

#include <memory>
#include <string>
#include <vector>

#include "nccl_plugin/io/packet_io.h"
#include "nccl_plugin/io/port.h"

namespace taco {
namespace harp {

struct PortIoOptions {
  uint16_t port = 0;   // of path 0, path i has i more; 0: any. Not where there is a `kernel`
  uint16_t paths = 8;  // 1 to kMaxPaths
  // Sockets of the kernel with the same ports, which it then keeps for us. They take packets to
  // where the interface itself knows no way (yet), and those that come another way than as frames.
  // Null: there is no kernel.
  std::unique_ptr<PacketIo> kernel;
  std::vector<int> sockets;  // its own, one a path; empty where there is none
};

// Null: `error` is a sentence that names the cause and the remedy.
std::unique_ptr<PacketIo> OpenPortIo(std::shared_ptr<Port> port, PortIoOptions options,
                                     std::string* error);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_PORT_IO_H_
