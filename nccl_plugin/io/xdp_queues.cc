#include "nccl_plugin/io/xdp_queues.h"

#include <unistd.h>

#include <algorithm>

namespace taco {
namespace harp {
namespace {

constexpr uint32_t kFrames = 8192, kLeastFrames = 1024;
// Where nothing is sent by a queue it has few.
constexpr uint32_t kSendFrames = 2048, kLeastSendFrames = 256, kNoSendFrames = 64;

// Its queues of a kind, "rx" or "tx".
uint32_t Count(const std::string& name, const char* kind) {
  const std::string queues = "/sys/class/net/" + name + "/queues/" + kind + "-";
  uint32_t count = 0;
  while (count < kMaxXdpQueues && access((queues + std::to_string(count)).c_str(), F_OK) == 0) {
    ++count;
  }
  return std::max(count, 1u);  // where /sys is another namespace's
}

// A share of twice so many.
uint32_t Share(uint32_t frames, uint32_t least, uint32_t queues) {
  const uint32_t all = 2 * frames;
  while (frames > least && frames * queues > all) frames /= 2;
  return frames;
}

}  // namespace

uint32_t CountXdpSendQueues(const std::string& name) {
  return std::min(Count(name, "tx"), Count(name, "rx"));
}

std::vector<XdpSocket::Options> XdpQueuesOf(int interface, const std::string& name, bool copies) {
  const uint32_t count = Count(name, "rx"), sending = CountXdpSendQueues(name);
  XdpSocket::Options options;
  options.interface = interface;
  options.name = name;
  options.copies = copies;
  options.receive_frames = Share(kFrames, kLeastFrames, count);
  const uint32_t send_frames = Share(kSendFrames, kLeastSendFrames, sending);
  std::vector<XdpSocket::Options> queues;
  for (options.queue = 0; options.queue < count; ++options.queue) {
    options.send_frames = options.queue < sending ? send_frames : kNoSendFrames;
    queues.push_back(options);
  }
  return queues;
}

}  // namespace harp
}  // namespace taco
