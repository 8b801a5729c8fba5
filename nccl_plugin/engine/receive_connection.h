// The receiving end.
#ifndef NCCL_PLUGIN_ENGINE_RECEIVE_CONNECTION_H_
#define NCCL_PLUGIN_ENGINE_RECEIVE_CONNECTION_H_

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "nccl_plugin/engine/connection.h"
#include "nccl_plugin/engine/settings.h"
#include "nccl_plugin/protocol/handshake.h"
#include "nccl_plugin/protocol/receiver.h"

namespace taco {
namespace harp {

class ReceiveConnection : public Connection {
 public:
  // Open at once: the sender has greeted from `sender`.
  ReceiveConnection(std::unique_ptr<PacketIo> io, const Hello& hello, uint64_t sender_number,
                    const Endpoint& sender, uint64_t number, const Settings& settings,
                    std::shared_ptr<CreditPool> credit, int64_t now);

  // Gives buffers for the next messages; null: not now.
  Request* Post(const Receiver::Buffer* buffers, int count);

  // The WELCOME, which the listener sends first. This end repeats it until the sender is heard: it
  // may be lost, and the listener may be closed by then.
  const std::vector<uint8_t>& welcome() const { return welcome_; }
  uint64_t sender_number() const { return peer_number_; }

  bool Lingers(int64_t now) const override;
  // Whether there are buffers that their user may take back when this end is closed: then nothing
  // may come into them any more. Once no engine moves it.
  bool unfinished() const { return outstanding_ != 0 || has_commands(); }
  void BeginLingering(int64_t now) { linger_until_ = now + kLinger; }

 protected:
  void Take(const Packet& packet, const Endpoint& from, uint16_t path, int64_t arrived,
            int64_t now) override;
  void OnTime(int64_t now) override;
  int64_t Deadline() const override;
  size_t Poll(int64_t now, Emission* out, size_t most) override;
  const Endpoint& Peer(uint16_t) const override { return from_; }
  uint16_t SourcePath(uint16_t) const override { return from_path_; }
  bool Begin(const Command& command, int64_t now) override;
  bool Finished(Request* request, uint64_t* sizes) override;
  std::string Fields() const override;
  bool Uses(const void* bytes, uint64_t size) const override { return receiver_.Uses(bytes, size); }
  uint64_t placed_bytes() const override { return receiver_.copied(); }

 private:
  static constexpr int64_t kLinger = 2'000'000'000;

  const int64_t dead_ns_;
  const std::string name_;
  std::vector<uint8_t> welcome_;
  int64_t next_welcome_;  // kNever: the sender was heard, or is given up
  int64_t last_welcome_;
  int welcomes_ = 0;
  // Where a packet came from last: acknowledgements of all paths go there, so that a sender finds
  // them together. Packets take turns on the paths, and so do the ways back.
  Endpoint from_;
  uint16_t from_path_ = 0;  // of ours: the interface by which the sender can be reached
  const std::shared_ptr<CreditPool> credit_;
  Receiver receiver_;
  int outstanding_ = 0;  // requests
  int64_t heard_;
  int64_t linger_until_ = 0;
  bool closed_ = false;  // by the sender
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ENGINE_RECEIVE_CONNECTION_H_
