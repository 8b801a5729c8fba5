// What a client says to harp-helper, and what one pretends to answer: reading it touches no byte
// outside, and what is taken keeps its promises.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "nccl_plugin/io/xdp_helper_protocol.h"

namespace {

void Demand(bool promise) {
  if (!promise) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace taco::harp;
  // Once as it is, then with what leads on: a request's and a reply's size and beginning.
  for (int turn = 0; turn < 3; ++turn) {
    const size_t length = turn == 0   ? size
                          : turn == 1 ? sizeof(HelperRequest)
                                      : sizeof(HelperReply);
    // A block of its own, so that the address sanitizer sees its end.
    const std::unique_ptr<uint8_t[]> bytes(new uint8_t[length]());
    for (size_t at = 0; at < length && size != 0; ++at) bytes[at] = data[at % size];
    if (turn != 0) {
      std::memcpy(bytes.get(), &kHelperMagic, sizeof(kHelperMagic));
      std::memcpy(bytes.get() + 4, &kHelperVersion, sizeof(kHelperVersion));
    }
    HelperRequest request;
    std::string error;
    if (ReadHelperRequest(bytes.get(), length, &request, &error)) {
      Demand(std::memchr(request.interface, 0, sizeof(request.interface)) != nullptr);
      Demand((request.ask == HelperAsk::kOpen) == (request.interface[0] != 0));
      Demand((request.ask == HelperAsk::kDrop) == (request.port != 0));
    } else {
      Demand(!error.empty());
    }
    HelperReply reply;
    if (ReadHelperReply(bytes.get(), length, &reply)) {
      Demand(reply.queues <= kMaxXdpQueues);
      Demand(std::memchr(reply.error, 0, sizeof(reply.error)) != nullptr);
      for (uint32_t queue = 0; queue < reply.queues; ++queue) {
        Demand(reply.queue[queue].receive_frames != 0 && reply.queue[queue].send_frames != 0);
      }
    }
  }
  return 0;
}
