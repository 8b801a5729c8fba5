#include "nccl_plugin/engine/connection.h"

#include <sched.h>

#include <algorithm>
#include <utility>

#include "nccl_plugin/engine/statistics.h"
#include "nccl_plugin/io/clock.h"
#include "nccl_plugin/protocol/handshake.h"

namespace taco {
namespace harp {

Connection::Connection(std::unique_ptr<PacketIo> io, uint64_t number)
    : number_(number), io_(std::move(io)) {}

bool Connection::Move(int64_t now) {
  Hold hold(&held_);
  if (!hold) return false;
  MoveLocked(now);
  return true;
}

bool Connection::MoveIfFree() {
  Hold hold(&held_);
  return hold && MoveLocked(Now());
}

bool Connection::MoveLocked(int64_t now) {
  moved_at_.store(now, std::memory_order_relaxed);
  if (state_ == State::kFailed) return false;
  bool any = ring_ != nullptr && TakeCommands(now);
  any |= Receive(now);
  OnTime(now);
  while (state_ != State::kFailed && Flush()) {
    flushed_ = 0;
    // Packets say when they were sent: a batch takes as long as a round trip may.
    emitted_ = Poll(Now(), emissions_.data(), emissions_.size());
    if (emitted_ == 0) break;
    any = true;
  }
  if (ring_ != nullptr) any |= TellDone();
  deadline_.store(Deadline(), std::memory_order_relaxed);
  if (description_wanted_.load(std::memory_order_relaxed)) {
    const std::lock_guard<std::mutex> lock(description_mutex_);
    description_ = Description();
    description_wanted_.store(false, std::memory_order_relaxed);
  }
  return any;
}

bool Connection::TakeCommands(int64_t now) {
  bool any = false;
  while (stalled_ || ring_->Pop(&command_)) {
    // Messages that were done out of order still take room; then this one comes again.
    stalled_ = !Begin(command_, now);
    if (stalled_) break;
    under_way_[under_way_count_++] = command_.request;
    any = true;
  }
  return any;
}

bool Connection::TellDone() {
  size_t left = 0;
  for (size_t index = 0; index < under_way_count_; ++index) {
    Request* const request = under_way_[index];
    if (Finished(request, request->sizes.data())) {
      request->done.store(true, std::memory_order_release);
    } else {
      under_way_[left++] = request;
    }
  }
  const bool any = left != under_way_count_;
  under_way_count_ = left;
  return any;
}

bool Connection::Receive(int64_t now) {
  PacketIo::Incoming incoming[kBatch];
  bool any = false;
  // So many turns at most: what comes faster than it is read must not keep others from their turn.
  // But enough for all that comes between two looks of the helper: what waits longer is taken for
  // lost, and asked for again, and again waits longer.
  for (int turn = 0; turn < 32; ++turn) {
    const size_t count = io_->Receive(incoming, kBatch);
    any |= count != 0;
    for (size_t index = 0; index < count; ++index) {
      Packet packet;
      const PacketIo::Incoming& each = incoming[index];
      if (ParsePacket(each.bytes, each.size, !checksum_, &packet) != ParseResult::kOk) continue;
      Take(packet, each.from, each.path, now - each.waited_ns, now);
      if (state_ == State::kFailed) return any;
    }
    if (count < PacketIo::kLeft) break;
  }
  return any;
}

bool Connection::Flush() {
  PacketIo::Outgoing outgoing[kBatch];
  const size_t count = emitted_ - flushed_;
  if (count == 0) return true;
  for (size_t index = 0; index < count; ++index) {
    const Emission& each = emissions_[flushed_ + index];
    outgoing[index] = {
        each.head,      each.body, each.head_bytes, each.body_bytes, SourcePath(each.path),
        Peer(each.path)};
  }
  flushed_ += io_->Send(outgoing, count);
  return flushed_ == emitted_;
}

void Connection::SendNow(const uint8_t* bytes, size_t size, uint16_t path, const Endpoint& to) {
  PacketIo::Outgoing outgoing{bytes, nullptr, static_cast<uint32_t>(size), 0, path, to};
  io_->Send(&outgoing, 1);
}

void Connection::SendClose(const std::string& reason) {
  if (peer_number_ == 0) return;
  uint8_t datagram[kHeaderBytes + kMaxControlBytes];
  const size_t size = WriteClose(peer_number_, reason, datagram);
  SendNow(datagram, size, SourcePath(0), Peer(0));
}

std::string Connection::Describe() {
  Hold hold(&held_);
  if (hold) return Description();
  description_wanted_.store(true, std::memory_order_relaxed);
  return "";
}

std::string Connection::Described() {
  const std::lock_guard<std::mutex> lock(description_mutex_);
  return std::exchange(description_, "");
}

Connection::Costs Connection::costs() {
  for (;;) {
    const Hold hold(&held_);
    if (hold) return CostsNow();
    sched_yield();
  }
}

void Connection::TakeBack(const void* bytes, uint64_t size) {
  for (;;) {
    const Hold hold(&held_);
    if (!hold) {
      sched_yield();
      continue;
    }
    if (ring_ != nullptr) TakeCommands(Now());
    bool used = Uses(bytes, size);
    for (int index = 0; stalled_ && index < command_.count; ++index) {
      used |= Overlap(command_.buffers[index].bytes, command_.buffers[index].size, bytes, size);
    }
    if (used) Fail("its user has taken back the memory of messages under way");
    // What waits for a full queue may be of a message that has arrived by another packet: then it
    // is one more that got lost.
    const bool waits = std::any_of(
        emissions_.begin() + flushed_, emissions_.begin() + emitted_,
        [&](const Emission& each) { return Overlap(each.body, each.body_bytes, bytes, size); });
    if (waits) flushed_ = emitted_;
    return;
  }
}

Connection::Costs Connection::CostsNow() const {
  const PacketIo::Stats& io = io_->stats();
  return {io.send_calls + io.receive_calls, io.user_copied_bytes + placed_bytes(),
          io.kernel_copied_bytes};
}

std::string Connection::Description() const {
  const PacketIo::Stats& io = io_->stats();
  const char* states[] = {"greeting", "open", "failed"};
  std::string text = "\"connection\": \"" + std::to_string(number_) + "\", \"state\": \"" +
                     states[static_cast<int>(state())] + "\", " + Fields();
  const auto add = [&](const char* name, uint64_t value) {
    text += std::string(", \"") + name + "\": " + std::to_string(value);
  };
  add("packets_sent", io.packets_sent);
  add("packets_received", io.packets_received);
  add("packets_refused", io.refused);
  add("packets_dropped", io.dropped);
  add("send_calls", io.send_calls);
  add("receive_calls", io.receive_calls);
  add("user_copied_bytes", CostsNow().user_copied_bytes);
  add("kernel_copied_bytes", io.kernel_copied_bytes);
  if (state() == State::kFailed) text += ", \"failure\": " + Quoted(failure_);
  return text;
}

void Connection::Fail(const std::string& why) {
  if (state_ == State::kFailed) return;
  failure_ = why;
  state_.store(State::kFailed, std::memory_order_release);
}

Request* Connection::NewRequest() {
  const auto free = std::find_if(requests_.begin(), requests_.end(),
                                 [](const Request& each) { return !each.used; });
  if (free == requests_.end()) return nullptr;
  free->Take(this);
  return &*free;
}

Request* Connection::Ask(Command* command) {
  if (ring_ != nullptr) {
    if (state() != State::kOpen) return nullptr;
    command->request = NewRequest();
    if (command->request == nullptr) return nullptr;
    command->request->count = command->count;
    ring_->Push(*command);  // it has room for all requests
    return command->request;
  }
  Hold hold(&held_);
  if (!hold || state_ != State::kOpen) return nullptr;
  command->request = NewRequest();
  if (command->request == nullptr) return nullptr;
  command->request->count = command->count;
  const int64_t now = Now();
  const bool begun = Begin(*command, now);
  if (!begun) command->request->used = false;
  MoveLocked(now);
  return begun ? command->request : nullptr;
}

bool Connection::Test(Request* request, uint64_t* sizes) {
  if (ring_ != nullptr) {
    if (!request->done.load(std::memory_order_acquire)) return false;
    std::copy_n(request->sizes.begin(), request->count, sizes);
    request->used = false;
    return true;
  }
  Hold hold(&held_);
  if (!hold) return false;
  if (!Finished(request, sizes)) {
    MoveLocked(Now());
    if (!Finished(request, sizes)) return false;
  }
  request->used = false;
  return true;
}

}  // namespace harp
}  // namespace taco
