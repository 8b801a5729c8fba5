// What a process says to harp-helper and hears from it: messages of fixed size over a Unix socket
// that keeps their bounds (SOCK_SEQPACKET), some with descriptors. A connection is one process's
// use of one interface, and ends with it.
//
//   kOpen    interface           ->  link, then socket and memory of each queue
//   kClaim   a UDP socket        ->  frames to its address and port come as such
//   kDrop    port                ->  no longer
//
// Each is answered by one reply of the same kind. Nothing that the other side says is believed.
#ifndef NCCL_PLUGIN_IO_XDP_HELPER_PROTOCOL_H_
#define NCCL_PLUGIN_IO_XDP_HELPER_PROTOCOL_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "nccl_plugin/io/xdp_queues.h"

namespace taco {
namespace harp {

inline constexpr char kHelperSocket[] = "/run/harp-helper.sock";
inline constexpr uint32_t kHelperMagic = 0x50524148;  // "HARP"
inline constexpr uint16_t kHelperVersion = 1;

enum class HelperAsk : uint16_t { kOpen = 1, kClaim = 2, kDrop = 3 };

struct HelperRequest {
  uint32_t magic = kHelperMagic;
  uint16_t version = kHelperVersion;
  HelperAsk ask = HelperAsk::kOpen;
  char interface[16] = {};  // kOpen; ends with a zero
  uint16_t port = 0;        // kDrop
  uint8_t zeros[6] = {};
};
static_assert(sizeof(HelperRequest) == 32, "one layout for all builds");

struct HelperQueue {
  uint32_t receive_frames = 0;
  uint32_t send_frames = 0;
  uint8_t zero_copy = 0;
  uint8_t busy_poll = 0;
  uint8_t zeros[6] = {};
};
static_assert(sizeof(HelperQueue) == 16, "one layout for all builds");

struct HelperReply {
  uint32_t magic = kHelperMagic;
  uint16_t version = kHelperVersion;
  HelperAsk ask = HelperAsk::kOpen;
  uint16_t failed = 0;  // then `error` says why
  uint16_t generic = 0;
  uint32_t queues = 0;
  char error[496] = {};
  HelperQueue queue[kMaxXdpQueues];
};
static_assert(sizeof(HelperReply) == 512 + 16 * kMaxXdpQueues, "one layout for all builds");

// Checks what came; false, and a sentence: it is none.
bool ReadHelperRequest(const uint8_t* bytes, size_t size, HelperRequest* request,
                       std::string* error);
bool ReadHelperReply(const uint8_t* bytes, size_t size, HelperReply* reply);

// Sends a message with descriptors. False: errno says why.
bool SendWithDescriptors(int socket, const void* bytes, size_t size,
                         const std::vector<int>& descriptors);

// Takes a message: its size, 0 at the end, -1 and errno. `descriptors` are the caller's to close,
// at most `most`; more are closed at once, and counted as `too_many`.
ptrdiff_t ReceiveWithDescriptors(int socket, void* bytes, size_t size, size_t most,
                                 std::vector<int>* descriptors, bool* too_many);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_XDP_HELPER_PROTOCOL_H_
