// With an engine: a receiving end that is closed leaves its user's buffers alone.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <vector>

#include "nccl_plugin/engine/net.h"
#include "nccl_plugin/io/clock.h"

namespace taco {
namespace harp {
namespace {

bool Within(const std::function<bool()>& holds) {
  const int64_t end = Now() + 20'000'000'000;
  while (!holds()) {
    if (Now() > end) return false;
  }
  return true;
}

TEST(EngineClose, NothingComesIntoBuffersOfAnEndThatIsClosed) {
  setenv("HARP_IFACE", "=lo", 1);
  setenv("HARP_ENGINES", "1", 1);
  Net& net = Net::Get();
  ASSERT_EQ(net.Init(nullptr), 1);
  for (int turn = 0; turn < 100; ++turn) {
    Handle handle;
    Listener* listener = net.Listen(0, &handle);
    ASSERT_NE(listener, nullptr);
    SendConnection* sender = nullptr;
    ReceiveConnection* receiver = nullptr;
    bool failed = false;
    ASSERT_TRUE(Within([&] {
      if (sender == nullptr && !failed) sender = net.Connect(0, &handle, &failed);
      if (receiver == nullptr) receiver = net.Accept(listener);
      return failed || (sender != nullptr && receiver != nullptr);
    }));
    ASSERT_FALSE(failed);
    const std::vector<uint8_t> bytes(5000, 7);
    std::vector<uint8_t> into(bytes.size(), 1);
    ASSERT_NE(sender->Send(bytes.data(), bytes.size(), 0), nullptr);
    // Closed at once: the engine may not have seen the buffer yet.
    const Receiver::Buffer buffer{into.data(), into.size(), 0};
    ASSERT_NE(receiver->Post(&buffer, 1), nullptr);
    net.Close(receiver);
    std::vector<uint8_t> as_it_was = into;
    usleep(turn < 10 ? 40'000 : 0);  // longer than the helper's look
    EXPECT_EQ(into, as_it_was);
    net.Close(sender);
    net.Close(listener);
  }
  net.Finalize();
}

}  // namespace
}  // namespace harp
}  // namespace taco
