// The kind of PacketIo that works everywhere: sockets of the kernel, without privileges. Batches go
// through few system calls, and large ones are cut and put together by the kernel (GSO, GRO) where
// it can.
#ifndef NCCL_PLUGIN_IO_UDP_H_
#define NCCL_PLUGIN_IO_UDP_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nccl_plugin/io/packet_io.h"

namespace taco {
namespace harp {

// An interface, and one of its addresses.
struct UdpPlace {
  std::string address;
  std::string interface;
};

struct UdpOptions {
  // One of this machine's addresses, numeric and without a port: "10.0.0.1", "fe80::1%eth0".
  std::string address;
  uint16_t port = 0;              // of path 0, path i has i more; 0: the kernel chooses all of them
  uint16_t paths = 8;             // 1 to kMaxPaths, one socket each
  uint32_t send_bytes = 4 << 20;  // of a path's queue in the kernel
  uint32_t receive_bytes = 4 << 20;  // which is lost when nobody reads it in time
  std::string interface;             // whose MTU counts; empty: the one that has the address
  std::vector<UdpPlace> others;      // further interfaces: path i is of the (i modulo all)th
  bool send_segmentation = true;     // GSO: false only to measure, or where an interface is broken
  bool receive_segmentation = true;  // GRO
  // Gets the socket of each path, which the object keeps. Null: nobody wants them.
  std::vector<int>* sockets = nullptr;
};

// Null: `error` is a sentence that names the cause and the remedy.
std::unique_ptr<PacketIo> OpenUdp(const UdpOptions& options, std::string* error);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_UDP_H_
