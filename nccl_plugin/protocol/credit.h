// Against incast: the receivers of one interface share out what may be on its way to all of them.
//
// A receiver's credit is a window: bytes of messages that its sender may have cut into packets and
// not seen acknowledged. While few receivers are busy there is no bound, and it costs nothing. With
// more, each gets an equal share: those in the middle of a message of what is for all of these, the
// others, which wait for a first packet, of what is for all that wait, so that senders who begin at
// the same time do not bring all their first windows at once.
//
// A pool may be shared by threads: its counts are hints, and need no order.
#ifndef NCCL_PLUGIN_PROTOCOL_CREDIT_H_
#define NCCL_PLUGIN_PROTOCOL_CREDIT_H_

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace taco {
namespace harp {

inline constexpr uint64_t kAllCredit = ~uint64_t{0};

class CreditPool {
 public:
  // What may be on its way to all receivers together, where there are more than kFew.
  explicit CreditPool(uint64_t bytes) : bytes_(bytes) {}

 private:
  friend class CreditShare;
  static constexpr int kFew = 4;

  uint64_t Share(const std::atomic<int>& receivers) const {
    const int count = receivers.load(std::memory_order_relaxed);
    return count <= kFew ? kAllCredit : bytes_ / static_cast<uint64_t>(count);
  }

  const uint64_t bytes_;
  std::atomic<int> waiting_{0};  // receivers that have buffers for a message
  std::atomic<int> busy_{0};     // of these, in the middle of one
};

// One receiver's. Without a pool there is no bound.
class CreditShare {
 public:
  explicit CreditShare(CreditPool* pool = nullptr) : pool_(pool) {}
  ~CreditShare() { Set(false, false); }
  CreditShare(const CreditShare&) = delete;
  CreditShare& operator=(const CreditShare&) = delete;

  void Set(bool waiting, bool busy) {
    if (pool_ == nullptr) return;
    Count(&pool_->waiting_, &waiting_, waiting);
    Count(&pool_->busy_, &busy_, busy);
  }

  uint64_t bytes() const {
    if (pool_ == nullptr) return kAllCredit;
    return pool_->Share(busy_ ? pool_->busy_ : pool_->waiting_);
  }

 private:
  static void Count(std::atomic<int>* all, bool* mine, bool now) {
    if (*mine == now) return;
    *mine = now;
    all->fetch_add(now ? 1 : -1, std::memory_order_relaxed);
  }

  CreditPool* const pool_;
  bool waiting_ = false;
  bool busy_ = false;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_PROTOCOL_CREDIT_H_
