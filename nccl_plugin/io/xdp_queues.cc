#include "nccl_plugin/io/xdp_queues.h"

#include <unistd.h>

#include <algorithm>

namespace taco {
namespace harp {
namespace {

constexpr uint32_t kFrames = 8192, kLeastFrames = 1024;
constexpr uint32_t kSendFrames = 2048, kOtherSendFrames = 64;  // packets are sent by the first

// How many queues it receives by.
uint32_t CountQueues(const std::string& name) {
  const std::string queues = "/sys/class/net/" + name + "/queues/rx-";
  uint32_t count = 0;
  while (count < kMaxXdpQueues && access((queues + std::to_string(count)).c_str(), F_OK) == 0) {
    ++count;
  }
  return std::max(count, 1u);  // where /sys is another namespace's
}

}  // namespace

std::vector<XdpSocket::Options> XdpQueuesOf(int interface, const std::string& name, bool copies) {
  const uint32_t count = CountQueues(name);
  XdpSocket::Options options;
  options.interface = interface;
  options.name = name;
  options.copies = copies;
  options.send_frames = kSendFrames;
  options.receive_frames = kFrames;
  while (options.receive_frames > kLeastFrames && options.receive_frames * count > 2 * kFrames) {
    options.receive_frames /= 2;
  }
  std::vector<XdpSocket::Options> queues;
  for (options.queue = 0; options.queue < count; ++options.queue) {
    queues.push_back(options);
    options.send_frames = kOtherSendFrames;
  }
  return queues;
}

}  // namespace harp
}  // namespace taco
