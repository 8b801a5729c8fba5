#include "nccl_plugin/engine/send_connection.h"

#include <algorithm>
#include <cstdio>
#include <utility>
#include <vector>

#include "nccl_plugin/engine/statistics.h"
#include "nccl_plugin/io/clock.h"

namespace taco {
namespace harp {
namespace {

constexpr int64_t kFirstHello = 20'000'000, kLastHello = 500'000'000;  // between two; grows
constexpr int kWholeHellos = 3;  // of the largest size, before smaller ones are tried

// What passes where the interface's own size does not: Ethernet's, then what IPv6 guarantees; less
// what encryption adds.
size_t HelloBytes(size_t most, int hellos, bool encrypted) {
  if (hellos < kWholeHellos) return most;
  const size_t less = encrypted ? kAeadBytes : 0;
  const size_t sizes[] = {most, 1452 - less, 1232 - less};
  return std::min(most, sizes[hellos % 3]);
}

int64_t Nanoseconds(double seconds) { return static_cast<int64_t>(seconds * 1e9); }

}  // namespace

SendConnection::SendConnection(std::unique_ptr<PacketIo> io, const Endpoint& listener,
                               const Secret& secret, uint64_t number, const std::string& name,
                               const Settings& settings, int64_t now, int interfaces)
    : Connection(std::move(io), number),
      settings_(settings),
      name_(name),
      secret_(secret),
      interfaces_(interfaces),
      peer_(listener),
      peers_(io_->paths(), listener),
      began_(now),
      next_hello_(now) {}

void SendConnection::Greet(int64_t now) {
  if (now - began_ > Nanoseconds(settings_.connect_seconds)) {
    Fail("no answer from the listener at " + ToText(peer_) + " in " +
         std::to_string((now - began_) / 1'000'000) +
         " ms: is its process alive, does a firewall let UDP through, and is HARP_KEY the same on "
         "both sides? (HARP_CONNECT_SECONDS sets how long to wait)");
    return;
  }
  Hello hello;
  hello.secret = secret_;
  hello.features = settings_.checksum ? kFeatureChecksum : kFeatureNone;
  hello.paths = io_->paths();
  hello.name = name_;
  const size_t size = HelloBytes(io_->max_packet(), hellos_, settings_.key.has_value());
  hello.chunk_bytes = static_cast<uint32_t>(size - kDataHeaderBytes);
  std::vector<uint8_t> datagram(std::max(size, kHeaderBytes + kMaxControlBytes));
  // The listener's address is of the other side's first interface, as these paths are of ours.
  const auto path = static_cast<uint16_t>(hellos_ * interfaces_ % io_->paths());
  const size_t written = WriteHello(number_, hello, size, datagram.data());
  SendNow(datagram.data(), written, path, peer_);
  next_hello_ = now + std::min(kFirstHello << std::min(hellos_, 6), kLastHello);
  ++hellos_;
}

void SendConnection::Open(const Welcome& welcome, uint64_t peer_number) {
  const uint32_t most = static_cast<uint32_t>(io_->max_packet() - kDataHeaderBytes);
  if (welcome.chunk_bytes == 0 || welcome.chunk_bytes > most) {
    Fail("the listener at " + ToText(peer_) + " answered what makes no sense");
    return;
  }
  peer_number_ = peer_number;
  for (size_t path = 0; path < peers_.size(); ++path) {
    const Welcome::Place& place = welcome.places[path % welcome.places.size()];
    Endpoint& peer = peers_[path];
    peer.family = static_cast<Family>(place.family);
    peer.address = place.address;
    peer.port = place.port;
    // The scope of a link-local address is this machine's own matter.
    peer.scope = io_->local(static_cast<uint16_t>(path)).scope;
  }
  peer_ = peers_[0];
  SenderOptions options;
  options.paths = io_->paths();
  options.chunk_bytes = welcome.chunk_bytes;
  options.connection = peer_number;
  // What one call of the system takes: 64 KiB.
  options.burst = std::clamp<int>(64000 / static_cast<int>(most + kDataHeaderBytes), 1, 44);
  options.checksum = (welcome.features & kFeatureChecksum) != 0;
  options.dead_ns = Nanoseconds(settings_.dead_seconds);
  // A receiver gives up after as much silence as this side; it must not be for want of words.
  options.keepalive_ns = std::min(options.keepalive_ns, options.dead_ns / 4);
  options.congestion.cubic = settings_.congestion == "cubic";
  options.congestion.swift.queue_ns = int64_t{settings_.queue_us} * 1000;
  checksum_ = options.checksum;
  sender_.emplace(options);
  sender_->Ask();  // so that the receiver knows that its WELCOME has come
  state_ = State::kOpen;
}

void SendConnection::Take(const Packet& packet, const Endpoint&, uint16_t, int64_t arrived,
                          int64_t now) {
  if (state_ == State::kGreeting) {
    Welcome welcome;
    Refuse refuse;
    if (packet.header.type == PacketType::kWelcome && ParseWelcome(packet, &welcome) &&
        welcome.sender == number_ && packet.header.connection != 0) {
      Open(welcome, packet.header.connection);
    }
    if (packet.header.type == PacketType::kRefuse && ParseRefuse(packet, &refuse) &&
        refuse.sender == number_) {
      Fail("the listener at " + ToText(peer_) + " refused: " + refuse.reason);
    }
    return;
  }
  if (packet.header.connection != number_) return;
  std::string reason;
  if (packet.header.type == PacketType::kAck) {
    sender_->OnAck(packet, arrived, now);
  } else if (packet.header.type == PacketType::kClose && ParseClose(packet, &reason)) {
    Fail("the receiver at " + ToText(peer_) + " has closed" +
         (reason.empty() ? "" : ": " + reason));
  }
}

void SendConnection::OnTime(int64_t now) {
  if (state_ == State::kGreeting && now >= next_hello_) Greet(now);
}

size_t SendConnection::Poll(int64_t now, Emission* out, size_t most) {
  if (!sender_) return 0;
  const size_t count = sender_->Poll(now, out, most);
  if (!sender_->failure().empty()) {
    Fail("the receiver at " + ToText(peer_) + " is lost: " + sender_->failure());
  }
  return count;
}

Request* SendConnection::Send(const void* bytes, uint64_t size, int tag) {
  Command command;
  command.count = 1;
  command.buffers[0] = {const_cast<void*>(bytes), size, tag};  // they are read alone
  return Ask(&command);
}

bool SendConnection::Begin(const Command& command, int64_t) {
  const Receiver::Buffer& message = command.buffers[0];
  command.request->size = message.size;
  return sender_->Send(message.bytes, message.size, message.tag, &command.request->number);
}

bool SendConnection::Finished(Request* request, uint64_t* sizes) {
  if (!sender_->Done(request->number)) return false;
  *sizes = request->size;
  return true;
}

std::string SendConnection::Fields() const {
  std::string text =
      "\"kind\": \"send\", \"peer\": \"" + ToText(peer_) +
      "\", \"bytes\": " + std::to_string(sender_ ? sender_->acknowledged_bytes() : 0) +
      ", \"messages\": " + std::to_string(sender_ ? sender_->messages() : 0) + ", \"paths\": [";
  for (int path = 0; sender_ && path < io_->paths(); ++path) {
    const PathStats stats = sender_->Stats(path);
    char each[320];
    std::snprintf(each, sizeof(each),
                  "%s{\"rtt_us\": %.1f, \"least_rtt_us\": %.1f, \"window\": %.1f, \"bytes\": %llu, "
                  "\"packets\": %llu, \"lost\": %llu, \"timeouts\": %llu, \"blackouts\": %llu, "
                  "\"black\": %s}",
                  path == 0 ? "" : ", ", 1e-3 * static_cast<double>(stats.round_trip_ns),
                  1e-3 * static_cast<double>(stats.least_round_trip_ns), stats.window,
                  static_cast<unsigned long long>(stats.bytes),
                  static_cast<unsigned long long>(stats.packets),
                  static_cast<unsigned long long>(stats.lost),
                  static_cast<unsigned long long>(stats.timeouts),
                  static_cast<unsigned long long>(stats.blackouts), stats.black ? "true" : "false");
    text += each;
  }
  return text + "]";
}

int64_t SendConnection::Deadline() const {
  if (state_ == State::kGreeting) return next_hello_;
  return sender_ ? sender_->Deadline() : kNever;
}

}  // namespace harp
}  // namespace taco
