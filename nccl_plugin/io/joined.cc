#include "nccl_plugin/io/joined.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace taco {
namespace harp {
namespace {

// What several interfaces know.
class JoinedMemory final : public PacketIo::Memory {
 public:
  explicit JoinedMemory(std::vector<std::unique_ptr<PacketIo::Memory>> parts)
      : parts_(std::move(parts)) {}
  bool Release() override {
    while (!parts_.empty() && parts_.back()->Release()) parts_.pop_back();
    return parts_.empty();
  }

 private:
  std::vector<std::unique_ptr<PacketIo::Memory>> parts_;
};

class Joined final : public PacketIo {
 public:
  Joined(std::vector<std::unique_ptr<PacketIo>> parts, int epoll)
      : parts_(std::move(parts)), epoll_(epoll) {
    for (const auto& part : parts_) {
      epoll_event event = {};
      event.events = EPOLLIN;
      epoll_ctl(epoll_, EPOLL_CTL_ADD, part->descriptor(), &event);
      most_ = std::min(most_, part->max_packet());
      if (notes_.find(part->notes()) == std::string::npos) notes_ += part->notes();
    }
  }
  ~Joined() override { close(epoll_); }

  size_t Send(const Outgoing* packets, size_t count) override {
    const size_t parts = parts_.size();
    size_t taken = 0;
    while (taken < count) {
      // Those that follow each other to one part.
      const size_t part = packets[taken].path % parts;
      size_t run = 0;
      for (; run < kRun && taken + run < count && packets[taken + run].path % parts == part;
           ++run) {
        run_[run] = packets[taken + run];
        run_[run].path = static_cast<uint16_t>(run_[run].path / parts);
      }
      const size_t sent = parts_[part]->Send(run_.data(), run);
      taken += sent;
      if (sent < run) break;
    }
    return taken;
  }

  std::unique_ptr<Memory> Register(const void* bytes, size_t size) override {
    std::vector<std::unique_ptr<Memory>> known;
    for (const auto& part : parts_) {
      if (auto memory = part->Register(bytes, size)) known.push_back(std::move(memory));
    }
    return known.empty() ? nullptr : std::make_unique<JoinedMemory>(std::move(known));
  }

  size_t Receive(Incoming* packets, size_t most) override {
    // Views of one part stay valid while the next one is asked.
    size_t count = 0;
    for (size_t turn = 0; turn < parts_.size() && count < most; ++turn) {
      const size_t part = next_++ % parts_.size();
      const size_t found = parts_[part]->Receive(packets + count, most - count);
      for (size_t index = count; index < count + found; ++index) {
        packets[index].path = static_cast<uint16_t>(packets[index].path * parts_.size() + part);
      }
      count += found;
    }
    return count;
  }

  size_t max_packet() const override { return most_; }
  uint16_t paths() const override {
    return static_cast<uint16_t>(parts_.size() * parts_[0]->paths());
  }
  Endpoint local(uint16_t path) const override {
    return parts_[path % parts_.size()]->local(static_cast<uint16_t>(path / parts_.size()));
  }
  int descriptor() const override { return epoll_; }
  const Stats& stats() const override;
  const std::string& notes() const override { return notes_; }

 private:
  static constexpr size_t kRun = 64;

  const std::vector<std::unique_ptr<PacketIo>> parts_;
  const int epoll_;
  size_t most_ = kMaxPacketBytes;
  std::string notes_;
  size_t next_ = 0;
  std::array<Outgoing, kRun> run_;
  mutable Stats sum_;
};

const PacketIo::Stats& Joined::stats() const {
  sum_ = Stats();
  for (const auto& part : parts_) {
    const Stats& each = part->stats();
    sum_.packets_sent += each.packets_sent;
    sum_.bytes_sent += each.bytes_sent;
    sum_.packets_lost += each.packets_lost;
    sum_.packets_received += each.packets_received;
    sum_.bytes_received += each.bytes_received;
    sum_.refused += each.refused;
    sum_.dropped += each.dropped;
    sum_.send_calls += each.send_calls;
    sum_.receive_calls += each.receive_calls;
    sum_.user_copied_bytes += each.user_copied_bytes;
    sum_.kernel_copied_bytes += each.kernel_copied_bytes;
    sum_.queue_full += each.queue_full;
    sum_.segmentation |= each.segmentation;
    for (size_t error = 0; error < sum_.errors.size(); ++error) {
      sum_.errors[error] += each.errors[error];
    }
  }
  return sum_;
}

}  // namespace

std::unique_ptr<PacketIo> JoinIo(std::vector<std::unique_ptr<PacketIo>> parts, std::string* error) {
  if (parts.size() == 1) return std::move(parts[0]);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) {
    *error = std::string("cannot open an epoll descriptor: ") + std::strerror(errno) +
             "; raise `ulimit -n`";
    return nullptr;
  }
  return std::make_unique<Joined>(std::move(parts), epoll);
}

}  // namespace harp
}  // namespace taco
