// Packets in and out of interfaces, by the kind of I/O that each is to be used with.
#ifndef NCCL_PLUGIN_ENGINE_OPEN_IO_H_
#define NCCL_PLUGIN_ENGINE_OPEN_IO_H_

#include <memory>
#include <string>
#include <vector>

#include "nccl_plugin/engine/interfaces.h"
#include "nccl_plugin/engine/settings.h"
#include "nccl_plugin/io/packet_io.h"

namespace taco {
namespace harp {

// One for all these interfaces (at least one), over which its paths take turns, `paths` each. Null:
// `error` is a sentence that names the cause and the remedy.
std::unique_ptr<PacketIo> OpenIo(const std::vector<const Interface*>& interfaces, int paths,
                                 const Settings& settings, std::string* error);

// The ports that DPDK has, as settings say; starts it. None: `error` is a sentence as above.
std::vector<Interface> FindDpdkInterfaces(const Settings& settings, std::string* error);

// "UDP", "AF_XDP" or "DPDK".
const char* KindInWords(const std::string& io);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ENGINE_OPEN_IO_H_
