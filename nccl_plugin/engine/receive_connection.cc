#include "nccl_plugin/engine/receive_connection.h"

#include <algorithm>
#include <utility>

#include "nccl_plugin/engine/statistics.h"
#include "nccl_plugin/io/clock.h"

namespace taco {
namespace harp {
namespace {

constexpr int64_t kFirstWelcome = 20'000'000;  // until it is repeated; doubles, up to 16 times

ReceiverOptions OptionsOf(const Hello& hello, uint64_t sender_number, const Settings& settings,
                          CreditPool* credit) {
  ReceiverOptions options;
  options.credit = credit;
  options.paths = hello.paths;
  options.connection = sender_number;
  options.checksum = settings.checksum || (hello.features & kFeatureChecksum) != 0;
  return options;
}

}  // namespace

ReceiveConnection::ReceiveConnection(std::unique_ptr<PacketIo> io, const Hello& hello,
                                     uint64_t sender_number, const Endpoint& sender,
                                     uint64_t number, const Settings& settings,
                                     std::shared_ptr<CreditPool> credit, int64_t now)
    : Connection(std::move(io), number),
      dead_ns_(static_cast<int64_t>(settings.dead_seconds * 1e9)),
      name_(hello.name + " at " + ToText(sender)),
      credit_(std::move(credit)),
      receiver_(OptionsOf(hello, sender_number, settings, credit_.get())),
      heard_(now) {
  peer_number_ = sender_number;
  from_ = sender;
  checksum_ = settings.checksum || (hello.features & kFeatureChecksum) != 0;
  Welcome welcome;
  welcome.sender = sender_number;
  welcome.features = checksum_ ? kFeatureChecksum : kFeatureNone;
  const auto most = static_cast<uint32_t>(io_->max_packet() - kDataHeaderBytes);
  welcome.chunk_bytes = std::min(hello.chunk_bytes, most);
  for (uint16_t path = 0; path < io_->paths(); ++path) {
    const Endpoint local = io_->local(path);
    welcome.places.push_back({static_cast<uint8_t>(local.family), local.address, local.port});
  }
  welcome_.resize(kHeaderBytes + kMaxControlBytes);
  welcome_.resize(WriteWelcome(number, welcome, welcome_.data()));
  next_welcome_ = now + kFirstWelcome;
  last_welcome_ = now + static_cast<int64_t>(settings.connect_seconds * 1e9);
  state_ = State::kOpen;
}

void ReceiveConnection::Take(const Packet& packet, const Endpoint& from, uint16_t path,
                             int64_t arrived, int64_t now) {
  if (packet.header.connection != number_) return;
  heard_ = now;
  next_welcome_ = kNever;
  std::string reason;
  switch (packet.header.type) {
    case PacketType::kData:
      from_ = from;
      from_path_ = path;
      receiver_.OnData(packet, arrived, now);
      if (!receiver_.failure().empty()) {
        SendClose(receiver_.failure());
        Fail(receiver_.failure() + " (from " + name_ + ")");
      }
      break;
    case PacketType::kProbe:
      from_ = from;
      from_path_ = path;
      receiver_.OnProbe(packet, arrived, now);
      break;
    case PacketType::kClose:
      if (ParseClose(packet, &reason)) {
        closed_ = true;
        if (outstanding_ != 0) {
          Fail("the sender " + name_ + " has closed" + (reason.empty() ? "" : ": " + reason));
        }
      }
      break;
    default:
      break;
  }
}

void ReceiveConnection::OnTime(int64_t now) {
  if (now >= next_welcome_) {
    SendNow(welcome_.data(), welcome_.size(), from_path_, from_);
    next_welcome_ =
        now < last_welcome_ ? now + (kFirstWelcome << std::min(++welcomes_, 4)) : kNever;
  }
  // A sender asks now and then when it has nothing to say.
  if (outstanding_ != 0 && now - heard_ > dead_ns_) {
    Fail("the sender " + name_ + " is lost: nothing was heard for " +
         std::to_string((now - heard_) / 1'000'000) + " ms");
  }
}

size_t ReceiveConnection::Poll(int64_t now, Emission* out, size_t most) {
  return receiver_.Poll(now, out, most);
}

Request* ReceiveConnection::Post(const Receiver::Buffer* buffers, int count) {
  Command command;
  command.count = count;
  std::copy_n(buffers, count, command.buffers.begin());
  return Ask(&command);
}

bool ReceiveConnection::Begin(const Command& command, int64_t now) {
  if (!receiver_.Post(command.buffers.data(), command.count, &command.request->number)) {
    return false;
  }
  if (outstanding_++ == 0) heard_ = now;
  if (closed_) Fail("the sender " + name_ + " has closed");
  return true;
}

bool ReceiveConnection::Finished(Request* request, uint64_t* sizes) {
  if (!receiver_.Done(request->number, sizes)) return false;
  --outstanding_;
  return true;
}

std::string ReceiveConnection::Fields() const {
  return "\"kind\": \"receive\", \"peer\": " + Quoted(name_) +
         ", \"bytes\": " + std::to_string(receiver_.copied()) +
         ", \"messages\": " + std::to_string(receiver_.messages()) +
         ", \"duplicates\": " + std::to_string(receiver_.duplicates());
}

int64_t ReceiveConnection::Deadline() const {
  const int64_t dead = outstanding_ != 0 ? heard_ + dead_ns_ : kNever;
  return std::min({receiver_.Deadline(), next_welcome_, dead});
}

bool ReceiveConnection::Lingers(int64_t now) const {
  return !closed_ && state_ == State::kOpen && now < linger_until_;
}

}  // namespace harp
}  // namespace taco
