// The connections of the reference plugin: TCP over loopback, driven by whoever calls. Each message
// is its size, its tag and its bytes.
#ifndef NCCL_PLUGIN_TOOLS_HARP_CHECK_TESTING_TCP_COMM_H_
#define NCCL_PLUGIN_TOOLS_HARP_CHECK_TESTING_TCP_COMM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>

#include "nccl_plugin/abi/net.h"

namespace taco {
namespace harp {
namespace reference {

inline constexpr int kMaxRecvs = 8;

struct Listener {
  int fd;
};

// In NCCL's handle: where to connect to, and how far the attempt is.
struct Handle {
  uint16_t port;
  int fd;  // 0: not begun
};

struct Header {
  uint64_t size;
  int64_t tag;
};

class Comm;

struct Part {
  char* data;
  size_t room;
  int tag;
  size_t size;  // that came
  bool taken;   // by a message
};

struct Request {
  Comm* comm;
  bool used;
  bool done;
  bool told;  // done before it was: the faults early-done and done-unsent
  int n;
  int complete;  // parts
  std::array<Part, kMaxRecvs> parts;
};

ncclResult_t Listen(void* handle, void** listener);
ncclResult_t Connect(void* handle, void** comm);
ncclResult_t Accept(void* listener, void** comm);
ncclResult_t CloseListen(void* listener);

// One direction of one connection. One thread at a time.
class Comm {
 public:
  Comm(int fd, bool sends) : fd_(fd), sends_(sends) {}
  ~Comm();

  // NULL where NCCL_NET_MAX_REQUESTS are under way. `parts` are copied.
  Request* Post(int n, const Part* parts);
  bool sends() const { return sends_; }
  // Whether the request's message has begun to come.
  bool Begun(const Request* request) const;
  // Moves what can be moved without waiting.
  ncclResult_t Progress() { return sends_ ? ProgressSends() : ProgressReceives(); }

 private:
  ncclResult_t ProgressSends();
  ncclResult_t ProgressReceives();
  bool Choose();
  void Complete(Request* request);

  const int fd_;
  const bool sends_;
  std::array<Request, NCCL_NET_MAX_REQUESTS> requests_ = {};
  std::deque<Request*> queue_;
  Header header_ = {};
  size_t moved_ = 0;      // bytes of the message at hand, with its header
  Part* part_ = nullptr;  // where the message at hand goes
  bool failed_ = false;
};

}  // namespace reference
}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_CHECK_TESTING_TCP_COMM_H_
