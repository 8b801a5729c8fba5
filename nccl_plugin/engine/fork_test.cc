// A process that uses HARP forks: the child may use it too, and the parent's connections live on.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <thread>
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

struct Pair {
  SendConnection* sender = nullptr;
  ReceiveConnection* receiver = nullptr;
};

bool Connect(Pair* pair) {
  Net& net = Net::Get();
  Handle handle;
  Listener* listener = net.Listen(0, &handle);
  if (listener == nullptr) return false;
  bool failed = false;
  const bool met = Within([&] {
    if (pair->sender == nullptr && !failed) pair->sender = net.Connect(0, &handle, &failed);
    if (pair->receiver == nullptr) pair->receiver = net.Accept(listener);
    return failed || (pair->sender != nullptr && pair->receiver != nullptr);
  });
  net.Close(listener);
  return met && !failed;
}

bool Transfer(const Pair& pair, uint8_t value) {
  const std::vector<uint8_t> out(100'000, value);
  std::vector<uint8_t> in(out.size());
  const Receiver::Buffer buffer{in.data(), in.size(), 0};
  Request *receive = nullptr, *send = nullptr;
  uint64_t size;
  bool received = false, sent = false;
  return Within([&] {
           if (receive == nullptr) receive = pair.receiver->Post(&buffer, 1);
           if (send == nullptr) send = pair.sender->Send(out.data(), out.size(), 0);
           if (receive == nullptr || send == nullptr) return false;
           received = received || pair.receiver->Test(receive, &size);
           sent = sent || pair.sender->Test(send, &size);
           return received && sent;
         }) &&
         in == out;
}

void Close(const Pair& pair) {
  Net::Get().Close(pair.sender);
  Net::Get().Close(pair.receiver);
}

// What a child does: 0 is well.
int UseIt() {
  if (Net::Get().Init(nullptr) != 1) return 1;
  // Often enough for what the parent's thread has left in locks and conditions to be met.
  for (int turn = 0; turn < 30; ++turn) {
    Pair pair;
    if (!Connect(&pair)) return 2;
    if (!Transfer(pair, static_cast<uint8_t>(turn))) return 3;
    Close(pair);
  }
  Net::Get().Finalize();
  return 0;
}

class Fork : public testing::TestWithParam<const char*> {};

TEST_P(Fork, TheChildBeginsAnewAndTheParentGoesOn) {
  setenv("HARP_IFACE", "=lo", 1);
  setenv("HARP_ENGINES", GetParam(), 1);
  setenv("HARP_DEAD_SECONDS", "2", 1);
  Net& net = Net::Get();
  ASSERT_EQ(net.Init(nullptr), 1);
  Pair mine;
  ASSERT_TRUE(Connect(&mine));
  for (int turn = 0; turn < 5; ++turn) {
    ASSERT_TRUE(Transfer(mine, 200));
    usleep(turn * 700);  // the helper's thread works, or waits
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      alarm(60);
      _exit(UseIt());
    }
    for (int message = 0; message < 20; ++message) ASSERT_TRUE(Transfer(mine, 201));
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
    ASSERT_EQ(WEXITSTATUS(status), 0);
  }
  ASSERT_TRUE(Transfer(mine, 202));
  Close(mine);
  net.Finalize();
}

TEST_P(Fork, NoMessageOfTheParentGoesToTheChild) {
  setenv("HARP_IFACE", "=lo", 1);
  setenv("HARP_ENGINES", GetParam(), 1);
  Net& net = Net::Get();
  ASSERT_EQ(net.Init(nullptr), 1);
  Pair mine;
  ASSERT_TRUE(Connect(&mine));
  // Both processes have the sockets and, in their copies, the buffers: what the child took it would
  // acknowledge, and the parent would wait for it without end.
  constexpr int kMessages = 32;
  std::array<std::array<uint8_t, 1000>, kMessages> in = {};
  std::array<Request*, kMessages> receives = {};
  for (int i = 0; i < kMessages; ++i) {
    const Receiver::Buffer buffer{in[i].data(), in[i].size(), 0};
    ASSERT_TRUE(Within([&] { return (receives[i] = mine.receiver->Post(&buffer, 1)) != nullptr; }));
  }
  std::array<int, 2> at_work;
  ASSERT_EQ(pipe(at_work.data()), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(30);
    // The child's own connection lives, and with it its helper, until it is killed.
    Pair pair;
    const bool well = Net::Get().Init(nullptr) == 1 && Connect(&pair) && Transfer(pair, 1);
    close(at_work[0]);
    if (!well || write(at_work[1], "", 1) != 1) _exit(1);
    for (;;) pause();
  }
  close(at_work[1]);
  char byte;
  EXPECT_EQ(read(at_work[0], &byte, 1), 1);
  close(at_work[0]);
  uint64_t size;
  for (int i = 0; i < kMessages; ++i) {
    const std::array<uint8_t, 1000> out = {static_cast<uint8_t>(i), 7};
    Request* send = nullptr;
    EXPECT_TRUE(Within([&] {
      if (send == nullptr) send = mine.sender->Send(out.data(), out.size(), 0);
      // Nobody polls the receiving end until then: only a helper, or an engine, sees to it.
      return send != nullptr && mine.sender->Test(send, &size);
    }));
    if (!Within([&] { return mine.receiver->Test(receives[i], &size); })) {
      ADD_FAILURE() << "message " << i << " has not come";
      break;
    }
    EXPECT_EQ(in[i], out);
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  Close(mine);
  net.Finalize();
}

TEST(ForkTwice, AChildMayFork) {
  setenv("HARP_IFACE", "=lo", 1);
  setenv("HARP_ENGINES", "0", 1);
  ASSERT_EQ(Net::Get().Init(nullptr), 1);
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    Net::Get().Init(nullptr);
    Pair pair;
    if (!Connect(&pair)) _exit(4);
    const pid_t grandchild = fork();
    if (grandchild == 0) {
      alarm(60);
      _exit(UseIt());
    }
    int status = 0;
    waitpid(grandchild, &status, 0);
    _exit(WIFEXITED(status) && Transfer(pair, 3) ? WEXITSTATUS(status) : 5);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  Net::Get().Finalize();
}

// The allocator of AddressSanitizer keeps its locks in the child as other threads held them.
#ifndef __SANITIZE_ADDRESS__
// Another thread is within Init, Finalize or a connection at the time of the fork.
TEST_P(Fork, WhateverOtherThreadsOfTheParentAreAt) {
  setenv("HARP_IFACE", "=lo", 1);
  setenv("HARP_ENGINES", GetParam(), 1);
  std::atomic<bool> stop{false};
  std::atomic<int> turns{0};
  std::thread other([&] {
    for (; !stop; ++turns) {
      Net::Get().Init(nullptr);
      Pair pair;
      EXPECT_TRUE(Connect(&pair));
      Close(pair);
      Net::Get().Finalize();
    }
  });
  for (int turn = 0; turn < 40 && !HasFailure(); ++turn) {
    usleep(turn * 37 % 1000);
    const pid_t child = fork();
    if (child == 0) {
      alarm(30);
      Pair pair;
      const bool well = Net::Get().Init(nullptr) == 1 && Connect(&pair) && Transfer(pair, 9);
      _exit(well ? 0 : 1);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  stop = true;
  other.join();
  EXPECT_GT(turns, 0);
}
#endif

INSTANTIATE_TEST_SUITE_P(Engines, Fork, testing::Values("0", "2"));

}  // namespace
}  // namespace harp
}  // namespace taco
