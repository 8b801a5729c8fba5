#include "torch_ext/cma/endpoint.h"

#include <linux/futex.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

namespace taco {
namespace cma {
namespace {

using Clock = std::chrono::steady_clock;

// How long a wait sleeps at most before it looks whether its peer still lives, and at what came
// under other tags: a thread that waits for a send may be the one that has to receive.
constexpr long kSlumberNanoseconds = 5'000'000;

// All of it, or the reason.
base::Status ReadMemory(pid_t process, uint64_t address, char* data, size_t bytes) {
  while (bytes > 0) {
    const iovec here = {data, bytes};
    const iovec there = {reinterpret_cast<void*>(static_cast<uintptr_t>(address)), bytes};
    const ssize_t got = process_vm_readv(process, &here, 1, &there, 1, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return base::InvalidArgument(std::string("its memory cannot be read (") +
                                   std::strerror(got < 0 ? errno : EFAULT) + ")");
    }
    data += got;
    address += static_cast<uint64_t>(got);
    bytes -= static_cast<size_t>(got);
  }
  return base::OkStatus();
}

// Under Yama's ptrace_scope 1, the default of Ubuntu, a process may read its descendants alone,
// and those who allowed it. This allows the parent, which started the other ranks of this machine
// too, and its descendants: not everybody.
void AllowSiblings() {
  std::FILE* file = std::fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
  if (file == nullptr) return;
  int scope = 0;
  if (std::fscanf(file, "%d", &scope) == 1 && scope == 1) {
    prctl(PR_SET_PTRACER, static_cast<unsigned long>(getppid()), 0, 0, 0);
  }
  std::fclose(file);
}

std::string NameOf(int peer) { return "rank " + std::to_string(peer) + " of this machine"; }

}  // namespace

base::Status Endpoint::Create(int rank, int size, std::unique_ptr<Endpoint>* endpoint) {
  if (size < 1 || rank < 0 || rank >= size) {
    return base::InvalidArgument("there is no rank " + std::to_string(rank) + " of " +
                                 std::to_string(size));
  }
  std::unique_ptr<Endpoint> made(new Endpoint(rank, size));
  base::Status status = OwnCard(&made->card_);
  if (!status.ok()) return status;
  status = made->own_.Create(size, made->card_.token);
  if (!status.ok()) return status;
  made->card_.file = static_cast<uint64_t>(made->own_.file());
  made->card_.word_address = reinterpret_cast<uintptr_t>(&made->card_.token[0]);
  AllowSiblings();
  *endpoint = std::move(made);
  return base::OkStatus();
}

Endpoint::~Endpoint() {
  Close();
  for (Peer& peer : peers_) {
    if (peer.life >= 0) close(peer.life);
  }
}

base::Status Endpoint::Connect(const std::vector<Card>& cards) {
  if (cards.size() != peers_.size()) {
    return base::InvalidArgument(std::to_string(cards.size()) + " cards for " +
                                 std::to_string(peers_.size()) + " ranks");
  }
  for (int member = 0; member < static_cast<int>(peers_.size()); ++member) {
    if (member == rank_) continue;
    const Card& card = cards[static_cast<size_t>(member)];
    Peer& peer = peers_[static_cast<size_t>(member)];
    peer.process = static_cast<pid_t>(card.process);
    peer.in_slot.resize(kSlots);
    base::Status status = SameMachine(card_, card);
    if (status.ok()) {
      status = peer.segment.Open(peer.process, static_cast<int>(card.file),
                                 static_cast<int>(peers_.size()), card.token);
    }
    uint64_t word = 0;
    if (status.ok()) {
      status =
          ReadMemory(peer.process, card.word_address, reinterpret_cast<char*>(&word), sizeof(word));
    }
    if (status.ok() && word != card.token[0]) {
      status = base::InvalidArgument("its memory is not what it says");
    }
    if (status.ok()) {
      peer.life = static_cast<int>(syscall(SYS_pidfd_open, peer.process, 0));
      if (peer.life < 0) {
        status = base::InvalidArgument(std::string("it cannot be watched (") +
                                       std::strerror(errno) + ")");
      }
    }
    if (!status.ok()) {
      return base::InvalidArgument(NameOf(member) + ": " + status.message());
    }
  }
  const Lock lock(mutex_);
  connected_ = true;
  return base::OkStatus();
}

base::Status Endpoint::Send(const void* data, size_t bytes, int to, int32_t tag,
                            std::shared_ptr<const void> keep, Ticket* ticket) {
  auto message = std::make_shared<Message>();
  message->sending = true;
  message->peer = to;
  message->tag = tag;
  message->data = const_cast<char*>(static_cast<const char*>(data));  // it is only read
  message->bytes = bytes;
  message->keep = std::move(keep);
  return Begin(std::move(message), ticket);
}

base::Status Endpoint::Receive(void* data, size_t bytes, int from, int32_t tag,
                               std::shared_ptr<const void> keep, Ticket* ticket) {
  auto message = std::make_shared<Message>();
  message->peer = from;
  message->tag = tag;
  message->data = static_cast<char*>(data);
  message->bytes = bytes;
  message->keep = std::move(keep);
  return Begin(std::move(message), ticket);
}

// A child of fork has the endpoint too, and it is not the child's.
bool Endpoint::Mine() const { return card_.process == static_cast<uint64_t>(getpid()); }

base::Status Endpoint::Begin(MessagePtr message, Ticket* ticket) {
  if (!Mine()) return base::InvalidArgument("the connection is that of this process's parent");
  const Lock lock(mutex_);
  if (!over_.empty()) return base::InvalidArgument(over_);
  const int peer = message->peer;
  if (!connected_ || peer < 0 || peer >= static_cast<int>(peers_.size()) || peer == rank_) {
    return base::InvalidArgument("no connection to " + NameOf(peer));
  }
  Peer& other = peers_[static_cast<size_t>(peer)];
  *ticket = next_++;
  messages_[*ticket] = message;
  if (message->sending) {
    other.kept_back.push_back(std::move(message));
    Post(&other, lock);
  } else {
    other.awaited[message->tag].push_back(std::move(message));
  }
  return base::OkStatus();
}

// What was kept back goes, as far as there are slots.
void Endpoint::Post(Peer* peer, const Lock& lock) {
  Inbox& inbox = peer->segment.inbox(rank_);
  while (!peer->kept_back.empty()) {
    const uint32_t at = peer->posted % kSlots;
    Collect(peer, at, lock);
    if (peer->in_slot[at] != nullptr) return;
    MessagePtr message = std::move(peer->kept_back.front());
    peer->kept_back.pop_front();
    Slot& slot = inbox.slots[at];
    slot.tag = message->tag;
    slot.address = reinterpret_cast<uintptr_t>(message->data);
    slot.bytes = message->bytes;
    slot.state.store(Slot::kPosted, std::memory_order_relaxed);
    const int32_t tag = message->tag;
    message->slot = static_cast<int>(at);
    peer->in_slot[at] = std::move(message);
    inbox.posted.store(++peer->posted, std::memory_order_release);
    peer->segment.Ring(tag);
  }
}

// Frees a slot whose message is through.
void Endpoint::Collect(Peer* peer, uint32_t at, const Lock&) {
  if (peer->in_slot[at] == nullptr) return;
  Slot& slot = peer->segment.inbox(rank_).slots[at];
  const uint32_t state = slot.state.load(std::memory_order_acquire);
  if (state == Slot::kPosted) return;
  Message& message = *peer->in_slot[at];
  message.stage = state == Slot::kDone ? Stage::kDone : Stage::kFailed;
  if (state == Slot::kWrongLength) {
    message.why = NameOf(message.peer) + " expected a message of another length than the " +
                  std::to_string(message.bytes) + " bytes that were sent";
  } else if (state != Slot::kDone) {
    message.why = NameOf(message.peer) + " could not read this process's memory";
  }
  message.keep.reset();
  slot.state.store(Slot::kFree, std::memory_order_relaxed);
  peer->in_slot[at] = nullptr;
}

// Sorts what a peer has posted by tag.
void Endpoint::Look(int from, const Lock&) {
  Peer& peer = peers_[static_cast<size_t>(from)];
  Inbox& inbox = own_.inbox(from);
  const uint32_t posted = inbox.posted.load(std::memory_order_acquire);
  // A peer that counts further than its slots writes nonsense; what it can do is harm itself.
  for (uint32_t left = kSlots; peer.seen != posted && left > 0; --left, ++peer.seen) {
    const uint32_t at = peer.seen % kSlots;
    peer.arrived[inbox.slots[at].tag].push_back(at);
  }
}

// Reads what has come and is awaited. Without the lock while bytes move.
void Endpoint::Move(int from, std::deque<MessagePtr>* awaited, std::deque<uint32_t>* arrived,
                    Lock* lock) {
  Peer& peer = peers_[static_cast<size_t>(from)];
  while (!awaited->empty() && !arrived->empty() && over_.empty()) {
    const MessagePtr message = std::move(awaited->front());
    awaited->pop_front();
    Slot& slot = own_.inbox(from).slots[arrived->front()];
    arrived->pop_front();
    message->stage = Stage::kMoving;
    lock->unlock();
    const uint64_t address = slot.address, bytes = slot.bytes;
    uint32_t state = Slot::kDone;
    std::string why;
    if (bytes != message->bytes) {
      state = Slot::kWrongLength;
      why = NameOf(from) + " sent " + std::to_string(bytes) + " bytes where " +
            std::to_string(message->bytes) + " were expected";
    } else {
      const base::Status read = ReadMemory(peer.process, address, message->data, message->bytes);
      if (!read.ok()) {
        state = Slot::kUnreadable;
        why = NameOf(from) + ": " + read.message();
      }
    }
    slot.state.store(state, std::memory_order_release);
    peer.segment.Ring(message->tag);
    lock->lock();
    message->stage = state == Slot::kDone ? Stage::kDone : Stage::kFailed;
    message->why = std::move(why);
    message->keep.reset();
    own_.Ring(message->tag);  // another thread of this process may wait for it
  }
}

// All that can be done now under a tag, or under any.
void Endpoint::Progress(const int32_t* tag, Lock* lock) {
  for (int member = 0; member < static_cast<int>(peers_.size()); ++member) {
    if (member == rank_ || !over_.empty()) continue;
    Peer& peer = peers_[static_cast<size_t>(member)];
    Post(&peer, *lock);
    Look(member, *lock);
    if (tag != nullptr) {
      Move(member, &peer.awaited[*tag], &peer.arrived[*tag], lock);
      continue;
    }
    // Entries are never taken out of the maps: others that come while bytes move do no harm.
    for (auto& each : peer.awaited) Move(member, &each.second, &peer.arrived[each.first], lock);
  }
}

// Why a peer will not answer any more; empty while it may.
std::string Endpoint::WhatEnded(int member) const {
  const Peer& peer = peers_[static_cast<size_t>(member)];
  switch (static_cast<End>(peer.segment.header().ended.load(std::memory_order_acquire))) {
    case End::kNone:
      break;
    case End::kTimedOut:
      return NameOf(member) + " has waited too long for another and has given up";
    case End::kFailed:
      return NameOf(member) + " has failed";
    default:
      return NameOf(member) + " has closed the connection";
  }
  pollfd life = {peer.life, POLLIN, 0};
  if (poll(&life, 1, 0) > 0) return NameOf(member) + " has ended";
  return "";
}

base::Status Endpoint::GiveUp(End end, std::string why, const Lock&) {
  if (over_.empty()) {
    over_ = std::move(why);
    messages_.clear();
    if (own_.mapped()) {
      own_.header().ended.store(static_cast<uint32_t>(end), std::memory_order_release);
      own_.RingAll();
    }
    for (Peer& peer : peers_) {
      peer.awaited.clear();
      peer.kept_back.clear();
      if (connected_ && peer.segment.mapped()) peer.segment.RingAll();
    }
  }
  return base::InvalidArgument(over_);
}

void Endpoint::Close() {
  if (!Mine()) return;  // the others go on without hearing of it
  const Lock lock(mutex_);
  (void)GiveUp(End::kClosed, "the connection has been closed", lock);
}

void Endpoint::Slumber(Bell* bell, uint32_t seen) const {
  const timespec most = {0, kSlumberNanoseconds};
  bell->waiters.fetch_add(1, std::memory_order_seq_cst);
  syscall(SYS_futex, &bell->value, FUTEX_WAIT, seen, &most, nullptr, 0);
  bell->waiters.fetch_sub(1, std::memory_order_seq_cst);
}

base::Status Endpoint::Wait(Ticket ticket, std::chrono::milliseconds timeout) {
  Lock lock(mutex_);
  const auto found = messages_.find(ticket);
  if (!over_.empty()) return base::InvalidArgument(over_);
  if (found == messages_.end()) {
    return base::InvalidArgument("ticket " + std::to_string(ticket) +
                                 " has been waited for already, or was never given");
  }
  const MessagePtr message = found->second;
  Peer& peer = peers_[static_cast<size_t>(message->peer)];
  const Clock::time_point start = Clock::now();
  std::string ended;
  for (bool all_tags = false;;) {
    Bell& bell = own_.bell(message->tag);
    const uint32_t seen = bell.value.load(std::memory_order_seq_cst);
    Progress(all_tags ? nullptr : &message->tag, &lock);
    if (message->sending && message->slot >= 0 && message->stage == Stage::kPending) {
      Collect(&peer, static_cast<uint32_t>(message->slot), lock);
    }
    if (message->stage == Stage::kDone) {
      messages_.erase(ticket);
      return base::OkStatus();
    }
    if (message->stage == Stage::kFailed) return GiveUp(End::kFailed, message->why, lock);
    if (!over_.empty()) return base::InvalidArgument(over_);
    if (!ended.empty()) return GiveUp(End::kFailed, ended, lock);
    const auto waited = Clock::now() - start;
    if (waited > timeout) {
      return GiveUp(End::kTimedOut,
                    NameOf(message->peer) + " has not " + (message->sending ? "received" : "sent") +
                        " a message for " + std::to_string(timeout.count() / 1000.0) + " s",
                    lock);
    }
    lock.unlock();
    Slumber(&bell, seen);
    all_tags = waited > std::chrono::nanoseconds(kSlumberNanoseconds);
    if (all_tags) ended = WhatEnded(message->peer);  // it may have ended after its last message
    lock.lock();
  }
}

}  // namespace cma
}  // namespace taco
