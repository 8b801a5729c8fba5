// How much one path may have in flight: by Swift, or by CUBIC where the user wants that.
#ifndef NCCL_PLUGIN_PROTOCOL_CONGESTION_H_
#define NCCL_PLUGIN_PROTOCOL_CONGESTION_H_

#include <cstdint>

#include "nccl_plugin/protocol/cubic.h"
#include "nccl_plugin/protocol/round_trip.h"
#include "nccl_plugin/protocol/swift.h"

namespace taco {
namespace harp {

struct CongestionOptions {
  bool cubic = false;
  SwiftOptions swift;  // CUBIC begins with the same window and goes up to the same
};

// Both, of which one is asked: a path's state is small, and no call goes through a pointer.
class Congestion {
 public:
  explicit Congestion(const CongestionOptions& options = {})
      : by_cubic_(options.cubic),
        swift_(options.swift),
        cubic_(options.swift.first_window, options.swift.most_window) {}

  // In packets.
  double window() const { return by_cubic_ ? cubic_.window() : swift_.window(); }

  // As Swift's: `network` is the round trip without what the receiver took.
  void OnAck(int packets, const RoundTrip& whole, const RoundTrip& network, int64_t now) {
    by_cubic_ ? cubic_.OnAck(packets, whole, now) : swift_.OnAck(packets, whole, network, now);
  }
  void OnLoss(int packets) { by_cubic_ ? cubic_.OnLoss(packets) : swift_.OnLoss(packets); }
  void OnTimeout() { by_cubic_ ? cubic_.OnTimeout() : swift_.OnTimeout(); }

 private:
  bool by_cubic_;
  Swift swift_;
  Cubic cubic_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_PROTOCOL_CONGESTION_H_
