// The XDP program of `afxdp`, and its tables: of the frames that come to an interface it takes
// those with a whole UDP datagram to one of our addresses and ports, and passes all others to the
// kernel.
//
// It is written as instructions here and loaded by the system call bpf() itself: forty of them need
// neither a compiler for BPF when TACO is built nor libbpf and libxdp when it runs. It is attached
// by a link that goes with its last descriptor, so however a process ends, the interface is as
// before.
#ifndef NCCL_PLUGIN_IO_XDP_PROGRAM_H_
#define NCCL_PLUGIN_IO_XDP_PROGRAM_H_

#include <cstdint>
#include <memory>
#include <string>

#include "nccl_plugin/io/endpoint.h"

namespace taco {
namespace harp {

class XdpProgram {
 public:
  // Loads it and attaches it to the interface, in its driver where that can, else in the kernel's
  // generic way (`generic()`). Null: `error` names the cause and the remedy.
  static std::unique_ptr<XdpProgram> Attach(int interface, const std::string& name,
                                            std::string* error);
  ~XdpProgram();
  XdpProgram(const XdpProgram&) = delete;
  XdpProgram& operator=(const XdpProgram&) = delete;

  // Frames of this queue that are ours go to this socket.
  bool SetSocket(uint32_t queue, int socket, std::string* error);

  // Frames to this address and port are ours, or no longer. IPv4 or IPv6; one address a port.
  bool Claim(const Endpoint& endpoint, std::string* error);
  void Drop(uint16_t port);

  bool generic() const { return generic_; }
  // What keeps it attached, whoever has it.
  int link() const { return link_; }

 private:
  XdpProgram() = default;

  int sockets_ = -1;
  int ports_ = -1;
  int program_ = -1;
  int link_ = -1;
  bool generic_ = false;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_XDP_PROGRAM_H_
