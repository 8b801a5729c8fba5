// The process's side of HARP: devices, and ends of connections over them. What the adapters of
// NCCL's versions call.
#ifndef NCCL_PLUGIN_ENGINE_NET_H_
#define NCCL_PLUGIN_ENGINE_NET_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "nccl_plugin/engine/helper.h"
#include "nccl_plugin/engine/interfaces.h"
#include "nccl_plugin/engine/listener.h"
#include "nccl_plugin/engine/receive_connection.h"
#include "nccl_plugin/engine/send_connection.h"
#include "nccl_plugin/engine/settings.h"
#include "nccl_plugin/io/faults.h"

namespace taco {
namespace harp {

// What a listener gives to senders, over whatever way they have. NCCL passes the same bytes to each
// call of connect, so an attempt under way is kept in them.
struct Handle {
  char magic[8];
  uint8_t address[16];
  Secret secret;
  uint16_t port;
  uint8_t family;
  uint8_t version;
  uint32_t unused;
  SendConnection* attempt;
};
static_assert(sizeof(Handle) == 56 && sizeof(Handle) <= 128, "NCCL has room for 128 bytes");

enum class LogLevel { kWarn, kInfo };

class Net {
 public:
  using Log = void (*)(LogLevel level, const char* text);

  // The process's own. It is never destroyed.
  static Net& Get();

  // Finds the interfaces, at first. Returns how many there are.
  int Init(Log log);
  // The last one of as many as Init was called ends the helper thread.
  void Finalize();

  int devices() const { return static_cast<int>(interfaces_.size()); }
  const Interface& device(int index) const { return interfaces_[index]; }
  const Settings& settings() const { return settings_; }

  // Null: it failed, and the log says why.
  Listener* Listen(int device, Handle* handle);
  void Close(Listener* listener);

  // Null and no failure: not yet.
  SendConnection* Connect(int device, Handle* handle, bool* failed);
  ReceiveConnection* Accept(Listener* listener);
  void Close(SendConnection* connection);
  void Close(ReceiveConnection* connection);

  void Warn(const std::string& text) const;
  void Info(const std::string& text) const;

 private:
  Net() = default;

  std::unique_ptr<PacketIo> Open(int device, int paths, std::string* error);
  uint64_t Random();

  std::mutex mutex_;
  Log log_ = nullptr;
  int users_ = 0;
  Settings settings_;
  Faults faults_;
  std::atomic<uint64_t> opened_{0};
  std::vector<Interface> interfaces_;
  std::vector<std::shared_ptr<CreditPool>> credit_;  // of each
  // Of former times: NCCL may have kept the names.
  std::vector<std::vector<Interface>> former_;
  Helper helper_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ENGINE_NET_H_
