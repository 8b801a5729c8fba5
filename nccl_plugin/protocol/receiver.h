// The other end of a connection: packets become messages in the buffers that were posted for them.
//
// Every packet says where its bytes belong, so they are copied there as they come, once; what came
// before does not matter. A message goes to the group of buffers that was posted for its number:
// one buffer, or up to kMaxBuffers of which its tag chooses one. A sender is told how many messages
// have buffers, and sends no others.
//
// Pure, as the sender is.
#ifndef NCCL_PLUGIN_PROTOCOL_RECEIVER_H_
#define NCCL_PLUGIN_PROTOCOL_RECEIVER_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "nccl_plugin/protocol/chunk_set.h"
#include "nccl_plugin/protocol/credit.h"
#include "nccl_plugin/protocol/emission.h"
#include "nccl_plugin/protocol/packet.h"
#include "nccl_plugin/protocol/receive_window.h"
#include "nccl_plugin/protocol/sent_window.h"

namespace taco {
namespace harp {

struct ReceiverOptions {
  int paths = 8;
  uint64_t connection = 0;       // the sender's number of this connection
  bool checksum = true;          // as the sender's
  CreditPool* credit = nullptr;  // shared with others, outlives the receiver; null: no bound
};

class Receiver {
 public:
  static constexpr int kMaxGroups = 64;  // under way; NCCL has 32 at most
  static constexpr int kMaxBuffers = 8;  // of a group

  struct Buffer {
    void* bytes = nullptr;
    uint64_t size = 0;
    int32_t tag = 0;
  };

  explicit Receiver(const ReceiverOptions& options);

  // Gives buffers for the next `count` messages; false: too many groups are under way. Groups count
  // from 0.
  bool Post(const Buffer* buffers, int count, uint64_t* group);

  // Whether all messages of a group are there; `sizes` gets the bytes of each, in the order of the
  // buffers. A group is done once: its place is given back.
  bool Done(uint64_t group, uint64_t* sizes);

  // Whether a buffer that waits for its message has bytes there.
  bool Uses(const void* bytes, uint64_t size) const;

  // Take a packet of the connection. `arrived` is when the machine had it, if that is known, and
  // else now.
  void OnData(const Packet& packet, int64_t arrived, int64_t now);
  void OnProbe(const Packet& packet, int64_t arrived, int64_t now);

  // Writes acknowledgements that are due.
  size_t Poll(int64_t now, Emission* out, size_t most);
  int64_t Deadline() const;

  const std::string& failure() const { return failure_; }
  uint64_t duplicates() const { return duplicates_; }
  uint64_t copied() const { return copied_; }            // bytes
  uint64_t messages() const { return oldest_message_; }  // done, one after the other

 private:
  struct Group {
    std::array<Buffer, kMaxBuffers> buffers;
    std::array<uint64_t, kMaxBuffers> sizes = {};
    uint32_t taken = 0;  // bits: buffers that have their message
    int count = 0;
    int done = 0;        // messages
    bool given = false;  // its sizes were asked for
  };

  struct Message {
    uint64_t group = 0;
    int buffer = -1;  // -1: nothing came yet
    uint64_t length = 0;
    uint64_t received = 0;
    bool done = false;
  };

  struct Path {
    ReceiveWindow window;
    int unanswered = 0;
    bool now = false;
    int64_t first_unanswered = 0;
    uint32_t echo_us = 0;      // of the highest
    int64_t echo_arrived = 0;  // when it came
    uint16_t queue_us = 0;     // how long it waited to be read
  };

  Path* Note(const Packet& packet, int64_t arrived, int64_t now);
  bool Place(const Packet& packet);
  bool Choose(Message* message, const DataFields& data);
  void Complete(Message* message);
  void ShareCredit() { share_.Set(oldest_message_ < posted_, begun_ != 0); }
  void WriteAck(int path, int64_t now, Emission* out);

  static constexpr uint64_t kMessages = kMaxGroups * kMaxBuffers;

  const ReceiverOptions options_;
  std::vector<Path> paths_;
  std::array<Group, kMaxGroups> groups_;
  uint64_t oldest_group_ = 0;  // every one below was given
  uint64_t next_group_ = 0;
  std::array<Message, kMessages> messages_;
  uint64_t posted_ = 0;          // messages
  uint64_t oldest_message_ = 0;  // every one below is done
  int begun_ = 0;                // messages of which some came, and not all
  CreditShare share_;
  ChunkSet chunks_;
  bool tell_ = false;  // the sender has to be told what was posted
  uint64_t told_ = 0;  // of posted_, in the last acknowledgement
  int answered_path_ = 0;
  uint64_t duplicates_ = 0;
  uint64_t copied_ = 0;
  std::string failure_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_PROTOCOL_RECEIVER_H_
