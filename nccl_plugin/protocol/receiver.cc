#include "nccl_plugin/protocol/receiver.h"

#include <algorithm>
#include <cstring>

namespace taco {
namespace harp {
namespace {

constexpr int kAnswerAfter = 32;           // packets
constexpr int64_t kAnswerWithin = 20'000;  // nanoseconds
constexpr uint64_t kToldAhead = 2;         // messages

uint16_t Microseconds(int64_t ns) {
  return static_cast<uint16_t>(std::clamp<int64_t>(ns / 1000, 0, 65535));
}

}  // namespace

Receiver::Receiver(const ReceiverOptions& options)
    : options_(options), paths_(options.paths), share_(options.credit) {}

bool Receiver::Post(const Buffer* buffers, int count, uint64_t* group) {
  if (next_group_ - oldest_group_ == kMaxGroups) return false;
  *group = next_group_++;
  Group& made = groups_[*group % kMaxGroups];
  made = Group();
  made.count = count;
  for (int index = 0; index < count; ++index) {
    made.buffers[index] = buffers[index];
    messages_[posted_ % kMessages] = Message();
    messages_[posted_ % kMessages].group = *group;
    ++posted_;
  }
  // While the sender knows of buffers that it has not filled, the next acknowledgement will do.
  if (told_ < oldest_message_ + kToldAhead) tell_ = true;
  ShareCredit();
  return true;
}

bool Receiver::Done(uint64_t number, uint64_t* sizes) {
  Group& group = groups_[number % kMaxGroups];
  if (group.done < group.count) return false;
  std::copy_n(group.sizes.begin(), group.count, sizes);
  group.given = true;
  while (oldest_group_ < next_group_ && groups_[oldest_group_ % kMaxGroups].given) ++oldest_group_;
  return true;
}

bool Receiver::Uses(const void* bytes, uint64_t size) const {
  for (uint64_t number = oldest_group_; number < next_group_; ++number) {
    const Group& group = groups_[number % kMaxGroups];
    if (group.done == group.count) continue;
    for (int index = 0; index < group.count; ++index) {
      const Buffer& buffer = group.buffers[index];
      if (Overlap(buffer.bytes, buffer.size, bytes, size)) return true;
    }
  }
  return false;
}

void Receiver::OnData(const Packet& packet, int64_t arrived, int64_t now) {
  if (!failure_.empty() || packet.header.path >= paths_.size()) return;
  // What cannot be placed is not acknowledged: it comes again when there is a buffer.
  if (!Place(packet)) return;
  Note(packet, arrived, now);
}

void Receiver::OnProbe(const Packet& packet, int64_t arrived, int64_t now) {
  if (packet.header.path >= paths_.size()) return;
  Note(packet, arrived, now);
}

Receiver::Path* Receiver::Note(const Packet& packet, int64_t arrived, int64_t now) {
  Path& path = paths_[packet.header.path];
  const bool first = path.window.empty();
  const uint64_t before = first ? 0 : path.window.highest();
  path.window.Note(packet.header.number);
  if (first || path.window.highest() != before) {
    path.echo_us = packet.header.time_us;
    path.echo_arrived = arrived;
    path.queue_us = Microseconds(now - arrived);
  }
  if (path.unanswered++ == 0) path.first_unanswered = now;
  if ((packet.header.flags & kFlagAckNow) != 0) path.now = true;
  return &path;
}

bool Receiver::Place(const Packet& packet) {
  const DataFields& data = packet.data;
  const uint64_t number = Expand(data.message, oldest_message_);
  if (number >= posted_) return false;
  if (number < oldest_message_ || messages_[number % kMessages].done) {
    ++duplicates_;
    return true;
  }
  Message& message = messages_[number % kMessages];
  if (message.buffer < 0 && !Choose(&message, data)) return false;
  if (message.length != data.length) {
    failure_ = "message " + std::to_string(number) + " has " + std::to_string(message.length) +
               " bytes by one packet and " + std::to_string(data.length) + " by another";
    return false;
  }
  switch (chunks_.Note(data.chunk)) {
    case ChunkSet::Arrival::kBeyond:
      return false;
    case ChunkSet::Arrival::kDuplicate:
      ++duplicates_;
      return true;
    case ChunkSet::Arrival::kNew:
      break;
  }
  const Group& group = groups_[message.group % kMaxGroups];
  if (packet.size != 0) {
    auto* to = static_cast<uint8_t*>(group.buffers[message.buffer].bytes);
    std::memcpy(to + data.offset, packet.bytes, packet.size);
  }
  copied_ += packet.size;
  message.received += packet.size;
  if (message.received == message.length) Complete(&message);
  ShareCredit();
  return true;
}

bool Receiver::Choose(Message* message, const DataFields& data) {
  Group& group = groups_[message->group % kMaxGroups];
  for (int index = 0; index < group.count; ++index) {
    const Buffer& buffer = group.buffers[index];
    if ((group.taken >> index & 1) != 0) continue;
    if (group.count > 1 && buffer.tag != data.tag) continue;
    if (data.length > buffer.size) {
      failure_ = "a message of " + std::to_string(data.length) + " bytes came for a buffer of " +
                 std::to_string(buffer.size);
      return false;
    }
    group.taken |= 1u << index;
    group.sizes[index] = data.length;
    message->buffer = index;
    message->length = data.length;
    ++begun_;
    return true;
  }
  failure_ = "a message with tag " + std::to_string(data.tag) + " came for " +
             std::to_string(group.count) + " buffers of which none waits for it";
  return false;
}

void Receiver::Complete(Message* message) {
  message->done = true;
  --begun_;
  ++groups_[message->group % kMaxGroups].done;
  while (oldest_message_ < posted_ && messages_[oldest_message_ % kMessages].done) {
    ++oldest_message_;
  }
}

size_t Receiver::Poll(int64_t now, Emission* out, size_t most) {
  size_t count = 0;
  for (size_t index = 0; index < paths_.size() && count < most; ++index) {
    const Path& path = paths_[index];
    if (path.unanswered == 0) continue;
    if (path.now || path.unanswered >= kAnswerAfter ||
        now - path.first_unanswered >= kAnswerWithin) {
      WriteAck(static_cast<int>(index), now, out + count++);
    }
  }
  if (tell_ && count < most) WriteAck(answered_path_, now, out + count++);
  return count;
}

void Receiver::WriteAck(int index, int64_t now, Emission* out) {
  Path& path = paths_[index];
  PacketHeader header;
  header.type = PacketType::kAck;
  header.path = static_cast<uint16_t>(index);
  header.connection = options_.connection;
  header.time_us = static_cast<uint32_t>(now / 1000);
  AckFields ack;
  if (path.window.empty()) {
    header.flags = kFlagNoneCame;
  } else {
    path.window.Describe(&ack);
    ack.echo_us = path.echo_us;
    ack.delay_us = Microseconds(now - path.echo_arrived);
    ack.queue_us = path.queue_us;
    answered_path_ = index;
  }
  ack.credit = share_.bytes();
  ack.posted = static_cast<uint32_t>(posted_);
  told_ = posted_;
  out->head_bytes = static_cast<uint16_t>(harp::WriteAck(header, ack, out->head));
  out->path = header.path;
  out->body = nullptr;
  out->body_bytes = 0;
  if (options_.checksum) SealPacket(out->head, out->head_bytes, nullptr, 0);
  path.unanswered = 0;
  path.now = false;
  tell_ = false;
}

int64_t Receiver::Deadline() const {
  if (tell_) return 0;
  int64_t deadline = kNever;
  for (const Path& path : paths_) {
    if (path.unanswered == 0) continue;
    if (path.now || path.unanswered >= kAnswerAfter) return 0;
    deadline = std::min(deadline, path.first_unanswered + kAnswerWithin);
  }
  return deadline;
}

}  // namespace harp
}  // namespace taco
