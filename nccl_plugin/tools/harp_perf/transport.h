// What is measured: something that carries messages one way, driven as NCCL's proxy drives a net.
#ifndef NCCL_PLUGIN_TOOLS_HARP_PERF_TRANSPORT_H_
#define NCCL_PLUGIN_TOOLS_HARP_PERF_TRANSPORT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace taco {
namespace harp {

// What an end has cost so far, beside the processor's time.
struct Costs {
  uint64_t system_calls = 0;
  uint64_t user_copied_bytes = 0;  // in the process
  uint64_t kernel_copied_bytes = 0;
};

// One end. Calls never block; a null request means "not now". A failure ends the program with a
// sentence.
class Line {
 public:
  virtual ~Line() = default;
  virtual void* Send(const void* bytes, size_t size) = 0;
  virtual void* Receive(void* bytes, size_t size) = 0;
  virtual bool Done(void* request) = 0;
  // Memory that Send and Receive will use, and the end of all that was said so.
  virtual void Prepare(const void* bytes, size_t size) = 0;
  virtual void Forget() = 0;
  // Nothing where it cannot be told.
  virtual std::optional<Costs> costs() const = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;
  // 128 bytes that Connect on the other side needs; then Accept gives the receiving end.
  virtual std::string Listen() = 0;
  virtual std::unique_ptr<Line> Accept() = 0;
  virtual std::unique_ptr<Line> Connect(const std::string& handle) = 0;
};

// A net plugin, by its version 12. `interface`: of several devices the one of this name.
std::unique_ptr<Transport> OpenPlugin(const std::string& path, const std::string& interface);

// Kernel TCP as NCCL's own transport uses it: a control socket for the sizes and so many for the
// bytes, no helper thread. `address`: of this machine, numeric IPv4.
std::unique_ptr<Transport> OpenTcp(int sockets, const std::string& address);

[[noreturn]] void Die(const std::string& why);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_PERF_TRANSPORT_H_
