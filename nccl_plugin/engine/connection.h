// Start here. One end of a connection at work: the protocol's state, the sockets, the requests.
//
// Whoever asks for something (isend, irecv, test) moves the connection on: reads what came, writes
// what is due. When nobody asks for a while the helper thread does, so that a peer gets its
// acknowledgements. Both take a lock that nobody waits for: who does not get it comes again.
//
// With an engine (engines.h) the user's thread takes no part: requests go to the engine through a
// ring, and each tells by a flag of its own that it is done.
#ifndef NCCL_PLUGIN_ENGINE_CONNECTION_H_
#define NCCL_PLUGIN_ENGINE_CONNECTION_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "nccl_plugin/engine/ring.h"
#include "nccl_plugin/io/packet_io.h"
#include "nccl_plugin/protocol/emission.h"
#include "nccl_plugin/protocol/packet.h"
#include "nccl_plugin/protocol/receiver.h"

namespace taco {
namespace harp {

class Connection;

struct alignas(kCacheLine) Request {
  // The user's side.
  Connection* connection = nullptr;
  int count = 0;  // of messages
  bool used = false;
  std::array<void*, 8> events = {};  // of whoever watches the request's messages

  // Of whoever moves the connection.
  alignas(kCacheLine) uint64_t number = 0;  // of the message, or of the group of buffers
  uint64_t size = 0;                        // of a sent message
  std::array<uint64_t, Receiver::kMaxBuffers> sizes = {};  // with an engine: once it is done
  std::atomic<bool> done{false};                           // with an engine

  void Take(Connection* by) {
    connection = by;
    used = true;
    count = 0;
    events = {};
    number = size = 0;
    done.store(false, std::memory_order_relaxed);
  }
};

static_assert(sizeof(Request) % kCacheLine == 0 && offsetof(Request, number) % kCacheLine == 0,
              "a request's user and who moves its connection write lines of their own");

// What a user asks for: that a message be sent, or put into one of some buffers.
struct Command {
  Command() = default;
  Command(const Command& other) { *this = other; }
  // Of the buffers those that there are: usually one, which a cache line holds with the rest.
  Command& operator=(const Command& other) {
    request = other.request;
    count = other.count;
    std::copy_n(other.buffers.begin(), count, buffers.begin());
    return *this;
  }

  Request* request = nullptr;
  int count = 0;  // of buffers
  std::array<Receiver::Buffer, Receiver::kMaxBuffers> buffers;
};

class Connection {
 public:
  static constexpr int kMaxRequests = 64;

  Connection(std::unique_ptr<PacketIo> io, uint64_t number);
  virtual ~Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  enum class State { kGreeting, kOpen, kFailed };

  State state() const { return state_.load(std::memory_order_acquire); }
  // Why it failed; only once it has.
  const std::string& failure() const { return failure_; }
  uint64_t number() const { return number_; }
  int64_t moved_at() const { return moved_at_.load(std::memory_order_relaxed); }
  PacketIo& io() { return *io_; }

  // From now on an engine moves it. Before any request.
  void UseEngine() { ring_ = std::make_unique<Ring<Command, kMaxRequests>>(); }

  // Moves it on. Returns false, having done nothing, while another thread does.
  bool Move(int64_t now);
  // The same, now. Returns whether anything was to be done.
  bool MoveIfFree();

  // Whether a request is done; `sizes` gets the true bytes of each message. Done requests are given
  // back. Moves the connection on if it is not, unless an engine does.
  bool Test(Request* request, uint64_t* sizes);

  // When Move may have something to do although nothing comes. Any thread.
  int64_t deadline() const { return deadline_.load(std::memory_order_relaxed); }

  // Whether the peer may still need something of this end, which its user has closed.
  virtual bool Lingers(int64_t now) const = 0;

  // What a line of HARP_STATS says of it, as fields of JSON. Empty while another thread moves it,
  // which then leaves a description behind for Described.
  std::string Describe();
  std::string Described();

  // What it has cost so far. Any thread; waits for the one that moves it.
  struct Costs {
    uint64_t system_calls = 0;  // of its packet I/O
    uint64_t user_copied_bytes = 0;
    uint64_t kernel_copied_bytes = 0;
  };
  Costs costs();

  // Its user takes memory back. Where messages under way have bytes there the connection fails, so
  // that nothing is read from it or written to it any more. Any thread; waits as `costs` does.
  void TakeBack(const void* bytes, uint64_t size);

  // Tells the peer why it ends; a lost packet does no harm.
  void SendClose(const std::string& reason);

 protected:
  // The lock, if it could be had.
  class Hold {
   public:
    explicit Hold(std::atomic<bool>* held) : held_(held), got_(!held->exchange(true)) {}
    ~Hold() {
      if (got_) held_->store(false);
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    explicit operator bool() const { return got_; }

   private:
    std::atomic<bool>* held_;
    bool got_;
  };

  // `path`: of ours, on which it came in.
  virtual void Take(const Packet& packet, const Endpoint& from, uint16_t path, int64_t arrived,
                    int64_t now) = 0;
  virtual void OnTime(int64_t now) = 0;
  virtual int64_t Deadline() const = 0;
  // Packets to be sent, and where those of a path go.
  virtual size_t Poll(int64_t now, Emission* out, size_t most) = 0;
  virtual const Endpoint& Peer(uint16_t path) const = 0;
  virtual uint16_t SourcePath(uint16_t path) const = 0;
  // Gives the protocol what was asked for; false: there is no room.
  virtual bool Begin(const Command& command, int64_t now) = 0;
  virtual bool Finished(Request* request, uint64_t* sizes) = 0;
  virtual std::string Fields() const = 0;
  virtual bool Uses(const void* bytes, uint64_t size) const = 0;
  virtual uint64_t placed_bytes() const = 0;  // copied into the user's buffers

  // Whether something was asked for that the engine has not begun. Once no engine moves it.
  bool has_commands() const { return ring_ != nullptr && (stalled_ || !ring_->empty()); }
  // Has the command's work begun; null: not now.
  Request* Ask(Command* command);
  void Fail(const std::string& why);
  void SendNow(const uint8_t* bytes, size_t size, uint16_t path, const Endpoint& to);

  const uint64_t number_;  // by which the peer names this end
  uint64_t peer_number_ = 0;
  std::unique_ptr<PacketIo> io_;
  std::atomic<State> state_{State::kGreeting};
  std::string failure_;  // written once, before the state says so
  bool checksum_ = true;

 private:
  static constexpr size_t kBatch = 64;

  Request* NewRequest();
  bool MoveLocked(int64_t now);  // whether anything was to be done
  bool TakeCommands(int64_t now);
  bool TellDone();
  bool Receive(int64_t now);
  bool Flush();
  Costs CostsNow() const;
  std::string Description() const;

  std::array<Request, kMaxRequests> requests_;
  std::unique_ptr<Ring<Command, kMaxRequests>> ring_;  // null: there is no engine
  // What follows is of whoever moves the connection: with an engine its user reads nothing of it.
  alignas(kCacheLine) Command command_;  // with an engine: the last one that came out of the ring
  bool stalled_ = false;                 // for which there is no room yet
  std::array<Request*, kMaxRequests> under_way_;  // with an engine
  size_t under_way_count_ = 0;
  std::array<Emission, kBatch> emissions_;  // written, and not all sent
  size_t emitted_ = 0, flushed_ = 0;
  std::atomic<int64_t> moved_at_{0};
  std::atomic<int64_t> deadline_{0};
  std::atomic<bool> held_{false};
  std::atomic<bool> description_wanted_{false};
  std::mutex description_mutex_;  // taken when a description is wanted, and at no other time
  std::string description_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ENGINE_CONNECTION_H_
