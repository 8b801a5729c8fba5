// Several PacketIos, of interfaces of their own, as one: path i is path i / n of the (i modulo
// n)th.
#ifndef NCCL_PLUGIN_IO_JOINED_H_
#define NCCL_PLUGIN_IO_JOINED_H_

#include <memory>
#include <string>
#include <vector>

#include "nccl_plugin/io/packet_io.h"

namespace taco {
namespace harp {

// At least one, with as many paths each. Null: `error` says why not.
std::unique_ptr<PacketIo> JoinIo(std::vector<std::unique_ptr<PacketIo>> parts, std::string* error);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_JOINED_H_
