// Two ends of a connection in a simulated network: messages go from one to the other as real
// packets, and every byte is compared.
#ifndef NCCL_PLUGIN_SIMULATION_TRANSFER_H_
#define NCCL_PLUGIN_SIMULATION_TRANSFER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "nccl_plugin/protocol/receiver.h"
#include "nccl_plugin/protocol/sender.h"
#include "nccl_plugin/simulation/network.h"

namespace taco {
namespace harp {

// One direction of a path: the links from the sender to the receiver, and those back.
struct Route {
  std::vector<int> forth, back;
};

class Transfer {
 public:
  struct Options {
    std::vector<Route> routes;       // one a path
    SenderOptions sender;            // its number of paths is that of the routes
    std::vector<uint64_t> messages;  // bytes of each
    int depth = 8;                   // messages under way, on both sides
    int group = 1;                   // buffers posted at once
    CreditPool* credit = nullptr;    // the receivers'
    int64_t post_late_ns = 0;  // a receive is posted so much after there is room for it, at most
  };

  Transfer(Network* network, const Options& options);

  void Start();
  bool done() const { return received_ == options_.messages.size() && sent_ == received_; }
  int64_t done_at() const { return done_at_; }
  std::string failure() const;  // of either end, or wrong bytes; empty while all is well
  const Sender& sender() const { return sender_; }
  const Receiver& receiver() const { return receiver_; }
  uint64_t received_bytes() const { return received_bytes_; }
  uint64_t refused() const { return refused_; }  // packets whose checksum was wrong
  int64_t longest() const { return longest_; }   // from the send of a message to its end

 private:
  struct Posted {
    uint64_t group;
    uint64_t first;  // message
    int count;
    std::vector<std::vector<uint8_t>> bytes;
  };

  std::vector<uint8_t> Contents(uint64_t message) const;
  void Work();
  void SendMore();
  void PostMore();
  void TakeDone();
  void EmitAll();
  void Wake();
  void Arrived(const Network::Packet& packet);

  Network* network_;
  Options options_;
  uint64_t seed_;
  Sender sender_;
  Receiver receiver_;
  std::vector<std::vector<uint8_t>> outgoing_;
  std::vector<uint64_t> numbers_;
  std::vector<int64_t> started_;
  std::vector<Posted> posted_;
  uint64_t begun_ = 0, sent_ = 0, wanted_ = 0, received_ = 0, received_bytes_ = 0, refused_ = 0;
  int64_t next_post_ = 0;
  int64_t wake_at_ = kNever;
  int64_t done_at_ = 0;
  int64_t longest_ = 0;
  std::string wrong_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_SIMULATION_TRANSFER_H_
