#include "nccl_plugin/protocol/sent_window.h"

#include <algorithm>

namespace taco {
namespace harp {
namespace {

constexpr int kMaxDoublings = 10;
constexpr int64_t kSilence = 1'000'000;  // or four round trips
constexpr int64_t kTogether = 10'000;    // with the first packet after it

int64_t Microseconds(uint64_t us) { return static_cast<int64_t>(us) * 1000; }

}  // namespace

uint64_t SentWindow::Add(int64_t now, uint64_t what, uint32_t bytes) {
  if (idle()) {
    if (now - heard_ >= std::max(kSilence, 4 * round_trip_.smoothed())) spoke_up_ = now;
    heard_ = now;
    probes_ = 0;
  }
  At(next_) = Slot{now, what, bytes, true, now - spoke_up_ < kTogether};
  in_flight_bytes_ += bytes;
  ++in_flight_packets_;
  return next_++;
}

void SentWindow::Settle(Slot* slot) {
  slot->in_flight = false;
  in_flight_bytes_ -= slot->bytes;
  --in_flight_packets_;
}

void SentWindow::Advance() {
  while (oldest_ < next_ && !At(oldest_).in_flight) ++oldest_;
}

bool SentWindow::OnAck(const AckFields& ack, int64_t arrived, int64_t now, Fate* fate) {
  if (next_ == 0) return false;
  const uint64_t highest = Expand(ack.highest, next_ - 1);
  if (highest >= next_) return false;
  bool any = false;
  if (highest >= oldest_ && At(highest).in_flight) {
    const int64_t sample = now - At(highest).sent;
    const bool alone = At(highest).alone;
    round_trip_.Add(sample, now, alone);
    network_.Add(arrived - At(highest).sent - Microseconds(ack.delay_us), now, alone);
  }
  for (uint64_t number = oldest_; number <= highest; ++number) {
    Slot& slot = At(number);
    if (!slot.in_flight || !Acknowledges(ack, static_cast<uint32_t>(number))) continue;
    Settle(&slot);
    any = true;
    highest_ = std::max(highest_, number + 1);
    fate->Acknowledged(slot.what, slot.bytes);
  }
  if (any) {
    heard_ = now;
    probes_ = 0;
    timeouts_ = 0;
    FindLost(now, fate);
    Advance();
  }
  return true;
}

int64_t SentWindow::Patience() const {
  return std::max(round_trip_.latest(), round_trip_.smoothed()) + round_trip_.least() / 4;
}

void SentWindow::FindLost(int64_t now, Fate* fate) {
  loss_deadline_ = kNever;
  for (uint64_t number = oldest_; number + 1 < highest_; ++number) {
    Slot& slot = At(number);
    if (!slot.in_flight) continue;
    const int64_t deadline = slot.sent + Patience();
    if (deadline > now) {  // those behind it were sent later
      loss_deadline_ = deadline;
      return;
    }
    Settle(&slot);
    fate->Lost(slot.what, slot.bytes);
  }
}

int64_t SentWindow::Deadline() const {
  if (idle()) return kNever;
  const int64_t timeout = round_trip_.Timeout() << std::min(timeouts_, kMaxDoublings);
  int64_t quiet = heard_ + timeout;
  const int64_t expected = round_trip_.expected();
  if (expected != 0 && timeouts_ == 0) {
    const int64_t last = probes_ == 0 ? heard_ : probed_;
    quiet = std::min(quiet, last + (2 * expected << std::max(probes_ - 1, 0)));
  }
  return std::min(quiet, loss_deadline_);
}

SentWindow::Due SentWindow::OnTime(int64_t now, Fate* fate) {
  if (now < Deadline()) return Due::kNothing;
  if (now >= loss_deadline_) {
    FindLost(now, fate);
    Advance();
    if (now < Deadline()) return Due::kNothing;
  }
  const int64_t timeout = round_trip_.Timeout() << std::min(timeouts_, kMaxDoublings);
  if (now - heard_ < timeout) {
    probed_ = now;
    ++probes_;
    return Due::kProbe;
  }
  ++timeouts_;
  LoseAll(fate);
  return Due::kTimeout;
}

uint64_t SentWindow::OldestInFlight() const {
  uint64_t number = oldest_;
  while (!At(number).in_flight) ++number;
  return At(number).what;
}

void SentWindow::LoseAll(Fate* fate) {
  loss_deadline_ = kNever;
  for (uint64_t number = oldest_; number < next_; ++number) {
    Slot& slot = At(number);
    if (!slot.in_flight) continue;
    Settle(&slot);
    fate->Lost(slot.what, slot.bytes);
  }
  oldest_ = next_;
}

}  // namespace harp
}  // namespace taco
