// Start here. Messages between processes of one machine, each read straight from the sender's
// memory (process_vm_readv): one copy, where a socket's loopback takes two and wakes threads on
// both sides.
//
//   sender    Send: a descriptor (tag, address, bytes) into the receiver's segment, and its bell
//   receiver  Wait: finds the descriptor, reads the bytes, marks it done, rings the sender's bell
//   sender    Wait: sees the mark; the memory is its own again
//
// Messages of one (sender, receiver, tag) arrive in the order of their sends, and tags overtake
// each other. Bytes move while the receiver waits for something; no thread runs by itself. The
// system checks who may read whose memory, as it does for a debugger: the same user, and under
// Yama's ptrace_scope 1 processes with a parent in common, which is allowed to read this one by
// Create.
#ifndef TORCH_EXT_CMA_ENDPOINT_H_
#define TORCH_EXT_CMA_ENDPOINT_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "torch_ext/base/status.h"
#include "torch_ext/cma/card.h"
#include "torch_ext/cma/segment.h"

namespace taco {
namespace cma {

// Any thread may call any method at any time, but Connect, which comes first.
class Endpoint {
 public:
  using Ticket = int64_t;

  ~Endpoint();
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  // Member `rank` of `size` on this machine. ResourceExhausted: no shared memory.
  static base::Status Create(int rank, int size, std::unique_ptr<Endpoint>* endpoint);

  // What the other members need to know, to be brought to them by some other way.
  const Card& card() const { return card_; }

  // Maps the others' segments and reads a word of each one's memory. InvalidArgument says which of
  // them cannot be reached, and why; the endpoint is of no use then. The own segment can be opened
  // until OpenNoMore.
  base::Status Connect(const std::vector<Card>& cards);
  void OpenNoMore() { own_.CloseFile(); }

  // Begins a message. `keep` holds the memory until its ticket has been waited for, which has to
  // happen once. InvalidArgument: no such member, or Connect has not succeeded.
  base::Status Send(const void* data, size_t bytes, int to, int32_t tag,
                    std::shared_ptr<const void> keep, Ticket* ticket);
  base::Status Receive(void* data, size_t bytes, int from, int32_t tag,
                       std::shared_ptr<const void> keep, Ticket* ticket);

  // Returns when the message is through. After an error the endpoint is of no use any more: the
  // peer has ended or given up, the lengths differ, or it took longer than `timeout`. The others
  // are told.
  base::Status Wait(Ticket ticket, std::chrono::milliseconds timeout);

  // Ends all waits, here and at the others, with an error.
  void Close();

 private:
  enum class Stage { kPending, kMoving, kDone, kFailed };

  struct Message {
    bool sending = false;
    int peer = 0;
    int32_t tag = 0;
    char* data = nullptr;
    size_t bytes = 0;
    std::shared_ptr<const void> keep;
    int slot = -1;  // of a message that is sent, once it has one
    Stage stage = Stage::kPending;
    std::string why;  // with kFailed
  };
  using MessagePtr = std::shared_ptr<Message>;

  // Of one other member. Guarded by mutex_, but what is const after Connect.
  struct Peer {
    Segment segment;
    pid_t process = 0;
    int life = -1;  // a file that becomes readable when the process ends
    // Sends.
    uint32_t posted = 0;
    std::vector<MessagePtr> in_slot;
    std::deque<MessagePtr> kept_back;  // no slot was free
    // Receives.
    uint32_t seen = 0;
    std::map<int32_t, std::deque<uint32_t>> arrived;    // slots, by tag
    std::map<int32_t, std::deque<MessagePtr>> awaited;  // by tag
  };

  Endpoint(int rank, int size) : rank_(rank), peers_(static_cast<size_t>(size)) {}

  using Lock = std::unique_lock<std::mutex>;
  bool Mine() const;
  base::Status Begin(MessagePtr message, Ticket* ticket);
  void Post(Peer* peer, const Lock& lock);
  void Collect(Peer* peer, uint32_t slot, const Lock& lock);
  void Look(int from, const Lock& lock);
  void Move(int from, std::deque<MessagePtr>* awaited, std::deque<uint32_t>* arrived, Lock* lock);
  void Progress(const int32_t* tag, Lock* lock);
  std::string WhatEnded(int member) const;
  base::Status GiveUp(End end, std::string why, const Lock& lock);
  void Slumber(Bell* bell, uint32_t seen) const;

  const int rank_;
  Card card_;
  Segment own_;
  std::vector<Peer> peers_;
  std::mutex mutex_;
  bool connected_ = false;
  std::string over_;  // why nothing works any more
  Ticket next_ = 1;
  std::map<Ticket, MessagePtr> messages_;
};

}  // namespace cma
}  // namespace taco

#endif  // TORCH_EXT_CMA_ENDPOINT_H_
