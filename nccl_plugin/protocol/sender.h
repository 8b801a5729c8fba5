// Start here for how bytes travel. One end of a connection: messages cut into chunks, chunks sent
// as packets over several paths, until all were acknowledged.
//
//   Send --> small messages --+
//        --> large messages --+--> chunks, numbered --> a path's window --> packets
//                   lost chunks come first --^
//
// A chunk keeps its number for life, so the receiver can tell what it has; a packet has a number of
// its path, a new one each time. A packet goes to the path whose queue is shortest in time. A path
// that stays silent while others are heard, though it was asked, or for three timeouts, is black:
// its packets are lost at once, and it is asked now and then whether it is back. The connection
// fails when all paths have been black for long.
//
// Pure: no clock, no socket, no thread, and nothing is allocated after the beginning. Times are the
// caller's, in nanoseconds.
#ifndef NCCL_PLUGIN_PROTOCOL_SENDER_H_
#define NCCL_PLUGIN_PROTOCOL_SENDER_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "nccl_plugin/protocol/congestion.h"
#include "nccl_plugin/protocol/emission.h"
#include "nccl_plugin/protocol/fifo.h"
#include "nccl_plugin/protocol/pacer.h"
#include "nccl_plugin/protocol/packet.h"
#include "nccl_plugin/protocol/sent_window.h"

namespace taco {
namespace harp {

struct SenderOptions {
  int paths = 8;                // 1 to kMaxPaths
  uint32_t chunk_bytes = 1408;  // of a message in a packet
  int burst = 16;               // packets of a path in a row, for I/O that sends them at once
  uint64_t connection = 0;      // the receiver's number of this connection
  bool checksum = true;         // false: what carries the packets makes it
  int64_t keepalive_ns = 5'000'000'000;  // of silence, after which the receiver is asked something
  int64_t dead_ns = 30'000'000'000;      // all paths black for so long: the connection has failed
  CongestionOptions congestion;
};

struct PathStats {
  uint64_t packets = 0;
  uint64_t bytes = 0;  // of messages
  uint64_t lost = 0;   // packets taken for lost
  uint64_t timeouts = 0;
  uint64_t blackouts = 0;
  int64_t round_trip_ns = 0;
  int64_t least_round_trip_ns = 0;
  double window = 0;
  bool black = false;
};

class Sender {
 public:
  static constexpr int kMaxMessages = 64;  // under way; NCCL has 32 at most

  explicit Sender(const SenderOptions& options);

  // Takes a message, whose bytes have to stay until it is done; false: too many are under way.
  // Messages count from 0.
  bool Send(const void* bytes, uint64_t length, int32_t tag, uint64_t* message);

  // Whether the receiver has all of it.
  bool Done(uint64_t message) const;

  // Whether a message that is not done has bytes there.
  bool Uses(const void* bytes, uint64_t size) const;

  // Asks the receiver for an acknowledgement on each path at the next Poll. Before anything is
  // sent, it tells what a path takes without a queue.
  void Ask() {
    for (Path& path : paths_) path.next_question = 0;
  }

  // Takes an acknowledgement. `arrived` is when the machine had it, if that is known, and else now.
  void OnAck(const Packet& packet, int64_t arrived, int64_t now);

  // Writes packets that are due now, at most so many. Their bodies are the messages' own bytes.
  size_t Poll(int64_t now, Emission* out, size_t most);

  // When Poll may have something to do although no packet came; kNever: not by itself.
  int64_t Deadline() const;

  // Why nothing will come of it any more; empty while all is well.
  const std::string& failure() const { return failure_; }
  uint64_t acknowledged_bytes() const { return acknowledged_bytes_; }
  uint64_t messages() const { return oldest_message_; }  // done, one after the other
  bool idle() const { return oldest_message_ == next_message_; }
  PathStats Stats(int path) const;

 private:
  static constexpr uint64_t kAsked = ~uint64_t{0};  // a packet that carries no chunk

  struct Message {
    const uint8_t* bytes = nullptr;
    uint64_t length = 0;
    uint64_t cut = 0;           // bytes that are chunks already
    uint64_t acknowledged = 0;  // bytes
    int32_t tag = 0;
    bool done = false;
  };

  struct Chunk {
    uint64_t message = 0;
    uint64_t offset = 0;
    uint32_t bytes = 0;
    uint16_t in_flight = 0;  // copies
    bool acknowledged = false;
    bool waits = false;  // among the lost ones
  };

  struct Path {
    explicit Path(const CongestionOptions& options) : congestion(options) {}

    SentWindow window;
    Congestion congestion;
    PathStats stats;
    bool black = false;
    int64_t black_since = 0;
    int64_t suspect_at = kNever;  // when silence means that it is black
    bool probes = false;          // one packet more than the window has room for
    int64_t next_question = kNever;
    int questions = 0;
  };

  class PathFate;

  Message& At(uint64_t message) { return messages_[message % kMaxMessages]; }
  const Message& At(uint64_t message) const { return messages_[message % kMaxMessages]; }
  Chunk& ChunkAt(uint64_t chunk) { return chunks_[chunk % kChunkWindow]; }
  void TakeCredit(const Packet& packet);
  void Acknowledged(uint64_t chunk);
  void Lost(uint64_t chunk);
  void OnTime(int64_t now);
  void OnPathTime(Path* path, int64_t now);
  void BecomeBlack(Path* path, int64_t now);
  bool HasWork() const;
  bool MayCut(uint64_t message) const;
  bool NextChunk(uint64_t* chunk);
  bool Cut(uint64_t message, uint64_t* chunk);
  int BestPath() const;
  size_t Room(int index) const;
  void WriteChunk(uint64_t chunk, int path, bool ack_now, int64_t now, Emission* out);
  void WriteQuestion(int path, int64_t now, Emission* out);
  void Fail(int64_t now);

  const SenderOptions options_;
  std::vector<Path> paths_;
  Pacer pacer_;  // of windows below one packet
  std::array<Message, kMaxMessages> messages_;
  uint64_t oldest_message_ = 0;  // every one below is done
  uint64_t next_message_ = 0;
  std::vector<Chunk> chunks_;
  uint64_t oldest_chunk_ = 0;  // every one below is acknowledged
  uint64_t next_chunk_ = 0;
  Fifo<uint64_t> lost_;          // chunks to be sent again
  Fifo<uint64_t> small_;         // messages of one chunk, not cut yet
  Fifo<uint64_t> large_;         // the others, not wholly cut
  uint64_t posted_ = 0;          // messages that the receiver has buffers for
  uint64_t credit_ = 0;          // bytes that may be cut and not acknowledged, by the latest word
  uint32_t credit_time_us_ = 0;  // of that word, by the receiver's clock
  bool credit_known_ = false;
  uint64_t cut_bytes_ = 0;
  uint64_t acknowledged_bytes_ = 0;
  int64_t next_question_ = kNever;  // for credit
  int questions_ = 0;
  int64_t heard_ = 0;   // any acknowledgement
  int64_t spoke_ = -1;  // any packet; -1: not yet
  std::string failure_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_PROTOCOL_SENDER_H_
