#include "nccl_plugin/protocol/sender.h"

#include <algorithm>
#include <cmath>

namespace taco {
namespace harp {
namespace {

constexpr int kBlackTimeouts = 3;
// Between questions to a black path: this at first, doubling, for long the second, then the last.
constexpr int64_t kSoon = 1'000'000, kOften = 10'000'000, kSeldom = 100'000'000;
constexpr int kOftenQuestions = 100;
constexpr int kAskingPaths = 8;  // more than so many that are black take turns: who reads is slow
constexpr int64_t kFirstAsked = 1'000'000;   // without credit; doubles,
constexpr int64_t kLastAsked = 100'000'000;  // up to here
constexpr int64_t kUnknownRoundTrip = 100'000;
constexpr double kLeastFirstWindow = 2;
constexpr int64_t kLongestRest = 10'000'000;  // beyond a round trip

// A connection begins with one first window, whatever the number of its paths.
CongestionOptions OfEachPath(CongestionOptions options, int paths) {
  options.swift.first_window = std::max(options.swift.first_window / paths, kLeastFirstWindow);
  return options;
}

}  // namespace

class Sender::PathFate : public SentWindow::Fate {
 public:
  PathFate(Sender* sender, Path* path) : sender_(sender), path_(path) {}
  void Acknowledged(uint64_t what, uint32_t) override {
    ++acknowledged_;
    if (what != kAsked) sender_->Acknowledged(what);
  }
  void Lost(uint64_t what, uint32_t) override {
    ++lost_;
    ++path_->stats.lost;
    if (what != kAsked) sender_->Lost(what);
  }
  int acknowledged() const { return acknowledged_; }
  int lost() const { return lost_; }

 private:
  Sender* sender_;
  Path* path_;
  int acknowledged_ = 0;
  int lost_ = 0;
};

Sender::Sender(const SenderOptions& options)
    : options_(options),
      paths_(options.paths, Path(OfEachPath(options.congestion, options.paths))),
      chunks_(kChunkWindow),
      lost_(kChunkWindow),
      small_(kMaxMessages),
      large_(kMaxMessages) {}

bool Sender::Send(const void* bytes, uint64_t length, int32_t tag, uint64_t* message) {
  if (next_message_ - oldest_message_ == kMaxMessages) return false;
  *message = next_message_++;
  At(*message) = Message();
  At(*message).bytes = static_cast<const uint8_t*>(bytes);
  At(*message).length = length;
  At(*message).tag = tag;
  (length <= options_.chunk_bytes ? small_ : large_).push(*message);
  return true;
}

bool Sender::Done(uint64_t message) const {
  return message < oldest_message_ || (message < next_message_ && At(message).done);
}

bool Sender::Uses(const void* bytes, uint64_t size) const {
  for (uint64_t message = oldest_message_; message < next_message_; ++message) {
    const Message& each = At(message);
    if (!each.done && Overlap(each.bytes, each.length, bytes, size)) return true;
  }
  return false;
}

void Sender::Acknowledged(uint64_t number) {
  if (number < oldest_chunk_) return;  // another copy was
  Chunk& chunk = ChunkAt(number);
  --chunk.in_flight;
  if (chunk.acknowledged) return;
  chunk.acknowledged = true;
  Message& message = At(chunk.message);
  message.acknowledged += chunk.bytes;
  acknowledged_bytes_ += chunk.bytes;
  message.done = message.acknowledged == message.length;
  while (oldest_message_ < next_message_ && At(oldest_message_).done) ++oldest_message_;
  while (oldest_chunk_ < next_chunk_ && ChunkAt(oldest_chunk_).acknowledged) ++oldest_chunk_;
}

void Sender::Lost(uint64_t number) {
  if (number < oldest_chunk_) return;
  Chunk& chunk = ChunkAt(number);
  --chunk.in_flight;
  if (chunk.acknowledged || chunk.waits || chunk.in_flight != 0) return;
  chunk.waits = true;
  lost_.push(number);
}

// Credit may become less: of words that overtook each other the latest counts.
void Sender::TakeCredit(const Packet& packet) {
  const auto later = static_cast<int32_t>(packet.header.time_us - credit_time_us_);
  if (credit_known_ && later < 0) return;
  credit_known_ = true;
  credit_time_us_ = packet.header.time_us;
  credit_ = packet.ack.credit;
}

void Sender::OnAck(const Packet& packet, int64_t arrived, int64_t now) {
  const AckFields& ack = packet.ack;
  posted_ = std::max(posted_, Expand(ack.posted, posted_));
  TakeCredit(packet);
  heard_ = now;
  if (packet.header.path >= paths_.size()) return;
  Path& path = paths_[packet.header.path];
  if ((packet.header.flags & kFlagNoneCame) != 0) return;
  PathFate fate(this, &path);
  const bool known = path.window.round_trip().known();
  path.window.OnAck(ack, arrived, now, &fate);
  if (!known && path.window.round_trip().known()) {
    for (Path& other : paths_) other.window.GuessRoundTrip(path.window.round_trip().smoothed());
  }
  if (fate.lost() != 0) path.congestion.OnLoss(fate.lost());
  if (fate.acknowledged() == 0) return;
  path.suspect_at = kNever;
  path.probes = false;
  path.congestion.OnAck(fate.acknowledged(), path.window.round_trip(), path.window.network(), now);
  questions_ = 0;
  if (path.black) {
    path.black = false;
    path.next_question = kNever;
  }
}

void Sender::OnTime(int64_t now) {
  bool alive = false;
  for (Path& path : paths_) {
    OnPathTime(&path, now);
    alive |= !path.black;
  }
  if (!alive) Fail(now);
}

void Sender::OnPathTime(Path* path, int64_t now) {
  if (path->suspect_at <= now) {
    // It was asked, and is silent while others are heard; or all are silent, which says nothing.
    if (now - heard_ < path->window.round_trip().expected()) {
      BecomeBlack(path, now);
      return;
    }
    path->suspect_at = now + path->window.round_trip().expected();
  }
  if (path->window.Deadline() > now) return;
  PathFate fate(this, path);
  const SentWindow::Due due = path->window.OnTime(now, &fate);
  const int lost = fate.lost();
  if (due == SentWindow::Due::kNothing) {
    if (lost != 0) path->congestion.OnLoss(lost);
    return;
  }
  const RoundTrip& round_trip = path->window.round_trip();
  if (due == SentWindow::Due::kTimeout) {
    ++path->stats.timeouts;
    path->congestion.OnTimeout();
    if (path->window.timeouts() >= kBlackTimeouts) BecomeBlack(path, now);
    return;
  }
  if (path->black) return;
  // A packet that arrives tells of those before it, so a question will do, which is small: who does
  // not answer is mostly one whose thread does not run. Of two without an answer the path is taken
  // for black, while others are heard.
  const bool others = paths_.size() > 1 && now - heard_ < round_trip.expected();
  const int probes = path->window.probes();
  if (paths_.size() > 1 || probes > 1) path->next_question = now;
  if (others && probes > 1 && path->suspect_at == kNever) {
    path->suspect_at = now + 2 * round_trip.expected();
  }
  if (others || probes > 1) return;
  path->probes = true;
  const uint64_t oldest = path->window.OldestInFlight();
  if (oldest == kAsked || oldest < oldest_chunk_) return;
  Chunk& chunk = ChunkAt(oldest);
  if (chunk.acknowledged || chunk.waits) return;
  chunk.waits = true;
  lost_.push(oldest);
}

void Sender::BecomeBlack(Path* path, int64_t now) {
  PathFate fate(this, path);
  path->window.LoseAll(&fate);
  if (path->black) return;
  ++path->stats.blackouts;
  path->black = true;
  path->black_since = now;
  path->suspect_at = kNever;
  path->questions = 0;
  path->next_question = now;
  path->congestion.OnTimeout();
}

void Sender::Fail(int64_t now) {
  int64_t since = 0;
  for (const Path& path : paths_) since = std::max(since, path.black_since);
  if (now - since < options_.dead_ns) return;
  failure_ = "nothing was heard on any of " + std::to_string(paths_.size()) + " paths for " +
             std::to_string((now - since) / 1'000'000) + " ms";
}

bool Sender::MayCut(uint64_t number) const {
  if (number >= posted_ || next_chunk_ - oldest_chunk_ == kChunkWindow) return false;
  const Message& message = At(number);
  const uint64_t bytes = std::min<uint64_t>(message.length - message.cut, options_.chunk_bytes);
  const uint64_t under_way = cut_bytes_ - acknowledged_bytes_;
  return under_way == 0 || (under_way <= credit_ && bytes <= credit_ - under_way);
}

bool Sender::Cut(uint64_t number, uint64_t* chunk) {
  Message& message = At(number);
  const uint64_t bytes = std::min<uint64_t>(message.length - message.cut, options_.chunk_bytes);
  *chunk = next_chunk_++;
  ChunkAt(*chunk) = Chunk();
  ChunkAt(*chunk).message = number;
  ChunkAt(*chunk).offset = message.cut;
  ChunkAt(*chunk).bytes = static_cast<uint32_t>(bytes);
  message.cut += bytes;
  cut_bytes_ += bytes;
  return message.cut == message.length;
}

bool Sender::HasWork() const {
  return !lost_.empty() || (!small_.empty() && MayCut(small_.front())) ||
         (!large_.empty() && MayCut(large_.front()));
}

bool Sender::NextChunk(uint64_t* chunk) {
  while (!lost_.empty()) {
    *chunk = lost_.front();
    lost_.pop();
    if (*chunk < oldest_chunk_) continue;
    ChunkAt(*chunk).waits = false;
    if (!ChunkAt(*chunk).acknowledged) return true;
  }
  for (Fifo<uint64_t>* lane : {&small_, &large_}) {
    if (lane->empty() || !MayCut(lane->front())) continue;
    if (Cut(lane->front(), chunk)) lane->pop();
    return true;
  }
  return false;
}

size_t Sender::Room(int index) const {
  const Path& path = paths_[index];
  if (path.black || pacer_.Rests(index)) return 0;
  const auto window = static_cast<uint64_t>(std::max(path.congestion.window(), 1.0));
  const uint64_t used = path.window.in_flight_packets();
  if (used >= window) return path.probes && !path.window.full() ? 1 : 0;
  return std::min(window - used, path.window.room());
}

int Sender::BestPath() const {
  int best = -1;
  double least = 0;
  for (size_t index = 0; index < paths_.size(); ++index) {
    const Path& path = paths_[index];
    if (Room(static_cast<int>(index)) == 0) continue;
    const RoundTrip& round_trip = path.window.round_trip();
    const int64_t takes = round_trip.known() ? round_trip.smoothed() : kUnknownRoundTrip;
    const double queue = static_cast<double>(path.window.in_flight_packets() + 1) *
                         static_cast<double>(takes) / path.congestion.window();
    if (best < 0 || queue < least) {
      best = static_cast<int>(index);
      least = queue;
    }
  }
  return best;
}

size_t Sender::Poll(int64_t now, Emission* out, size_t most) {
  if (!failure_.empty()) return 0;
  if (spoke_ < 0) spoke_ = now;
  OnTime(now);
  pacer_.Turn(now);
  size_t count = 0;
  for (size_t index = 0; index < paths_.size() && count < most; ++index) {
    Path& path = paths_[index];
    if (path.next_question > now) continue;
    if (path.window.full()) {  // which has no number for it: its timeout comes first
      path.next_question = path.black ? now + kOften : kNever;
      continue;
    }
    WriteQuestion(static_cast<int>(index), now, out + count++);
  }
  uint64_t chunk;
  bool any = NextChunk(&chunk);
  while (any && count < most) {
    const int path = BestPath();
    if (path < 0) break;
    size_t burst = std::min({Room(path), static_cast<size_t>(options_.burst), most - count});
    while (any && burst-- != 0) {
      const uint64_t mine = chunk;
      any = NextChunk(&chunk);
      WriteChunk(mine, path, !any || burst == 0, now, out + count++);
    }
  }
  if (any) {  // it has a number already, so it comes first next time
    ChunkAt(chunk).waits = true;
    lost_.push(chunk);
  }
  // Nothing may be sent and nothing is in flight: is there credit by now, which was lost?
  const bool blocked = !any && !idle() && oldest_chunk_ == next_chunk_;
  if (!blocked) {
    next_question_ = kNever;
  } else if (next_question_ == kNever) {
    next_question_ = now + std::min(kFirstAsked << std::min(questions_, 7), kLastAsked);
  } else if (next_question_ <= now && count < most) {
    const int path = BestPath();
    if (path >= 0) WriteQuestion(path, now, out + count++);
    ++questions_;
    next_question_ = kNever;
  }
  if (count == 0 && most != 0 && now - spoke_ >= options_.keepalive_ns) {
    const int path = BestPath();
    if (path >= 0) WriteQuestion(path, now, out + count++);
    spoke_ = now;
  }
  if (count != 0) spoke_ = now;
  return count;
}

void Sender::WriteChunk(uint64_t number, int index, bool ack_now, int64_t now, Emission* out) {
  Path& path = paths_[index];
  Chunk& chunk = ChunkAt(number);
  const Message& message = At(chunk.message);
  PacketHeader header;
  header.type = PacketType::kData;
  header.flags = ack_now ? kFlagAckNow : 0;
  if (chunk.offset + chunk.bytes == message.length) header.flags |= kFlagLast;
  if (message.length <= options_.chunk_bytes) header.flags |= kFlagSmall;
  header.path = static_cast<uint16_t>(index);
  header.connection = options_.connection;
  header.number = static_cast<uint32_t>(path.window.Add(now, number, chunk.bytes));
  header.time_us = static_cast<uint32_t>(now / 1000);
  DataFields data;
  data.message = static_cast<uint32_t>(chunk.message);
  data.offset = chunk.offset;
  data.length = message.length;
  data.tag = message.tag;
  data.chunk = static_cast<uint32_t>(number);
  out->head_bytes = static_cast<uint16_t>(WriteData(header, data, out->head));
  out->path = header.path;
  out->body = message.bytes + chunk.offset;
  out->body_bytes = chunk.bytes;
  if (options_.checksum) SealPacket(out->head, out->head_bytes, out->body, out->body_bytes);
  path.probes = false;
  if (path.congestion.window() < 1 && !pacer_.Rests(index)) {
    const int64_t turn = path.window.round_trip().expected();
    const auto rest = static_cast<int64_t>(static_cast<double>(turn) / path.congestion.window());
    pacer_.Rest(index, now + std::min(rest, turn + kLongestRest), now);
  }
  ++chunk.in_flight;
  ++path.stats.packets;
  path.stats.bytes += chunk.bytes;
}

void Sender::WriteQuestion(int index, int64_t now, Emission* out) {
  Path& path = paths_[index];
  PacketHeader header;
  header.type = PacketType::kProbe;
  header.flags = kFlagAckNow;
  header.path = static_cast<uint16_t>(index);
  header.connection = options_.connection;
  header.number = static_cast<uint32_t>(path.window.Add(now, kAsked, 0));
  header.time_us = static_cast<uint32_t>(now / 1000);
  out->head_bytes = static_cast<uint16_t>(WriteControl(header, out->head));
  out->path = header.path;
  out->body = nullptr;
  out->body_bytes = 0;
  if (options_.checksum) SealPacket(out->head, out->head_bytes, nullptr, 0);
  ++path.stats.packets;
  path.next_question = kNever;
  if (path.black) {
    const int64_t often = std::min(kSoon << std::min(path.questions, 8), kOften);
    const int64_t pause = ++path.questions < kOftenQuestions ? often : kSeldom;
    const auto black =
        std::count_if(paths_.begin(), paths_.end(), [](const Path& each) { return each.black; });
    path.next_question = now + pause * std::max<int64_t>(1, black / kAskingPaths);
  }
}

int64_t Sender::Deadline() const {
  if (!failure_.empty()) return kNever;
  if (HasWork() && BestPath() >= 0) return 0;
  int64_t deadline = std::min(next_question_, std::max<int64_t>(spoke_, 0) + options_.keepalive_ns);
  if (pacer_.Deadline() < deadline && HasWork()) deadline = pacer_.Deadline();
  if (!idle() && next_question_ == kNever && oldest_chunk_ == next_chunk_) deadline = 0;
  bool alive = false;
  int64_t since = 0;
  for (const Path& path : paths_) {
    deadline = std::min({deadline, path.window.Deadline(), path.next_question, path.suspect_at});
    alive |= !path.black;
    since = std::max(since, path.black_since);
  }
  return alive ? deadline : std::min(deadline, since + options_.dead_ns);
}

PathStats Sender::Stats(int index) const {
  const Path& path = paths_[index];
  PathStats stats = path.stats;
  stats.round_trip_ns = path.window.round_trip().smoothed();
  stats.least_round_trip_ns = path.window.round_trip().least();
  stats.window = path.congestion.window();
  stats.black = path.black;
  return stats;
}

}  // namespace harp
}  // namespace taco
