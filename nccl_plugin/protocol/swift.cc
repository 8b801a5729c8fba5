#include "nccl_plugin/protocol/swift.h"

#include <algorithm>
#include <cmath>

namespace taco {
namespace harp {
namespace {

constexpr double kGrowth = 1.0;      // packets a round trip
constexpr double kEagerness = 0.8;   // of what is too much, how much is taken off
constexpr double kMostShrunk = 0.5;  // at once
constexpr double kHarmlessLoss = 0.02;
constexpr int64_t kLeastLost = 4;  // fewer packets of a round trip are chance
// A link's queue is full and shorter than the target when that was not met for so many round trips.
constexpr int64_t kShallow = 100;
// Then growth is slower for so many, where the window is below kWide.
constexpr int64_t kCareful = 1000;
constexpr double kWide = 8;
constexpr double kLeastGrowth = 0.05;

// The part of a delay that is too much; not above 0: none is.
double Excess(int64_t delay, int64_t target) {
  return static_cast<double>(delay - target) / static_cast<double>(std::max<int64_t>(delay, 1));
}

}  // namespace

int64_t Swift::Target(const RoundTrip& round_trip) const {
  const double more = options_.many_flows_ns / std::sqrt(std::max(window_, 0.01));
  const auto few = static_cast<int64_t>(std::min<double>(more, options_.many_flows_ns));
  return round_trip.least() + options_.queue_ns + few;
}

void Swift::OnAck(int packets, const RoundTrip& whole, const RoundTrip& network, int64_t now) {
  acknowledged_ += packets;
  const double queue = Excess(network.latest(), Target(network));
  if (queue > 0) above_ = now;
  const double excess =
      std::max(queue, Excess(whole.latest() - network.latest(), options_.receiver_ns));
  if (excess <= 0) {
    Grow(packets, Queued(network), now);
  } else {
    starting_ = false;
    if (now - shrunk_ >= whole.smoothed()) Shrink(1.0 - kEagerness * excess, now);
  }
  window_ = std::clamp(window_, options_.least_window, options_.most_window);
  if (now - round_began_ >= whole.smoothed()) EndRound(whole, network, now);
}

bool Swift::Queued(const RoundTrip& network) const {
  return network.latest() - network.least() > options_.queue_ns / 4;
}

void Swift::Grow(int packets, bool queued, int64_t now) {
  if (starting_) {
    window_ += packets;
    starting_ = window_ < start_until_;
    return;
  }
  const bool careful = queued && now < careful_until_;
  const double growth = careful ? std::clamp(window_ / kWide, kLeastGrowth, kGrowth) : kGrowth;
  window_ += packets * std::min(growth / window_, 1.0);
}

void Swift::EndRound(const RoundTrip& round_trip, const RoundTrip& network, int64_t now) {
  const double part = static_cast<double>(lost_) / static_cast<double>(lost_ + acknowledged_);
  const bool full = Queued(network) && now - above_ > kShallow * round_trip.smoothed();
  if (full ? lost_ != 0 : lost_ >= kLeastLost && part > kHarmlessLoss) {
    starting_ = false;
    if (full) careful_until_ = now + kCareful * round_trip.smoothed();
    const double empty =
        static_cast<double>(network.least()) / static_cast<double>(network.latest());
    if (now - shrunk_ >= round_trip.smoothed()) Shrink(full ? empty : 1.0 - part, now);
  }
  round_began_ = now;
  lost_ = acknowledged_ = 0;
}

void Swift::Shrink(double factor, int64_t now) {
  window_ = std::max(window_ * std::max(factor, 1.0 - kMostShrunk), options_.least_window);
  shrunk_ = now;
}

void Swift::OnTimeout() {
  if (window_ <= 1) {
    window_ = std::max(window_ / 2, options_.least_window);
    return;
  }
  starting_ = true;
  start_until_ = window_ / 2;
  window_ = 1;
}

}  // namespace harp
}  // namespace taco
