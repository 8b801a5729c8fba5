// Devices of frames in memory, and machines that have one.
#ifndef NCCL_PLUGIN_IO_DEVICE_FOR_TEST_H_
#define NCCL_PLUGIN_IO_DEVICE_FOR_TEST_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "nccl_plugin/io/port_io.h"

namespace taco {
namespace harp {

// Where devices meet: a frame goes to the one with its address of Ethernet, and there to a queue by
// its UDP ports, if it has any.
struct Segment {
  std::mutex mutex;
  std::map<Mac, size_t> queues;  // of a device
  std::map<std::pair<Mac, size_t>, std::deque<std::vector<uint8_t>>> waiting;

  void Put(std::vector<uint8_t> frame) {
    Mac to;
    std::copy_n(frame.begin(), to.size(), to.begin());
    constexpr size_t kPorts = 14 + 20;  // behind the headers of Ethernet and IPv4
    size_t sum = 0;
    for (size_t at = kPorts; at < kPorts + 4 && at < frame.size(); ++at) sum += frame[at];
    const size_t queue = sum % std::max<size_t>(queues[to], 1);
    waiting[{to, queue}].push_back(std::move(frame));
  }
  size_t Waiting(const Mac& mac) const {
    size_t sum = 0;
    for (const auto& each : waiting) sum += each.first.first == mac ? each.second.size() : 0;
    return sum;
  }
};

// With so many frames for what it receives by each of its queues.
class DeviceForTest : public FrameDevice {
 public:
  DeviceForTest(std::shared_ptr<Segment> segment, uint8_t number, size_t frames, size_t queues = 1)
      : segment_(std::move(segment)), queues_(queues) {
    facts_.address = ParseEndpoint("10.9.0." + std::to_string(number)).value();
    facts_.mac = {2, 0, 0, 0, 0, number};
    facts_.max_ip = 1500;
    facts_.frames = frames;
    facts_.receive_queues = facts_.send_queues = queues;
    facts_.user_copies_received = 2;
    facts_.kernel_copies_received = 1;
    for (Queue& queue : queues_) {
      queue.frames.resize(frames);
      for (size_t i = 0; i < frames; ++i) queue.free.insert(i);
    }
    const std::lock_guard<std::mutex> lock(segment_->mutex);
    segment_->queues[facts_.mac] = queues;
  }
  ~DeviceForTest() override {
    for (const Queue& queue : queues_) {
      EXPECT_EQ(queue.free.size(), queue.frames.size()) << "frames are lost";
    }
  }

  const Facts& facts() const override { return facts_; }
  size_t Receive(size_t index, Frame* frames, size_t most, PacketIo::Stats*) override {
    Queue& queue = queues_[index];
    const Alone alone(&queue.receiving);
    const std::lock_guard<std::mutex> lock(segment_->mutex);
    auto& waiting = segment_->waiting[{facts_.mac, index}];
    size_t count = 0;
    for (; count < most && !waiting.empty() && !queue.free.empty(); ++count) {
      const size_t slot = *queue.free.begin();
      queue.free.erase(slot);
      std::vector<uint8_t>& frame = queue.frames[slot] = std::move(waiting.front());
      waiting.pop_front();
      frames[count] = {frame.data(), static_cast<uint32_t>(frame.size()), slot + kMark * index};
    }
    return count;
  }
  void GiveBack(size_t index, const uint64_t* handles, size_t count) override {
    Queue& queue = queues_[index];
    const Alone alone(&queue.receiving);
    for (size_t i = 0; i < count; ++i) {
      EXPECT_EQ(handles[i] / kMark, index) << "it is another queue's";
      const size_t slot = handles[i] % kMark;
      queue.frames[slot].clear();
      EXPECT_TRUE(queue.free.insert(slot).second) << "it is given back twice";
    }
  }
  uint8_t* Borrow(size_t index, size_t size, uint64_t* handle) override {
    Queue& queue = queues_[index];
    if (queue.free.empty()) return nullptr;
    const size_t slot = *queue.free.begin();
    queue.free.erase(slot);
    *handle = slot + kMark * index;
    queue.frames[slot].resize(size);
    return queue.frames[slot].data();
  }
  void OnOther(const Frame&, size_t queue) override {
    const Alone alone(&neighbours_);
    if (queue != kNoQueue) Alone(&queues_[queue].sending);
    ++others;
  }
  size_t Send(size_t index, const Pieces* frames, size_t count, PacketIo::Stats* stats) override {
    const Alone alone(&queues_[index].sending);
    const std::lock_guard<std::mutex> lock(segment_->mutex);
    size_t taken = 0;
    for (; taken < count && room != 0; ++taken, --room) {
      const Pieces& each = frames[taken];
      std::vector<uint8_t> frame(each.header, each.header + each.header_bytes);
      frame.insert(frame.end(), each.head, each.head + each.head_bytes);
      frame.insert(frame.end(), each.body, each.body + each.body_bytes);
      segment_->Put(std::move(frame));
      stats->user_copied_bytes += each.packet_bytes();
    }
    return taken;
  }
  Way Find(const Endpoint& to, int64_t, Mac* mac, size_t queue) override {
    const Alone alone(&neighbours_);
    Alone(&queues_[queue].sending);
    ++asked;
    if (to.address == facts_.address.address) return Way::kLocal;
    if (to.address[3] > 100) return Way::kUnknown;
    *mac = {2, 0, 0, 0, 0, to.address[3]};
    return Way::kFrames;
  }
  bool Claim(uint16_t port, int, std::string* error) override {
    if (port == refused) *error = "it is refused";
    return port != refused && claimed.insert(port).second;
  }
  void Drop(uint16_t port) override { EXPECT_EQ(claimed.erase(port), 1u); }
  int descriptor() const override { return -1; }
  void* AddMemory(const void* bytes, size_t) override {
    for (Queue& queue : queues_) Alone(&queue.sending);
    memory.insert(bytes);
    return copies ? nullptr : const_cast<void*>(bytes);
  }
  bool RemoveMemory(void* bytes) override {
    for (Queue& queue : queues_) Alone(&queue.sending);
    if (still_to_send-- > 0) return false;
    EXPECT_EQ(memory.erase(bytes), 1u);
    return true;
  }

  std::set<const void*> memory;
  bool copies = false;
  int still_to_send = 0;     // looks, until a removed memory is sent
  size_t room = ~size_t{0};  // for frames that are sent
  std::atomic<int> others{0}, asked{0};
  std::set<uint16_t> claimed;
  uint16_t refused = 0;

 private:
  static constexpr uint64_t kMark = 1 << 20;  // a handle is a slot, and this times a queue

  // One thread at a time is in each half of a queue.
  class Alone {
   public:
    explicit Alone(std::atomic<bool>* busy) : busy_(busy) { EXPECT_FALSE(busy->exchange(true)); }
    ~Alone() { busy_->store(false); }

   private:
    std::atomic<bool>* busy_;
  };

  struct Queue {
    std::vector<std::vector<uint8_t>> frames;
    std::set<size_t> free;
    std::atomic<bool> receiving{false}, sending{false};
  };

  const std::shared_ptr<Segment> segment_;
  Facts facts_;
  std::vector<Queue> queues_;
  std::atomic<bool> neighbours_{false};
};

// A machine with one port.
struct Machine {
  Machine(const std::shared_ptr<Segment>& segment, uint8_t number, size_t frames = 4096,
          size_t queues = 1) {
    auto made = std::make_unique<DeviceForTest>(segment, number, frames, queues);
    device = made.get();
    port = std::make_shared<Port>(std::move(made));
  }
  std::unique_ptr<PacketIo> Open(uint16_t paths, uint16_t udp_port = 0,
                                 std::unique_ptr<PacketIo> kernel = nullptr) const {
    PortIoOptions options;
    options.paths = paths;
    options.port = udp_port;
    options.kernel = std::move(kernel);
    std::string error;
    std::unique_ptr<PacketIo> io = OpenPortIo(port, std::move(options), &error);
    EXPECT_NE(io, nullptr) << error;
    return io;
  }
  DeviceForTest* device;
  std::shared_ptr<Port> port;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_DEVICE_FOR_TEST_H_
