// Endpoints as the kernel knows them, and the interface that an address belongs to.
#ifndef NCCL_PLUGIN_IO_SOCKET_ADDRESS_H_
#define NCCL_PLUGIN_IO_SOCKET_ADDRESS_H_

#include <sys/socket.h>

#include <optional>
#include <string>

#include "nccl_plugin/io/endpoint.h"

namespace taco {
namespace harp {

// Returns the length that system calls want. No family: AF_UNSPEC.
socklen_t ToSocketAddress(const Endpoint& endpoint, sockaddr_storage* address);

// Of another family: an Endpoint with none.
Endpoint FromSocketAddress(const sockaddr_storage& address);

// Name of the interface that has this address, or whose loopback network it is in; empty: none.
std::string FindInterface(const Endpoint& local);

// Largest IP packet that the interface takes; nothing where there is no such interface.
std::optional<size_t> InterfaceMtu(const std::string& name);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_SOCKET_ADDRESS_H_
