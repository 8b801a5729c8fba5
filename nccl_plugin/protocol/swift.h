// How much one path may have in flight: Swift (Kumar and others, SIGCOMM 2020), which keeps the
// round trip near a target.
//
// Below the target the window grows by one packet a round trip, and doubles until it was above for
// the first time; above it the window shrinks in proportion to what is too much, once a round trip
// and by half at most. The target is the least round trip that was seen, what queues may add, and
// more for small windows, so that many flows on one link find room. What a packet waits in the
// receiver's machine until it is read is not the network's: that has a bound of its own. A window
// below one packet is one packet in more than a round trip.
//
// Loss alone says little where links lose at random: what counts there is the part that was lost in
// a round trip, and beyond 2% the window shrinks by as much. But where packets queue, and the
// target is not met nevertheless, loss is what a full queue shorter than the target says: then any
// shrinks the window to what fits without a queue, by half at most. For long after that it grows
// the slower the smaller it is, while packets queue, as otherwise many flows would only take turns
// in being lost.
//
// Pure; times in nanoseconds, windows in packets.
#ifndef NCCL_PLUGIN_PROTOCOL_SWIFT_H_
#define NCCL_PLUGIN_PROTOCOL_SWIFT_H_

#include <cstdint>

#include "nccl_plugin/protocol/round_trip.h"

namespace taco {
namespace harp {

struct SwiftOptions {
  int64_t queue_ns = 100'000;       // what queues may add to the least round trip
  int64_t receiver_ns = 500'000;    // what a packet may wait for its receiver
  int64_t many_flows_ns = 300'000;  // added for a window of one packet, less for larger ones
  double first_window = 16;
  double least_window = 1.0 / 64;  // below 1: rests between packets
  double most_window = 1024;
};

class Swift {
 public:
  explicit Swift(const SwiftOptions& options = {})
      : options_(options), window_(options.first_window), start_until_(options.most_window) {}

  double window() const { return window_; }

  // `packets` were acknowledged at once, when the round trips were as they are: all of it, and
  // without what the receiver took.
  void OnAck(int packets, const RoundTrip& whole, const RoundTrip& network, int64_t now);
  void OnLoss(int packets) { lost_ += packets; }
  // Nothing is known of the path any more.
  void OnTimeout();

  int64_t Target(const RoundTrip& round_trip) const;

 private:
  static constexpr int64_t kAtFirst = 3600'000'000'000;  // long ago

  bool Queued(const RoundTrip& network) const;
  void Grow(int packets, bool queued, int64_t now);
  void EndRound(const RoundTrip& round_trip, const RoundTrip& network, int64_t now);
  void Shrink(double factor, int64_t now);

  SwiftOptions options_;
  double window_;
  bool starting_ = true;
  double start_until_;  // a window
  int64_t shrunk_ = 0;
  int64_t above_ = -kAtFirst;  // when the network was above the target
  int64_t careful_until_ = -kAtFirst;
  int64_t round_began_ = 0;
  int64_t lost_ = 0;  // in this round
  int64_t acknowledged_ = 0;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_PROTOCOL_SWIFT_H_
