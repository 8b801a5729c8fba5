// The network interfaces that HARP may use.
#ifndef NCCL_PLUGIN_ENGINE_INTERFACES_H_
#define NCCL_PLUGIN_ENGINE_INTERFACES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nccl_plugin/io/dpdk.h"

namespace taco {
namespace harp {

struct Interface {
  std::string name;      // "eth0"
  std::string address;   // numeric, with a scope where it needs one
  std::string pci_path;  // below /sys; empty for a virtual one
  int speed_mbps = 10000;
  uint64_t guid = 0;
  std::string io = "udp";                 // how packets go over it: udp, afxdp or dpdk
  std::shared_ptr<const DpdkPlace> dpdk;  // which port of DPDK; null: one of the kernel
  std::vector<int> parts;  // devices of which NCCL made this one; empty: none, it is one itself
};

// Those that are up, have an address and are asked for. `wanted` is as Settings::interfaces; empty:
// all but the loopback, Docker's and other bridges of virtual machines. IPv4 before IPv6, and an
// address of the whole network before one of the link.
std::vector<Interface> FindInterfaces(const std::string& wanted);

// Whether an interface is meant.
bool Wanted(const std::string& name, const std::string& wanted);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ENGINE_INTERFACES_H_
