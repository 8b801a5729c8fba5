// What was sent on one path and is not settled yet: acknowledged or taken for lost.
//
//   numbers   oldest ................. highest acknowledged ........ next
//   slots     settled or in flight     |  in flight                |  free
//
// Loss is a matter of time (RFC 8985): a packet is lost when one that was sent after it came, and a
// quarter of the least round trip has passed beyond the round trip of that one. Counting later
// packets, as TCP used to, misfires where packets overtake one another. When nothing is heard at
// all, one packet is asked to be sent again after two round trips (the tail probe), then after two
// more, four, eight ..., as QUIC does (RFC 9002): a timeout is long, and probes get lost like
// others. After the timeout everything is lost; each timeout without an acknowledgement doubles the
// next.
//
// Pure: all times are the caller's, in nanoseconds. One thread. No allocation after the beginning.
#ifndef NCCL_PLUGIN_PROTOCOL_SENT_WINDOW_H_
#define NCCL_PLUGIN_PROTOCOL_SENT_WINDOW_H_

#include <cstdint>
#include <limits>
#include <vector>

#include "nccl_plugin/protocol/packet.h"
#include "nccl_plugin/protocol/receive_window.h"
#include "nccl_plugin/protocol/round_trip.h"

namespace taco {
namespace harp {

inline constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

class SentWindow {
 public:
  // What the receiver's window speaks of: more would never be acknowledged.
  static constexpr uint64_t kSlots = ReceiveWindow::kPackets;

  // What becomes of a packet: `what` and `bytes` as they were given to Add. Called from within
  // OnAck and OnTime; may not call back.
  class Fate {
   public:
    virtual ~Fate() = default;
    virtual void Acknowledged(uint64_t what, uint32_t bytes) = 0;
    virtual void Lost(uint64_t what, uint32_t bytes) = 0;
  };

  SentWindow() : slots_(kSlots) {}

  bool full() const { return next_ - oldest_ == kSlots; }
  uint64_t room() const { return kSlots - (next_ - oldest_); }
  bool idle() const { return in_flight_packets_ == 0; }
  uint64_t in_flight() const { return in_flight_bytes_; }
  uint64_t in_flight_packets() const { return in_flight_packets_; }
  const RoundTrip& round_trip() const { return round_trip_; }
  void GuessRoundTrip(int64_t other) { round_trip_.Guess(other); }
  // Without what the receiver took: the wait until it read, and until it answered.
  const RoundTrip& network() const { return network_; }
  int timeouts() const { return timeouts_; }  // since the last acknowledgement
  int probes() const { return probes_; }      // since then, or since the window was idle

  // Notes a packet that is sent now, unless full. Returns its number.
  uint64_t Add(int64_t now, uint64_t what, uint32_t bytes);

  // Settles packets. `arrived` is when this machine had the acknowledgement. One of what was never
  // sent changes nothing. Returns whether it was of this window.
  bool OnAck(const AckFields& ack, int64_t arrived, int64_t now, Fate* fate);

  // When OnTime has something to do; kNever: when idle.
  int64_t Deadline() const;

  enum class Due { kNothing, kProbe, kTimeout };

  // Settles what time has settled. kProbe: nothing was heard for long, the oldest packet in flight
  // should go again. kTimeout: everything in flight was given up.
  Due OnTime(int64_t now, Fate* fate);

  // The oldest packet in flight, which a probe repeats; not when idle.
  uint64_t OldestInFlight() const;

  // Gives everything up, as for a path that is black.
  void LoseAll(Fate* fate);

 private:
  struct Slot {
    int64_t sent = 0;
    uint64_t what = 0;
    uint32_t bytes = 0;
    bool in_flight = false;
    bool alone = false;  // sent after a silence: into a queue of others, if any
  };

  Slot& At(uint64_t number) { return slots_[number % kSlots]; }
  const Slot& At(uint64_t number) const { return slots_[number % kSlots]; }
  void Settle(Slot* slot);
  void Advance();
  void FindLost(int64_t now, Fate* fate);
  int64_t Patience() const;  // round trip and reordering that a packet is given

  std::vector<Slot> slots_;
  uint64_t oldest_ = 0;   // every number below is settled
  uint64_t next_ = 0;     // number of the next packet
  uint64_t highest_ = 0;  // highest number acknowledged, plus one; 0: none
  uint64_t in_flight_bytes_ = 0;
  uint64_t in_flight_packets_ = 0;
  int64_t loss_deadline_ = kNever;
  int64_t spoke_up_ = 0;  // the first packet after a silence
  int64_t heard_ = 0;     // of the last acknowledgement, or of the first packet after idleness
  int probes_ = 0;        // since then
  int64_t probed_ = 0;    // when the last one was due
  int timeouts_ = 0;
  RoundTrip round_trip_;
  RoundTrip network_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_PROTOCOL_SENT_WINDOW_H_
