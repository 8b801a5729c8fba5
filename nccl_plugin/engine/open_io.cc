#include "nccl_plugin/engine/open_io.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "nccl_plugin/io/afxdp.h"
#include "nccl_plugin/io/dpdk.h"
#include "nccl_plugin/io/joined.h"
#include "nccl_plugin/io/udp.h"

namespace taco {
namespace harp {
namespace {

UdpOptions OptionsOf(const Interface& interface, int paths, const Settings& settings) {
  UdpOptions options;
  options.address = interface.address;
  options.interface = interface.name;
  options.paths = static_cast<uint16_t>(paths);
  options.send_segmentation = options.receive_segmentation = settings.segmentation;
  options.send_bytes = options.receive_bytes = settings.socket_bytes;
  return options;
}

}  // namespace

std::unique_ptr<PacketIo> OpenIo(const std::vector<const Interface*>& interfaces, int paths,
                                 const Settings& settings, std::string* error) {
  const bool udp = std::all_of(interfaces.begin(), interfaces.end(),
                               [](const Interface* each) { return each->io == "udp"; });
  if (udp) {
    UdpOptions options =
        OptionsOf(*interfaces[0], paths * static_cast<int>(interfaces.size()), settings);
    for (size_t other = 1; other < interfaces.size(); ++other) {
      options.others.push_back({interfaces[other]->address, interfaces[other]->name});
    }
    return OpenUdp(options, error);
  }
  std::vector<std::unique_ptr<PacketIo>> parts;
  for (const Interface* each : interfaces) {
    const UdpOptions options = OptionsOf(*each, paths, settings);
    if (each->io == "dpdk") {
      DpdkOptions dpdk;
      dpdk.paths = options.paths;
      dpdk.mtu = static_cast<uint16_t>(settings.dpdk_mtu);
      dpdk.queues = static_cast<uint16_t>(std::max(settings.engines, 1));
      parts.push_back(OpenDpdk(*each->dpdk, dpdk, error));
    } else {
      parts.push_back(each->io == "afxdp" ? OpenAfxdp(options, settings.helper, error)
                                          : OpenUdp(options, error));
    }
    if (parts.back() == nullptr) return nullptr;
  }
  return JoinIo(std::move(parts), error);
}

std::vector<Interface> FindDpdkInterfaces(const Settings& settings, std::string* error) {
  const auto addresses = ParseDpdkAddresses(settings.dpdk_address, error);
  if (!addresses) {
    *error = "HARP_DPDK_ADDRESS: " + *error;
    return {};
  }
  std::vector<Interface> interfaces;
  for (DpdkPlace& place : FindDpdkPlaces(settings.dpdk_args, *addresses, error)) {
    Interface made;
    made.io = "dpdk";
    made.name = place.name;
    const std::string address = ToText(place.address.address);
    made.address = address.substr(0, address.rfind(':'));
    if (place.speed_mbps > 0) made.speed_mbps = place.speed_mbps;
    made.guid = std::hash<std::string>()(made.name + " " + address);
    made.dpdk = std::make_shared<const DpdkPlace>(std::move(place));
    interfaces.push_back(std::move(made));
  }
  return interfaces;
}

const char* KindInWords(const std::string& io) {
  if (io == "afxdp") return "AF_XDP";
  return io == "dpdk" ? "DPDK" : "UDP";
}

}  // namespace harp
}  // namespace taco
