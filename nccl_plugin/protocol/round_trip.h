// How long a packet and its acknowledgement take on one path: smoothed, its variation, and the
// least, which is taken for what the path takes without queues.
#ifndef NCCL_PLUGIN_PROTOCOL_ROUND_TRIP_H_
#define NCCL_PLUGIN_PROTOCOL_ROUND_TRIP_H_

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace taco {
namespace harp {

class RoundTrip {
 public:
  // A sample, in nanoseconds, at a time: packets that were sent once have theirs, others too, as
  // every transmission has a number of its own. RFC 6298's averages. The least holds for 10 s;
  // after that one takes its place that was `alone`, sent after a silence: any other has met the
  // queue of those before it, and a target over a least with a queue in it makes the queue longer
  // each time.
  void Add(int64_t sample, int64_t now, bool alone = true) {
    sample = std::max<int64_t>(sample, 1000);
    if (samples_ == 0 || sample <= least_ || (alone && now - least_at_ > kForget)) {
      least_ = sample;
      least_at_ = now;
    }
    latest_ = sample;
    if (samples_++ == 0) {
      smoothed_ = sample;
      variation_ = sample / 2;
      return;
    }
    const int64_t error = sample - smoothed_;
    variation_ += (std::abs(error) - variation_) / 4;
    smoothed_ += error / 8;
  }

  // What another path of the connection takes: until this one's own is known, its timeouts go by
  // it.
  void Guess(int64_t other) { guess_ = std::max<int64_t>(other, 1000); }

  bool known() const { return samples_ != 0; }
  // Its own, or what is guessed; 0: neither is there.
  int64_t expected() const { return known() ? smoothed_ : guess_; }
  int64_t least() const { return least_; }
  int64_t latest() const { return latest_; }
  int64_t smoothed() const { return smoothed_; }

  // After which a packet that nobody speaks of is taken for lost.
  int64_t Timeout() const {
    if (known()) return std::max(kLeastTimeout, smoothed_ + 4 * variation_);
    return guess_ == 0 ? kFirstTimeout : std::clamp(8 * guess_, kLeastTimeout, kFirstTimeout);
  }

  // A thread that is not run for a while must not look like a path that is black.
  static constexpr int64_t kLeastTimeout = 5'000'000;
  static constexpr int64_t kFirstTimeout = 20'000'000;

 private:
  static constexpr int64_t kForget = 10'000'000'000;

  int64_t guess_ = 0;
  int64_t least_ = 0;
  int64_t least_at_ = 0;
  int64_t latest_ = 0;
  int64_t smoothed_ = 0;
  int64_t variation_ = 0;
  uint64_t samples_ = 0;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_PROTOCOL_ROUND_TRIP_H_
