#include "nccl_plugin/engine/listener.h"

#include <algorithm>
#include <utility>

namespace taco {
namespace harp {

Listener::Listener(std::unique_ptr<PacketIo> io, OpenIo open, const Secret& secret,
                   const Settings& settings, std::shared_ptr<CreditPool> credit,
                   std::function<uint64_t()> random)
    : io_(std::move(io)),
      open_(std::move(open)),
      secret_(secret),
      settings_(settings),
      credit_(std::move(credit)),
      random_(std::move(random)) {}

void Listener::Move(int64_t now) {
  const std::lock_guard<std::mutex> lock(mutex_);
  PacketIo::Incoming incoming[16];
  for (int turn = 0; turn < 16; ++turn) {
    const size_t count = io_->Receive(incoming, std::size(incoming));
    if (count == 0) return;
    for (size_t index = 0; index < count; ++index) {
      Packet packet;
      const PacketIo::Incoming& each = incoming[index];
      const ParseResult result = ParsePacket(each.bytes, each.size, false, &packet);
      if (result == ParseResult::kOk) Take(packet, each.size, each.from, now);
    }
  }
}

void Listener::Take(const Packet& packet, size_t size, const Endpoint& from, int64_t now) {
  Hello hello;
  // Who does not know the secret gets no answer.
  if (packet.header.type != PacketType::kHello || !ParseHello(packet, &hello)) return;
  if (!Same(hello.secret, secret_)) return;
  const uint64_t sender = packet.header.connection;
  if (const auto known = welcomes_.find(sender); known != welcomes_.end()) {
    Answer(known->second, from);
    return;
  }
  if (hello.paths < 1 || hello.paths > kMaxPaths || size <= kDataHeaderBytes) {
    Refusal(sender, "it asks for " + std::to_string(hello.paths) + " paths", from);
    return;
  }
  if (welcomes_.size() == kMost) {
    Refusal(sender, "this listener has made " + std::to_string(kMost) + " connections", from);
    return;
  }
  std::string error;
  std::unique_ptr<PacketIo> io = open_(&error);
  if (io == nullptr) {
    Refusal(sender, error, from);
    return;
  }
  hello.chunk_bytes = std::min<uint32_t>(hello.chunk_bytes, size - kDataHeaderBytes);
  const uint64_t number = random_();
  auto made = std::make_unique<ReceiveConnection>(std::move(io), hello, sender, from, number,
                                                  settings_, credit_, now);
  Answer(made->welcome(), from);
  welcomes_.emplace(sender, made->welcome());
  waiting_.push_back(std::move(made));
}

void Listener::Refusal(uint64_t sender, const std::string& reason, const Endpoint& to) {
  std::vector<uint8_t> datagram(kHeaderBytes + kMaxControlBytes);
  datagram.resize(WriteRefuse({sender, reason}, datagram.data()));
  Answer(datagram, to);
}

void Listener::Answer(const std::vector<uint8_t>& datagram, const Endpoint& to) {
  const auto size = static_cast<uint32_t>(datagram.size());
  const PacketIo::Outgoing outgoing{datagram.data(), nullptr, size, 0, 0, to};
  io_->Send(&outgoing, 1);
}

std::unique_ptr<ReceiveConnection> Listener::Accept() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (waiting_.empty()) return nullptr;
  std::unique_ptr<ReceiveConnection> next = std::move(waiting_.front());
  waiting_.pop_front();
  return next;
}

void Listener::MoveWaiting(int64_t now) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& each : waiting_) each->Move(now);
}

}  // namespace harp
}  // namespace taco
