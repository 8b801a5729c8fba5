#include "nccl_plugin/protocol/cubic.h"

#include <algorithm>
#include <cmath>

namespace taco {
namespace harp {
namespace {

// RFC 9438's names and values.
constexpr double kC = 0.4;     // packets a second, cubed
constexpr double kBeta = 0.7;  // of the window is left after a loss
constexpr double kAlpha = 3 * (1 - kBeta) / (1 + kBeta);
constexpr double kLeast = 1;

}  // namespace

void Cubic::OnAck(int packets, const RoundTrip& round_trip, int64_t now) {
  if (lost_ != 0) {
    lost_ = 0;
    // Losses of the same round trip tell of the same queue.
    if (shrunk_ == 0 || now - shrunk_ >= round_trip.smoothed()) {
      Shrink(now);
      return;
    }
  }
  if (window_ < threshold_) {
    window_ += packets;
  } else {
    Grow(packets, round_trip, now);
  }
  window_ = std::clamp(window_, kLeast, most_window_);
}

void Cubic::Grow(int packets, const RoundTrip& round_trip, int64_t now) {
  if (began_ < 0) {
    began_ = now;
    reno_ = window_;
    until_highest_ = window_ < highest_ ? std::cbrt((highest_ - window_) / kC) : 0;
    highest_ = std::max(highest_, window_);
  }
  const auto ahead = [&](int64_t time) {
    const double t = static_cast<double>(time - began_) / 1e9 - until_highest_;
    return kC * t * t * t + highest_;
  };
  reno_ += (reno_ < highest_ ? kAlpha : 1.0) * packets / window_;
  // Where the curve will be a round trip from now, and at most half as much again.
  const double target = std::clamp(ahead(now + round_trip.smoothed()), window_, 1.5 * window_);
  window_ += (target - window_) * packets / window_;
  window_ = std::max(window_, reno_);
}

void Cubic::Remember() {
  // A window that was lower than the last one gives room to those who came since.
  highest_ = window_ < highest_ ? window_ * (1 + kBeta) / 2 : window_;
  threshold_ = std::max(window_ * kBeta, 2.0);
  began_ = -1;
}

void Cubic::Shrink(int64_t now) {
  Remember();
  window_ = std::max(window_ * kBeta, kLeast);
  shrunk_ = now;
}

void Cubic::OnTimeout() {
  if (window_ > kLeast) Remember();  // a second timeout in a row knows nothing new
  window_ = kLeast;
  lost_ = 0;
}

}  // namespace harp
}  // namespace taco
