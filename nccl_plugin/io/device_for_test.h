// Devices of frames in memory, and machines that have one.
#ifndef NCCL_PLUGIN_IO_DEVICE_FOR_TEST_H_
#define NCCL_PLUGIN_IO_DEVICE_FOR_TEST_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nccl_plugin/io/port_io.h"

namespace taco {
namespace harp {

// Where devices meet: a frame goes to the one with its address of Ethernet.
struct Segment {
  std::mutex mutex;
  std::map<Mac, std::deque<std::vector<uint8_t>>> waiting;
};

// With so many frames for what it receives.
class DeviceForTest : public FrameDevice {
 public:
  DeviceForTest(std::shared_ptr<Segment> segment, uint8_t number, size_t frames)
      : segment_(std::move(segment)), frames_(frames) {
    facts_.address = ParseEndpoint("10.9.0." + std::to_string(number)).value();
    facts_.mac = {2, 0, 0, 0, 0, number};
    facts_.max_ip = 1500;
    facts_.frames = frames;
    facts_.user_copies_received = 2;
    facts_.kernel_copies_received = 1;
    for (size_t i = 0; i < frames; ++i) free_.insert(i);
  }
  ~DeviceForTest() override { EXPECT_EQ(free_.size(), frames_.size()) << "frames are lost"; }

  const Facts& facts() const override { return facts_; }
  size_t Receive(Frame* frames, size_t most, PacketIo::Stats*) override {
    const Alone alone(&receiving_);
    const std::lock_guard<std::mutex> lock(segment_->mutex);
    auto& waiting = segment_->waiting[facts_.mac];
    size_t count = 0;
    for (; count < most && !waiting.empty() && !free_.empty(); ++count) {
      const size_t slot = *free_.begin();
      free_.erase(slot);
      frames_[slot] = std::move(waiting.front());
      waiting.pop_front();
      frames[count] = {frames_[slot].data(), static_cast<uint32_t>(frames_[slot].size()), slot};
    }
    return count;
  }
  void GiveBack(const uint64_t* handles, size_t count) override {
    for (size_t i = 0; i < count; ++i) {
      frames_[handles[i]].clear();
      EXPECT_TRUE(free_.insert(handles[i]).second) << "it is given back twice";
    }
  }
  uint8_t* Borrow(size_t size, uint64_t* handle) override {
    if (free_.empty()) return nullptr;
    *handle = *free_.begin();
    free_.erase(*handle);
    frames_[*handle].resize(size);
    return frames_[*handle].data();
  }
  void OnOther(const Frame&, bool) override { ++others; }
  size_t Send(const Pieces* frames, size_t count, PacketIo::Stats* stats) override {
    const Alone alone(&sending_);
    const std::lock_guard<std::mutex> lock(segment_->mutex);
    size_t taken = 0;
    for (; taken < count && room != 0; ++taken, --room) {
      const Pieces& each = frames[taken];
      std::vector<uint8_t> frame(each.header, each.header + each.header_bytes);
      frame.insert(frame.end(), each.head, each.head + each.head_bytes);
      frame.insert(frame.end(), each.body, each.body + each.body_bytes);
      Mac to;
      std::copy_n(frame.begin(), to.size(), to.begin());
      segment_->waiting[to].push_back(std::move(frame));
      stats->user_copied_bytes += each.packet_bytes();
    }
    return taken;
  }
  Way Find(const Endpoint& to, int64_t, Mac* mac) override {
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
    const Alone alone(&sending_);
    memory.insert(bytes);
    return copies ? nullptr : const_cast<void*>(bytes);
  }
  bool RemoveMemory(void* bytes) override {
    const Alone alone(&sending_);
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
  // One thread at a time is in a half.
  class Alone {
   public:
    explicit Alone(std::atomic<bool>* busy) : busy_(busy) { EXPECT_FALSE(busy->exchange(true)); }
    ~Alone() { busy_->store(false); }

   private:
    std::atomic<bool>* busy_;
  };

  const std::shared_ptr<Segment> segment_;
  Facts facts_;
  std::vector<std::vector<uint8_t>> frames_;
  std::set<size_t> free_;
  std::atomic<bool> receiving_{false}, sending_{false};
};

// A machine with one port.
struct Machine {
  Machine(const std::shared_ptr<Segment>& segment, uint8_t number, size_t frames = 4096) {
    auto made = std::make_unique<DeviceForTest>(segment, number, frames);
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
