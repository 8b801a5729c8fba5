// Waits for senders: answers their greetings, and makes a receiving end for each.
#ifndef NCCL_PLUGIN_ENGINE_LISTENER_H_
#define NCCL_PLUGIN_ENGINE_LISTENER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "nccl_plugin/engine/receive_connection.h"
#include "nccl_plugin/engine/settings.h"
#include "nccl_plugin/io/packet_io.h"
#include "nccl_plugin/protocol/handshake.h"

namespace taco {
namespace harp {

class Listener {
 public:
  // Opens the sockets of a receiving end; null and a reason if that fails.
  using OpenIo = std::function<std::unique_ptr<PacketIo>(std::string* error)>;

  // `credit`: what its receiving ends share with others of the interface.
  Listener(std::unique_ptr<PacketIo> io, OpenIo open, const Secret& secret,
           const Settings& settings, std::shared_ptr<CreditPool> credit,
           std::function<uint64_t()> random);

  Endpoint endpoint() const { return io_->local(0); }

  // Reads greetings and answers them. Any thread.
  void Move(int64_t now);

  // The next receiving end, if there is one.
  std::unique_ptr<ReceiveConnection> Accept();

  // For each receiving end that was made and not accepted yet: acknowledgements are due there too.
  void MoveWaiting(int64_t now);

 private:
  static constexpr size_t kMost = 65536;  // that were ever made

  void Take(const Packet& packet, size_t size, const Endpoint& from, int64_t now);
  void Refusal(uint64_t sender, const std::string& reason, const Endpoint& to);
  void Answer(const std::vector<uint8_t>& datagram, const Endpoint& to);

  std::mutex mutex_;
  std::unique_ptr<PacketIo> io_;
  const OpenIo open_;
  const Secret secret_;
  const Settings settings_;
  const std::shared_ptr<CreditPool> credit_;
  const std::function<uint64_t()> random_;
  std::unordered_map<uint64_t, std::vector<uint8_t>> welcomes_;  // by the sender's number
  std::deque<std::unique_ptr<ReceiveConnection>> waiting_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ENGINE_LISTENER_H_
