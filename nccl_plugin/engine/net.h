// The process's side of HARP: devices, and ends of connections over them. What the adapters of
// NCCL's versions call.
#ifndef NCCL_PLUGIN_ENGINE_NET_H_
#define NCCL_PLUGIN_ENGINE_NET_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "nccl_plugin/engine/engines.h"
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

// Memory that NCCL sends from and receives into.
struct RegisteredMemory {
  const void* bytes = nullptr;
  size_t size = 0;
  std::unique_ptr<PacketIo::Memory> io;  // null: packets of it are copied
};

enum class LogLevel { kWarn, kInfo };

class Net {
 public:
  using Log = void (*)(LogLevel level, const char* text);

  // The process's own, which a forked child has anew. It is never destroyed.
  static Net& Get();
  ~Net() = default;

  // Finds the interfaces, at first. Returns how many there are.
  //
  // A child that was forked while the parent uses HARP may use it too, once it has called this: it
  // begins anew, and must leave the parent's connections alone. Not with DPDK.
  int Init(Log log);
  // The last one of as many as Init was called ends the helper thread.
  void Finalize();

  // Those that were found. Those that NCCL made of them come behind.
  int devices() const { return static_cast<int>(interfaces_.size()); }
  bool Knows(int device) const;
  const Interface& device(int index) const;  // stays where it is

  // One of several, at most kMaxPlaces: a connection's paths take turns over them. Of one device:
  // itself. The same one for the same parts. -1, and `error`: they cannot be merged.
  int Merge(const std::vector<int>& devices, std::string* error);

  const Settings& settings() const { return settings_; }

  // Null: it failed, and the log says why.
  Listener* Listen(int device, Handle* handle);
  void Close(Listener* listener);

  // Null and no failure: not yet.
  SendConnection* Connect(int device, Handle* handle, bool* failed);
  ReceiveConnection* Accept(Listener* listener);
  void Close(SendConnection* connection);
  void Close(ReceiveConnection* connection);

  // Never null. Any end of any connection may use it.
  RegisteredMemory* Register(Connection* connection, const void* bytes, size_t size);
  // From its return on nothing reads or writes it; a connection that has messages there under way
  // fails. False: the device does not let go of it, as the log says, and it stays registered.
  bool Deregister(RegisteredMemory* memory);

  void Warn(const std::string& text) const;
  void Info(const std::string& text) const;

 private:
  Net() = default;

  // Leaves the interface out (false) if packets cannot go over it; where its kind of I/O is not to
  // be had, it becomes udp.
  bool Try(Interface* interface);
  // So many paths for each interface that the device is made of.
  std::unique_ptr<PacketIo> Open(int device, int paths, std::string* error);
  // The devices that a device is made of.
  std::vector<int> Parts(int device) const;
  uint64_t Random();
  void Begin(Connection* connection);
  // From its return on no other thread touches it.
  void End(Connection* connection);

  std::mutex mutex_;
  Log log_ = nullptr;
  int users_ = 0;
  Settings settings_;
  Faults faults_;
  std::atomic<uint64_t> opened_{0};
  std::vector<Interface> interfaces_;
  std::vector<std::unique_ptr<PacketIo>> kept_;  // so that interfaces stay open between connections
  mutable std::mutex merged_mutex_;
  std::deque<Interface> merged_;
  std::vector<std::shared_ptr<CreditPool>> credit_;  // of each
  // Of former times: NCCL may have kept the names.
  std::vector<std::vector<Interface>> former_;
  std::vector<std::deque<Interface>> former_merged_;
  Helper helper_;
  Engines engines_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ENGINE_NET_H_
