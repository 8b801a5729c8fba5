// What harp-check does not see of the adapters: the profiler's events, and arguments that make no
// sense.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "nccl_plugin/abi/net.h"
#include "nccl_plugin/abi/profile.h"

namespace taco {
namespace harp {

extern "C" {
extern const ncclNet_v6_t ncclNetPlugin_v6;
extern const ncclNet_v12_t ncclNetPlugin_v12;
}

namespace {

std::string* logged = new std::string;

void Log(ncclDebugLogLevel, unsigned long, const char*, int, const char* format, ...) {
  char text[2000];
  va_list list;
  va_start(list, format);
  std::vsnprintf(text, sizeof(text), format, list);
  va_end(list);
  *logged += std::string(text) + "\n";
}

struct Seen {
  std::map<long, std::string> begun;  // by number: what was said
  std::vector<long> ended;
};
Seen* seen = new Seen;

ncclResult_t Profile(void** event, int type, void* parent, int64_t plugin, void* data) {
  if (type == ncclProfilerNetEventStart) {
    const auto* socket = static_cast<const ProfiledSocket*>(data);
    const long number = static_cast<long>(seen->begun.size()) + 1;
    seen->begun[number] = std::string(static_cast<const char*>(parent)) + " " +
                          std::to_string(plugin) + " " + std::to_string(socket->sock.op) + " " +
                          std::to_string(socket->sock.length);
    *event = reinterpret_cast<void*>(number);
  } else {
    EXPECT_EQ(type, ncclProfilerNetEventStop);
    seen->ended.push_back(reinterpret_cast<long>(*event));
  }
  return ncclSuccess;
}

const ncclNet_v12_t& Started() {
  static const ncclNet_v12_t* net = [] {
    setenv("HARP_IFACE", "=lo", 1);
    void* context = nullptr;
    ncclNetCommConfig_v12_t config = {NCCL_NET_TRAFFIC_CLASS_UNDEF};
    EXPECT_EQ(ncclNetPlugin_v12.init(&context, 1, &config, Log, Profile), ncclSuccess);
    return &ncclNetPlugin_v12;
  }();
  return *net;
}

struct Pair {
  Pair() {
    char handle[NCCL_NET_HANDLE_MAXSIZE] = {};
    void* listener = nullptr;
    EXPECT_EQ(Started().listen(nullptr, 0, handle, &listener), ncclSuccess);
    ncclNetDeviceHandle_v12_t* device = nullptr;
    for (int turn = 0; turn < 1'000'000 && (send == nullptr || receive == nullptr); ++turn) {
      if (send == nullptr) Started().connect(nullptr, 0, handle, &send, &device);
      if (receive == nullptr) Started().accept(listener, &receive, &device);
    }
    EXPECT_NE(send, nullptr);
    EXPECT_NE(receive, nullptr);
    Started().closeListen(listener);
  }
  ~Pair() {
    Started().closeSend(send);
    Started().closeRecv(receive);
  }
  void* send = nullptr;
  void* receive = nullptr;
};

TEST(Plugin, TheProfilerIsToldOfEachMessage) {
  Pair pair;
  *seen = Seen();
  char sender[] = "step 7", first[] = "step 8", second[] = "step 9";
  std::vector<char> out(300, 'x'), in_one(500), in_two(500);
  void* data[] = {in_one.data(), in_two.data()};
  size_t sizes[] = {500, 500};
  int tags[] = {1, 2};
  void* handles[] = {pair.receive, pair.receive};
  void* parents[] = {first, second};
  void* receive = nullptr;
  // No request: not yet.
  for (int turn = 0; turn < 1'000'000 && receive == nullptr; ++turn) {
    ASSERT_EQ(Started().irecv(pair.receive, 2, data, sizes, tags, handles, parents, &receive),
              ncclSuccess);
  }
  ASSERT_NE(receive, nullptr);
  void* sends[2] = {};
  for (int index = 0; index < 2; ++index) {
    void* parent = index == 0 ? sender : nullptr;  // nobody listens to the second
    for (int turn = 0; turn < 1'000'000 && sends[index] == nullptr; ++turn) {
      ASSERT_EQ(Started().isend(pair.send, out.data(), 300, tags[index], pair.send, parent,
                                &sends[index]),
                ncclSuccess);
    }
    ASSERT_NE(sends[index], nullptr);
  }
  int done[3] = {}, true_sizes[2];
  for (int turn = 0; turn < 1'000'000 && done[0] + done[1] + done[2] < 3; ++turn) {
    if (done[0] == 0) Started().test(sends[0], &done[0], nullptr);
    if (done[1] == 0) Started().test(sends[1], &done[1], nullptr);
    if (done[2] == 0) Started().test(receive, &done[2], true_sizes);
  }
  ASSERT_EQ(done[0] + done[1] + done[2], 3);
  EXPECT_EQ(seen->begun, (std::map<long, std::string>{{1, "step 8 131073 1 500"},
                                                      {2, "step 9 131073 1 500"},
                                                      {3, "step 7 131073 0 300"}}));
  std::sort(seen->ended.begin(), seen->ended.end());
  EXPECT_EQ(seen->ended, (std::vector<long>{1, 2, 3}));
}

TEST(Plugin, ArgumentsThatMakeNoSenseAreNamed) {
  Started();
  ncclNetProperties_v12_t properties;
  logged->clear();
  EXPECT_EQ(Started().getProperties(7, &properties), ncclInvalidArgument);
  EXPECT_NE(logged->find("has 1 devices, and was asked for number 7"), std::string::npos);
  Pair pair;
  void* request = nullptr;
  void* data[9] = {};
  int sizes[9] = {-1}, tags[9] = {};
  EXPECT_EQ(ncclNetPlugin_v6.irecv(pair.receive, 9, data, sizes, tags, data, &request),
            ncclInvalidArgument);
  EXPECT_EQ(ncclNetPlugin_v6.irecv(pair.receive, 1, data, sizes, tags, data, &request),
            ncclInvalidArgument);
  EXPECT_EQ(ncclNetPlugin_v6.isend(pair.send, data, -1, 0, nullptr, &request), ncclInvalidArgument);
  void* handle = nullptr;
  EXPECT_EQ(Started().regMr(pair.send, data, 8, NCCL_PTR_CUDA, &handle), ncclInvalidArgument);
  EXPECT_NE(logged->find("was given type 2"), std::string::npos);
}

}  // namespace
}  // namespace harp
}  // namespace taco
