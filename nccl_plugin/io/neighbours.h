// How the kernel would reach an address over an interface: by whose address of Ethernet. Asked by
// netlink, which tells anybody.
#ifndef NCCL_PLUGIN_IO_NEIGHBOURS_H_
#define NCCL_PLUGIN_IO_NEIGHBOURS_H_

#include <cstdint>

#include "nccl_plugin/io/endpoint.h"
#include "nccl_plugin/io/frame_device.h"

namespace taco {
namespace harp {

class Neighbours {
 public:
  explicit Neighbours(int interface);
  ~Neighbours();
  Neighbours(const Neighbours&) = delete;
  Neighbours& operator=(const Neighbours&) = delete;

  // Two small system calls each for the route and the neighbour; does not wait. kUnknown also where
  // the way is over another interface, and now and then where the kernel has not heard the
  // neighbour for long: a packet that is given to the kernel then makes it ask.
  FrameDevice::Way Find(const Endpoint& to, int64_t now, Mac* mac);

 private:
  // The next hop on the way.
  FrameDevice::Way FindHop(const Endpoint& to, Endpoint* hop) const;

  const int interface_;
  const int socket_;
  int64_t asked_ = 0;  // when the kernel was left to ask
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_NEIGHBOURS_H_
