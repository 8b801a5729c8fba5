// Start here. A connection and the two proxies that use it: one sends messages, one receives them,
// each as NCCL's proxy does, and every byte is compared.
#ifndef NCCL_PLUGIN_TOOLS_HARP_CHECK_ENDPOINT_H_
#define NCCL_PLUGIN_TOOLS_HARP_CHECK_ENDPOINT_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "nccl_plugin/tools/harp_check/board.h"
#include "nccl_plugin/tools/harp_check/net.h"

namespace taco {
namespace harp {

struct Link {
  void* send = nullptr;
  void* recv = nullptr;
};

// Listens on `to`, connects from `dev` and accepts, in two threads; the listening comm is closed
// again.
Link Connect(Net* sender, Net* receiver, int dev, int to);
void Close(Net* sender, Net* receiver, const Link& link);

struct Message {
  size_t size;  // that is sent
  size_t room;  // of the buffer that is posted: as much or more
  int tag = 0;
};

enum class Polling { kFirstFirst, kLastFirst, kRandom };

// The same plan is given to both sides.
struct Plan {
  std::vector<Message> messages;   // in the order of the receives
  std::vector<size_t> send_order;  // of messages; empty: the same. Only within a group differently
  size_t depth = 8;                // requests under way
  size_t group = 1;                // n of irecv
  Polling polling = Polling::kFirstFirst;
  bool optional = false;       // NCCL_NET_OPTIONAL_RECV_COMPLETION
  bool null_sizes = false;     // test gets no place for sizes
  bool flush = false;          // iflush after each receive
  bool register_each = false;  // each buffer by itself; otherwise the block of all buffers at once
  size_t skew = 0;             // how many bytes beyond a cache line buffers begin
  int send_after_ms = 0;       // when either side begins
  int receive_after_ms = 0;
  uint64_t seed = 1;
};

// Messages of these sizes into buffers of just that size.
Plan OfSizes(const std::vector<size_t>& sizes);

// One side of a link at work. A thread calls Step until all have come to an end.
class Endpoint {
 public:
  Endpoint(Net* net, void* comm, const Plan& plan, const std::string& label, int after_ms);
  virtual ~Endpoint() = default;
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  // Posts what it may, tests what is under way once each. Gives whether all is done.
  bool Step();
  // Deregisters the memory; when all is done.
  void Finish();

 protected:
  struct Request {
    void* request;
    size_t first;  // message, in order of posting
    bool is_flush = false;
  };

  // Posts the next one; false: not yet.
  virtual bool Post(Request* request) = 0;
  virtual void Done(const Request& request, const int* sizes) = 0;
  virtual size_t PerRequest() const = 0;

  unsigned char* Buffer(size_t message) { return block_.data() + offsets_[message]; }
  void* Handle(size_t message) { return handles_[plan_.register_each ? message : 0]; }
  void Register();
  // Whether the bytes around a buffer are as they were.
  void CheckCanaries(size_t message);

  Net* const net_;
  void* const comm_;
  const Plan plan_;
  Side* const side_;
  size_t posted_ = 0;  // messages
  size_t done_ = 0;
  std::vector<Request> under_way_;

 private:
  const int64_t begin_us_;
  std::mt19937 random_;
  std::vector<unsigned char> block_;
  std::vector<size_t> offsets_;
  std::vector<void*> handles_;
};

class Sender : public Endpoint {
 public:
  Sender(Net* net, void* comm, const Plan& plan, const std::string& label);

 protected:
  bool Post(Request* request) override;
  void Done(const Request& request, const int* sizes) override;
  size_t PerRequest() const override { return 1; }
};

class Receiver : public Endpoint {
 public:
  Receiver(Net* net, void* comm, const Plan& plan, const std::string& label);

 protected:
  bool Post(Request* request) override;
  void Done(const Request& request, const int* sizes) override;
  size_t PerRequest() const override { return plan_.group; }

 private:
  void Check(size_t message, const int* size);
  void Flush(size_t first, size_t n);
};

// One thread for each list, as for each proxy.
void RunThreads(const std::vector<std::vector<Endpoint*>>& threads);

// Carries out the plan on one link, with a thread for either side.
void Transfer(Net* sender, Net* receiver, const Link& link, const Plan& plan);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_CHECK_ENDPOINT_H_
