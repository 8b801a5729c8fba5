// A network in virtual time: links with a rate, a queue and a delay, that lose, delay, duplicate
// and change packets as a seed says. The same seed gives the same run, to the byte.
#ifndef NCCL_PLUGIN_SIMULATION_NETWORK_H_
#define NCCL_PLUGIN_SIMULATION_NETWORK_H_

#include <cstdint>
#include <functional>
#include <queue>
#include <random>
#include <utility>
#include <vector>

namespace taco {
namespace harp {

struct LinkOptions {
  int64_t delay_ns = 10'000;
  double bits_per_ns = 10;           // 10 Gb/s; 0: no limit
  uint64_t queue_bytes = 1'000'000;  // what does not fit is dropped at the tail
  double loss = 0;                   // of packets
  double duplicate = 0;
  double corrupt = 0;   // one bit of the packet changes
  double late = 0;      // packets that are delayed,
  int64_t late_ns = 0;  // up to so much more
  // Nothing passes between these times.
  std::vector<std::pair<int64_t, int64_t>> black;
};

class Network {
 public:
  using Packet = std::vector<uint8_t>;
  using Arrive = std::function<void(const Packet&)>;

  explicit Network(uint64_t seed) : random_(seed) {}

  int AddLink(const LinkOptions& options) {
    links_.push_back({options, 0});
    return static_cast<int>(links_.size()) - 1;
  }
  LinkOptions& link(int index) { return links_[index].options; }

  int64_t now() const { return now_; }
  std::mt19937_64& random() { return random_; }

  // Sends a packet over links one after the other; `arrive` is called where they end.
  void Send(const std::vector<int>& route, Packet packet, Arrive arrive) {
    Hop(route, 0, std::move(packet), std::move(arrive));
  }

  void At(int64_t time, std::function<void()> what) {
    events_.push({std::max(time, now_), order_++, std::move(what)});
  }

  // Lets the next thing happen; false if there is none.
  bool Step() {
    if (events_.empty()) return false;
    now_ = events_.top().time;
    const std::function<void()> what = std::move(const_cast<Event&>(events_.top()).what);
    events_.pop();
    what();
    return true;
  }

  uint64_t packets() const { return packets_; }
  uint64_t dropped() const { return dropped_; }  // for whatever reason

 private:
  struct Event {
    int64_t time;
    uint64_t order;  // of equal times
    std::function<void()> what;
    bool operator<(const Event& other) const {
      return time != other.time ? time > other.time : order > other.order;
    }
  };

  struct Link {
    LinkOptions options;
    int64_t free_at;  // its last bit has left
  };

  bool Chance(double part) {
    return part > 0 && std::uniform_real_distribution<>(0, 1)(random_) < part;
  }

  static bool Black(const LinkOptions& options, int64_t now) {
    for (const auto& [from, to] : options.black) {
      if (now >= from && now < to) return true;
    }
    return false;
  }

  void Hop(const std::vector<int>& route, size_t hop, Packet packet, Arrive arrive) {
    if (hop == route.size()) {
      arrive(packet);
      return;
    }
    Link& link = links_[route[hop]];
    const LinkOptions& options = link.options;
    ++packets_;
    if (Black(options, now_) || Chance(options.loss)) {
      ++dropped_;
      return;
    }
    int64_t leaves = now_;
    if (options.bits_per_ns > 0) {
      const auto queued = static_cast<double>(std::max<int64_t>(link.free_at - now_, 0));
      if (queued * options.bits_per_ns / 8 > static_cast<double>(options.queue_bytes)) {
        ++dropped_;
        return;
      }
      const double takes = 8 * static_cast<double>(packet.size()) / options.bits_per_ns;
      leaves = std::max(link.free_at, now_) + static_cast<int64_t>(takes);
      link.free_at = leaves;
    }
    int64_t arrives = leaves + options.delay_ns;
    if (Chance(options.late)) {
      arrives += std::uniform_int_distribution<int64_t>(0, options.late_ns)(random_);
    }
    if (Chance(options.corrupt)) {
      const uint64_t bit = random_() % (8 * packet.size());
      packet[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    }
    if (Chance(options.duplicate)) {
      At(arrives + 1000,
         [this, route, hop, packet, arrive] { Hop(route, hop + 1, packet, arrive); });
    }
    At(arrives, [this, route, hop, packet = std::move(packet), arrive = std::move(arrive)] {
      Hop(route, hop + 1, packet, arrive);
    });
  }

  std::mt19937_64 random_;
  std::vector<Link> links_;
  std::priority_queue<Event> events_;
  int64_t now_ = 0;
  uint64_t order_ = 0;
  uint64_t packets_ = 0;
  uint64_t dropped_ = 0;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_SIMULATION_NETWORK_H_
