// A wire in memory: what is sent is received again, in order, unless a test changes it on the way.
#ifndef NCCL_PLUGIN_IO_WIRE_FOR_TEST_H_
#define NCCL_PLUGIN_IO_WIRE_FOR_TEST_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "nccl_plugin/io/packet_io.h"

namespace taco {
namespace harp {

class WireForTest : public PacketIo {
 public:
  // `packets` are those under way.
  explicit WireForTest(std::deque<std::string>* packets) : packets_(packets) {}

  size_t Send(const Outgoing* packets, size_t count) override {
    size_t taken = 0;
    for (; taken < count && room != 0; ++taken, --room) {
      const Outgoing& each = packets[taken];
      std::string bytes(each.head, each.head + each.head_bytes);
      packets_->push_back(bytes.append(each.body, each.body + each.body_bytes));
    }
    return taken;
  }
  size_t Receive(Incoming* packets, size_t most) override {
    views_.clear();
    while (views_.size() < most && !packets_->empty()) {
      views_.push_back(packets_->front());
      packets_->pop_front();
    }
    for (size_t i = 0; i < views_.size(); ++i) {
      packets[i] = Incoming();
      packets[i].bytes = reinterpret_cast<const uint8_t*>(views_[i].data());
      packets[i].size = static_cast<uint32_t>(views_[i].size());
    }
    return views_.size();
  }
  size_t max_packet() const override { return 1500; }
  uint16_t paths() const override { return 1; }
  Endpoint local(uint16_t) const override { return {}; }
  int descriptor() const override { return -1; }
  const Stats& stats() const override { return stats_; }
  const std::string& notes() const override { return notes_; }

  size_t room = ~size_t{0};  // for packets that are sent

 private:
  std::deque<std::string>* const packets_;
  std::vector<std::string> views_;
  Stats stats_;
  std::string notes_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_WIRE_FOR_TEST_H_
