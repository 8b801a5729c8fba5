// How much one path may have in flight by CUBIC (RFC 9438): for links whose queues others fill,
// where Swift, which gives way to queues, would get little.
//
// The window doubles each round trip until the first loss. A loss takes three tenths of it, once a
// round trip; it then comes back along a cubic curve that is flat where the loss was, and never
// more slowly than Reno's would. Any loss counts as congestion: on links that lose at random it is
// slow.
//
// Pure; times in nanoseconds, windows in packets.
#ifndef NCCL_PLUGIN_PROTOCOL_CUBIC_H_
#define NCCL_PLUGIN_PROTOCOL_CUBIC_H_

#include <cstdint>
#include <limits>

#include "nccl_plugin/protocol/round_trip.h"

namespace taco {
namespace harp {

class Cubic {
 public:
  Cubic(double first_window, double most_window)
      : most_window_(most_window), window_(first_window) {}

  double window() const { return window_; }

  // `packets` were acknowledged at once, when the round trip was as it is.
  void OnAck(int packets, const RoundTrip& round_trip, int64_t now);
  void OnLoss(int packets) { lost_ += packets; }
  // Nothing is known of the path any more.
  void OnTimeout();

 private:
  void Shrink(int64_t now);
  void Remember();
  void Grow(int packets, const RoundTrip& round_trip, int64_t now);

  double most_window_;
  double window_;
  double threshold_ = std::numeric_limits<double>::infinity();  // below it the window doubles
  double highest_ = 0;                                          // the window at the last loss
  double reno_ = 0;                                             // what Reno's would be by now
  int64_t began_ = -1;        // of this curve; -1: it begins with the next packet
  double until_highest_ = 0;  // seconds from there
  int64_t shrunk_ = 0;
  int64_t lost_ = 0;  // since the last OnAck
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_PROTOCOL_CUBIC_H_
