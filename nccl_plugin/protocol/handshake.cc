#include "nccl_plugin/protocol/handshake.h"

#include <algorithm>
#include <cstring>

namespace taco {
namespace harp {
namespace {

// Reads values one after the other; once there are too few bytes, nothing but zeros.
class Reader {
 public:
  explicit Reader(const Packet& packet) : at_(packet.bytes), end_(packet.bytes + packet.size) {}

  template <typename T>
  T Value() {
    T value{};
    Bytes(&value, sizeof(value));
    return value;
  }

  void Bytes(void* to, size_t size) {
    if (static_cast<size_t>(end_ - at_) < size) {
      short_ = true;
      return;
    }
    if (size == 0) return;
    std::memcpy(to, at_, size);
    at_ += size;
  }

  std::string Text(size_t most) {
    const size_t size = Value<uint8_t>();
    std::string text(size, 0);
    Bytes(text.data(), size);
    short_ |= size > most;
    for (char& letter : text) {  // it goes into logs
      if (letter < ' ' || letter > '~') letter = '?';
    }
    return short_ ? std::string() : text;
  }

  bool good() const { return !short_; }
  bool at_end() const { return good() && at_ == end_; }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
  bool short_ = false;
};

class Writer {
 public:
  Writer(PacketType type, uint64_t connection, uint8_t* out) : out_(out) {
    PacketHeader header;
    header.type = type;
    header.connection = connection;
    at_ = out + WriteControl(header, out);
  }

  template <typename T>
  void Value(T value) {
    std::memcpy(at_, &value, sizeof(value));
    at_ += sizeof(value);
  }

  void Text(const std::string& text, size_t most) {
    const size_t size = std::min(text.size(), most);
    Value(static_cast<uint8_t>(size));
    std::memcpy(at_, text.data(), size);
    at_ += size;
  }

  size_t Seal(size_t size = 0) {
    const auto used = static_cast<size_t>(at_ - out_);
    size = std::max(size, used);
    std::memset(at_, 0, size - used);
    SealPacket(out_, size, nullptr, 0);
    return size;
  }

 private:
  uint8_t* out_;
  uint8_t* at_;
};

}  // namespace

bool ParseHello(const Packet& packet, Hello* hello) {
  Reader reader(packet);
  hello->secret = reader.Value<Secret>();
  hello->features = reader.Value<uint32_t>();
  hello->chunk_bytes = reader.Value<uint32_t>();
  hello->paths = reader.Value<uint16_t>();
  hello->name = reader.Text(kMaxName);
  return reader.good();  // what follows is padding
}

bool ParseWelcome(const Packet& packet, Welcome* welcome) {
  Reader reader(packet);
  welcome->sender = reader.Value<uint64_t>();
  welcome->features = reader.Value<uint32_t>();
  welcome->chunk_bytes = reader.Value<uint32_t>();
  welcome->places.resize(reader.Value<uint8_t>());
  if (welcome->places.empty() || welcome->places.size() > kMaxPlaces) return false;
  bool known = true;
  for (Welcome::Place& place : welcome->places) {
    place.family = reader.Value<uint8_t>();
    place.address = reader.Value<std::array<uint8_t, 16>>();
    place.port = reader.Value<uint16_t>();
    known &= (place.family == 4 || place.family == 6) && place.port != 0;
  }
  return known && reader.at_end();
}

bool ParseRefuse(const Packet& packet, Refuse* refuse) {
  Reader reader(packet);
  refuse->sender = reader.Value<uint64_t>();
  refuse->reason = reader.Text(kMaxReason);
  return reader.at_end();
}

bool ParseClose(const Packet& packet, std::string* reason) {
  Reader reader(packet);
  *reason = reader.Text(kMaxReason);
  return reader.at_end();
}

size_t WriteHello(uint64_t connection, const Hello& hello, size_t size, uint8_t* out) {
  Writer writer(PacketType::kHello, connection, out);
  writer.Value(hello.secret);
  writer.Value(hello.features);
  writer.Value(hello.chunk_bytes);
  writer.Value(hello.paths);
  writer.Text(hello.name, kMaxName);
  return writer.Seal(size);
}

size_t WriteWelcome(uint64_t connection, const Welcome& welcome, uint8_t* out) {
  Writer writer(PacketType::kWelcome, connection, out);
  writer.Value(welcome.sender);
  writer.Value(welcome.features);
  writer.Value(welcome.chunk_bytes);
  writer.Value(static_cast<uint8_t>(welcome.places.size()));
  for (const Welcome::Place& place : welcome.places) {
    writer.Value(place.family);
    writer.Value(place.address);
    writer.Value(place.port);
  }
  return writer.Seal();
}

size_t WriteRefuse(const Refuse& refuse, uint8_t* out) {
  Writer writer(PacketType::kRefuse, 0, out);
  writer.Value(refuse.sender);
  writer.Text(refuse.reason, kMaxReason);
  return writer.Seal();
}

size_t WriteClose(uint64_t connection, const std::string& reason, uint8_t* out) {
  Writer writer(PacketType::kClose, connection, out);
  writer.Text(reason, kMaxReason);
  return writer.Seal();
}

bool Same(const Secret& one, const Secret& other) {
  unsigned differs = 0;
  for (size_t index = 0; index < one.size(); ++index) differs |= one[index] ^ other[index];
  return differs == 0;
}

}  // namespace harp
}  // namespace taco
