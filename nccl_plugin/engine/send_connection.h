// The sending end.
#ifndef NCCL_PLUGIN_ENGINE_SEND_CONNECTION_H_
#define NCCL_PLUGIN_ENGINE_SEND_CONNECTION_H_

#include <memory>
#include <optional>
#include <string>

#include "nccl_plugin/engine/connection.h"
#include "nccl_plugin/engine/settings.h"
#include "nccl_plugin/protocol/handshake.h"
#include "nccl_plugin/protocol/sender.h"

namespace taco {
namespace harp {

class SendConnection : public Connection {
 public:
  // Greets the listener, which knows the secret; open once it has answered.
  SendConnection(std::unique_ptr<PacketIo> io, const Endpoint& listener, const Secret& secret,
                 uint64_t number, const std::string& name, const Settings& settings, int64_t now,
                 int interfaces = 1);

  // Takes a message; null: not now.
  Request* Send(const void* bytes, uint64_t size, int tag);

  bool Lingers(int64_t) const override { return false; }
  const Sender* sender() const { return sender_ ? &*sender_ : nullptr; }
  int paths() const { return io_->paths(); }

 protected:
  void Take(const Packet& packet, const Endpoint& from, uint16_t path, int64_t arrived,
            int64_t now) override;
  void OnTime(int64_t now) override;
  int64_t Deadline() const override;
  size_t Poll(int64_t now, Emission* out, size_t most) override;
  const Endpoint& Peer(uint16_t path) const override { return peers_[path]; }
  uint16_t SourcePath(uint16_t path) const override { return path; }
  bool Begin(const Command& command, int64_t now) override;
  bool Finished(Request* request, uint64_t* sizes) override;
  std::string Fields() const override;
  bool Uses(const void* bytes, uint64_t size) const override {
    return sender_ && sender_->Uses(bytes, size);
  }
  uint64_t placed_bytes() const override { return 0; }

 private:
  void Greet(int64_t now);
  void Open(const Welcome& welcome, uint64_t peer_number);

  const Settings settings_;
  const std::string name_;
  const Secret secret_;
  const int interfaces_;         // of ours, over which the paths take turns
  Endpoint peer_;                // of the listener, then of the receiver's first interface
  std::vector<Endpoint> peers_;  // of each path
  int64_t began_;
  int64_t next_hello_;
  int hellos_ = 0;
  std::optional<Sender> sender_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ENGINE_SEND_CONNECTION_H_
