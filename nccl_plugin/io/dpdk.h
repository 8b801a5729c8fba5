// The kind of PacketIo over any port of DPDK: PCI interfaces that the kernel has given up, or memif
// and other virtual ones. DPDK is in a library of its own (dpdk_library.h), opened when this kind
// is asked for. Such a port has no kernel behind it: its address is a setting, ARP, or
// neighbour discovery for IPv6, is done here.
#ifndef NCCL_PLUGIN_IO_DPDK_H_
#define NCCL_PLUGIN_IO_DPDK_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nccl_plugin/io/endpoint.h"
#include "nccl_plugin/io/packet_io.h"

namespace taco {
namespace harp {

// Where a port is: 10.9.0.1, or fd09::1, of a network whose other hosts it reaches itself, and who
// reaches others.
struct DpdkAddress {
  Endpoint address;
  int prefix = 0;
  Endpoint gateway;  // of no family: none
};

// Reads "10.9.0.1/24", "fd09::1/64" or "10.9.0.1/24,10.9.0.254" for each port, by semicolons.
// Nothing: `error` says why.
std::optional<std::vector<DpdkAddress>> ParseDpdkAddresses(const std::string& text,
                                                           std::string* error);

struct DpdkPlace {
  int index = 0;     // among DPDK's ports
  std::string name;  // "net_memif0", "0000:00:05.0"
  DpdkAddress address;
  int speed_mbps = 0;  // 0: not known
};

// Starts DPDK with these arguments, once a process, and gives the first ports, one an address.
// Empty: `error` names the cause and the remedy.
std::vector<DpdkPlace> FindDpdkPlaces(const std::string& arguments,
                                      const std::vector<DpdkAddress>& addresses,
                                      std::string* error);

struct DpdkOptions {
  uint16_t paths = 1;
  uint16_t mtu = 0;     // 0: the port's own
  uint16_t queues = 1;  // each way, if the driver has so many: for threads that do not wait
};

// Null: `error` names the cause and the remedy. Who is the first to open a port says its MTU and
// its queues.
std::unique_ptr<PacketIo> OpenDpdk(const DpdkPlace& place, const DpdkOptions& options,
                                   std::string* error);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_DPDK_H_
