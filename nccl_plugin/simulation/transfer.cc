#include "nccl_plugin/simulation/transfer.h"

#include <algorithm>
#include <utility>

namespace taco {
namespace harp {
namespace {

SenderOptions WithPaths(SenderOptions options, size_t paths) {
  options.paths = static_cast<int>(paths);
  return options;
}

ReceiverOptions ReceiverOf(CreditPool* credit, size_t paths) {
  ReceiverOptions options;
  options.credit = credit;
  options.paths = static_cast<int>(paths);
  return options;
}

}  // namespace

Transfer::Transfer(Network* network, const Options& options)
    : network_(network),
      options_(options),
      seed_(network->random()()),
      sender_(WithPaths(options.sender, options.routes.size())),
      receiver_(ReceiverOf(options.credit, options.routes.size())) {
  sender_.Ask();  // as the engine does when a connection opens, which tells the round trip
}

std::vector<uint8_t> Transfer::Contents(uint64_t message) const {
  std::vector<uint8_t> bytes(options_.messages[message]);
  uint64_t state = seed_ + message * 0x9E3779B97F4A7C15;
  for (uint8_t& byte : bytes) {
    state = state * 6364136223846793005 + 1442695040888963407;
    byte = static_cast<uint8_t>(state >> 56);
  }
  return bytes;
}

void Transfer::Start() {
  network_->At(network_->now(), [this] { Work(); });
}

std::string Transfer::failure() const {
  if (!wrong_.empty()) return wrong_;
  return sender_.failure().empty() ? receiver_.failure() : sender_.failure();
}

void Transfer::Work() {
  TakeDone();
  PostMore();
  SendMore();
  EmitAll();
  if (done() && done_at_ == 0) done_at_ = network_->now();
  Wake();
}

void Transfer::SendMore() {
  while (sent_ < begun_ && sender_.Done(numbers_[sent_])) {
    longest_ = std::max(longest_, network_->now() - started_[sent_]);
    outgoing_[sent_++].clear();
  }
  while (begun_ < options_.messages.size() &&
         begun_ - sent_ < static_cast<uint64_t>(options_.depth)) {
    outgoing_.push_back(Contents(begun_));
    uint64_t number;
    // Within a group the messages come in the opposite order of the buffers.
    const int tag = static_cast<int>(begun_ % options_.group);
    if (!sender_.Send(outgoing_.back().data(), outgoing_.back().size(), tag, &number)) {
      wrong_ = "no room for a message";
      return;
    }
    numbers_.push_back(number);
    started_.push_back(network_->now());
    ++begun_;
  }
}

void Transfer::PostMore() {
  const auto depth = static_cast<uint64_t>(options_.depth);
  while (wanted_ < options_.messages.size() && posted_.size() < depth) {
    if (options_.post_late_ns > 0) {
      if (next_post_ == 0) {
        std::uniform_int_distribution<int64_t> late(1, options_.post_late_ns);
        next_post_ = network_->now() + late(network_->random());
      }
      if (network_->now() < next_post_) return;
      next_post_ = 0;
    }
    Posted posted;
    posted.first = wanted_;
    const uint64_t left = options_.messages.size() - wanted_;
    posted.count = static_cast<int>(std::min<uint64_t>(options_.group, left));
    Receiver::Buffer buffers[Receiver::kMaxBuffers];
    posted.bytes.resize(posted.count);
    for (int index = 0; index < posted.count; ++index) {
      const int at = posted.count - 1 - index;
      posted.bytes[index].resize(options_.messages[wanted_ + at]);
      buffers[index] = {posted.bytes[index].data(), posted.bytes[index].size(),
                        static_cast<int32_t>((wanted_ + at) % options_.group)};
    }
    if (!receiver_.Post(buffers, posted.count, &posted.group)) {
      wrong_ = "no room for a receive";
      return;
    }
    wanted_ += posted.count;
    posted_.push_back(std::move(posted));
  }
}

void Transfer::TakeDone() {
  for (size_t index = 0; index < posted_.size();) {
    Posted& posted = posted_[index];
    uint64_t sizes[Receiver::kMaxBuffers];
    if (!receiver_.Done(posted.group, sizes)) {
      ++index;
      continue;
    }
    for (int buffer = 0; buffer < posted.count; ++buffer) {
      const uint64_t message = posted.first + posted.count - 1 - buffer;
      if (sizes[buffer] != options_.messages[message] ||
          posted.bytes[buffer] != Contents(message)) {
        wrong_ = "message " + std::to_string(message) + " has other bytes";
      }
      received_bytes_ += sizes[buffer];
    }
    received_ += posted.count;
    posted_.erase(posted_.begin() + static_cast<std::ptrdiff_t>(index));
  }
}

void Transfer::EmitAll() {
  Emission out[64];
  for (const bool forth : {true, false}) {
    for (;;) {
      const size_t count = forth ? sender_.Poll(network_->now(), out, std::size(out))
                                 : receiver_.Poll(network_->now(), out, std::size(out));
      for (size_t index = 0; index < count; ++index) {
        const Emission& each = out[index];
        Network::Packet packet(each.head, each.head + each.head_bytes);
        packet.insert(packet.end(), each.body, each.body + each.body_bytes);
        const Route& route = options_.routes[each.path];
        network_->Send(forth ? route.forth : route.back, std::move(packet),
                       [this](const Network::Packet& arrived) { Arrived(arrived); });
      }
      if (count == 0) break;
    }
  }
}

void Transfer::Arrived(const Network::Packet& datagram) {
  Packet packet;
  if (ParsePacket(datagram.data(), datagram.size(), false, &packet) != ParseResult::kOk) {
    ++refused_;
    return;
  }
  const int64_t now = network_->now();
  if (packet.header.type == PacketType::kAck) sender_.OnAck(packet, now, now);
  if (packet.header.type == PacketType::kData) receiver_.OnData(packet, now, now);
  if (packet.header.type == PacketType::kProbe) receiver_.OnProbe(packet, now, now);
  Work();
}

void Transfer::Wake() {
  int64_t at = std::min(sender_.Deadline(), receiver_.Deadline());
  if (next_post_ != 0) at = std::min(at, next_post_);
  if (at == kNever || at >= wake_at_) return;
  wake_at_ = std::max(at, network_->now() + 1);
  network_->At(wake_at_, [this, mine = wake_at_] {
    if (mine != wake_at_) return;  // another came before
    wake_at_ = kNever;
    Work();
  });
}

}  // namespace harp
}  // namespace taco
