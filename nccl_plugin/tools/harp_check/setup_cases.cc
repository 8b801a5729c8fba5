// Cases about all that comes before the first message.
#include <sched.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>

#include "nccl_plugin/tools/harp_check/board.h"
#include "nccl_plugin/tools/harp_check/case.h"

namespace taco {
namespace harp {
namespace {

constexpr int64_t kLongCallUs = 100000;
constexpr int kAttempts = 3;  // a busy machine may hold up a call or two

void Table(const Subject& subject) {
  Plugin plugin(subject.path);
  std::unique_ptr<Net> net = plugin.Find(subject.version);
  if (net == nullptr) Fail("ncclNetPlugin_v%d is not exported", subject.version);
  if (net->name() == nullptr || *net->name() == 0) Fail("its name is empty");
  // NCCL looks before it makes these calls.
  static const char* const kMayLack[] = {"regMrDmaBuf",   "getDeviceMr", "iflush",
                                         "irecvConsumed", "makeVDevice", "setNetAttr"};
  for (const std::string& call : net->Missing()) {
    if (std::find(std::begin(kMayLack), std::end(kMayLack), call) == std::end(kMayLack)) {
      Fail("%s is NULL", call.c_str());
    }
  }
}

template <class T>
void MustBeSet(const char* name, const T& value) {
  unsigned char unset[sizeof(T)];
  std::memset(unset, kUnset, sizeof(unset));
  if (std::memcmp(&value, unset, sizeof(value)) == 0)
    Fail("getProperties leaves %s as it was", name);
}

void MustBeWithin(const char* name, long long value, long long least, long long most) {
  if (value >= least && value <= most) return;
  Fail("%s is %lld; it has to be from %lld to %lld", name, value, least, most);
}

void CheckProperties(const Subject& subject) {
  Session session(subject);
  const Properties& p = session.properties();
  MustBeSet("name", p.name);
  MustBeSet("pciPath", p.pci_path);
  MustBeSet("ptrSupport", p.ptr_support);
  MustBeSet("regIsGlobal", p.reg_is_global);
  MustBeSet("forceFlush", p.force_flush);
  MustBeSet("speed", p.speed);
  MustBeSet("port", p.port);
  MustBeSet("latency", p.latency);
  MustBeSet("maxComms", p.max_comms);
  MustBeSet("maxRecvs", p.max_recvs);
  MustBeSet("netDeviceType", p.device_type);
  MustBeSet("netDeviceVersion", p.device_version);
  MustBeSet("vProps.ndevs", p.part_count);
  MustBeSet("maxP2pBytes", p.max_p2p_bytes);
  MustBeSet("maxCollBytes", p.max_coll_bytes);
  MustBeSet("maxMultiRequestSize", p.max_multi_request_size);
  if (p.name == nullptr || *p.name == 0) Fail("the device's name is empty");
  if (p.pci_path != nullptr && *p.pci_path != '/') Fail("pciPath is no path: %s", p.pci_path);
  if ((p.ptr_support & NCCL_PTR_HOST) == 0) Fail("ptrSupport lacks NCCL_PTR_HOST");
  MustBeWithin("speed", p.speed, 1, 1 << 30);
  MustBeWithin("maxComms", p.max_comms, 1, 1 << 30);
  MustBeWithin("maxRecvs", p.max_recvs, 1, 8);
  if (!(p.latency >= 0)) Fail("latency is %f", static_cast<double>(p.latency));
  MustBeWithin("netDeviceType", p.device_type, NCCL_NET_DEVICE_HOST, NCCL_NET_DEVICE_GIN_GDAKI);
  MustBeWithin("maxP2pBytes", static_cast<long long>(p.max_p2p_bytes), 1, NCCL_MAX_NET_SIZE_BYTES);
  MustBeWithin("maxCollBytes", static_cast<long long>(p.max_coll_bytes), 1,
               NCCL_MAX_NET_SIZE_BYTES);
  MustBeWithin("maxMultiRequestSize", p.max_multi_request_size, 1, 1 << 20);
  if (subject.version >= 9) {
    MustBeWithin(
        "vProps.ndevs", p.part_count, 1,
        subject.version >= 12 ? NCCL_NET_MAX_DEVS_PER_NIC_V12 : NCCL_NET_MAX_DEVS_PER_NIC_V11);
    for (int part : p.parts) MustBeWithin("a device of vProps", part, 0, session.count() - 1);
  }
  Properties again;
  Expect(session.net()->GetProperties(subject.dev, &again), "getProperties, called again,");
  if (again.speed != p.speed || again.max_recvs != p.max_recvs ||
      std::strcmp(again.name, p.name) != 0) {
    Fail("getProperties says something else when called again");
  }
  session.End();
}

void NoSuchDevice(const Subject& subject) {
  Session session(subject);
  for (int dev : {session.count(), -1, 1 << 30}) {
    Properties properties;
    if (session.net()->GetProperties(dev, &properties) == ncclSuccess) {
      Fail("getProperties(%d) succeeds, and devices gave %d", dev, session.count());
    }
  }
  session.End();
}

void VirtualDevice(const Subject& subject) {
  if (subject.version < 9) Skip("makeVDevice came with v9");
  Session session(subject);
  for (const std::string& call : session.net()->Missing()) {
    if (call == "makeVDevice") Skip("it has no makeVDevice");
  }
  int made = -1;
  if (session.net()->MakeVDevice(subject.dev, &made) == ncclSuccess) {
    Properties properties;
    Expect(session.net()->GetProperties(made, &properties), "getProperties of the virtual device");
    if (properties.part_count != 1 || properties.parts[0] != subject.dev) {
      Fail("the virtual device %d is not made of device %d alone", made, subject.dev);
    }
  }
  session.End();
}

void Handle(const Subject& subject) {
  Session session(subject);
  constexpr size_t kCanaryBytes = 256;
  std::array<unsigned char, NCCL_NET_HANDLE_MAXSIZE + kCanaryBytes> memory;
  memory.fill(kUnset);
  void* listen = nullptr;
  Expect(session.net()->Listen(subject.dev, memory.data(), &listen), "listen");
  if (listen == nullptr) Fail("listen gave NULL");
  for (size_t i = NCCL_NET_HANDLE_MAXSIZE; i < memory.size(); ++i) {
    if (memory[i] != kUnset) Fail("listen wrote byte %zu of a handle of 128", i);
  }
  Expect(session.net()->CloseListen(listen), "closeListen");
  session.End();
}

void ListenClose(const Subject& subject) {
  Session session(subject);
  for (int i = 0; i < 10; ++i) {
    std::array<unsigned char, NCCL_NET_HANDLE_MAXSIZE> handle = {};
    void* listen = nullptr;
    void* recv = nullptr;
    Expect(session.net()->Listen(subject.dev, handle.data(), &listen), "listen");
    if (i % 2 == 1) Expect(session.net()->Accept(listen, &recv), "accept");
    if (recv != nullptr) Fail("accept gave a comm, and nobody has called connect");
    Expect(session.net()->CloseListen(listen), "closeListen");
  }
  session.Run({OfSizes({1000})});
  session.End();
}

// Makes a call until it gives a comm or `end`; gives how long the longest took.
template <class Call>
int64_t Longest(int64_t end_us, void** comm, const Call& call) {
  int64_t longest = 0;
  while (*comm == nullptr && NowUs() < end_us) {
    const int64_t before = NowUs();
    call();
    longest = std::max(longest, NowUs() - before);
    sched_yield();
  }
  return longest;
}

// One side alone for a while, then the other: neither may wait inside for the other.
void ConnectOnce(Session* session, bool connect_first, int64_t* connect_us, int64_t* accept_us) {
  Net* net = session->net();
  std::array<unsigned char, NCCL_NET_HANDLE_MAXSIZE> handle = {};
  void* listen = nullptr;
  Link link;
  Expect(net->Listen(session->listens(), handle.data(), &listen), "listen");
  std::array<unsigned char, NCCL_NET_HANDLE_MAXSIZE> copy = handle;
  const auto connect = [&](int64_t us) {
    *connect_us = std::max(*connect_us, Longest(NowUs() + us, &link.send, [&] {
      Expect(net->Connect(session->dev(), copy.data(), &link.send), "connect");
    }));
  };
  const auto accept = [&](int64_t us) {
    *accept_us = std::max(*accept_us, Longest(NowUs() + us, &link.recv, [&] {
      Expect(net->Accept(listen, &link.recv), "accept");
    }));
  };
  if (connect_first) connect(60000);
  accept(60000);
  if (!connect_first && link.recv != nullptr) Fail("accept gave a comm before connect was called");
  while (link.send == nullptr || link.recv == nullptr) {
    connect(1000);
    accept(1000);
  }
  Expect(net->CloseListen(listen), "closeListen");
  Transfer(net, net, link, OfSizes({1000}));
  Close(net, net, link);
}

void ConnectDoesNotBlock(const Subject& subject) {
  Session session(subject);
  int64_t connect = 0, accept = 0;
  for (int i = 0; i < kAttempts; ++i) {
    connect = accept = 0;
    ConnectOnce(&session, true, &connect, &accept);
    ConnectOnce(&session, false, &connect, &accept);
    if (connect < kLongCallUs && accept < kLongCallUs) return session.End();
  }
  Fail("calls block: a connect took %lld ms, an accept %lld; 100 are too many",
       static_cast<long long>(connect / 1000), static_cast<long long>(accept / 1000));
}

void InitAgain(const Subject& subject) {
  Session session(subject);
  if (subject.version < 11) {  // NCCL calls init once and the others as often as it likes
    for (int i = 0; i < 3; ++i) {
      int count = 0;
      Expect(session.net()->Devices(&count), "devices");
      if (count != session.count()) Fail("devices gave %d, then %d", session.count(), count);
    }
    session.Run({OfSizes({1000})});
    return session.End();
  }
  std::vector<std::unique_ptr<Net>> nets;
  for (int i = 0; i < 3; ++i) {
    nets.push_back(session.net()->Another());
    Expect(nets.back()->Init(), "init of another communicator");
  }
  const Link link = Connect(nets[1].get(), nets[2].get(), subject.dev, subject.listens());
  Expect(nets[0]->Finalize(), "finalize");
  Transfer(nets[1].get(), nets[2].get(), link, OfSizes({1000, 100000}));
  Close(nets[1].get(), nets[2].get(), link);
  Expect(nets[1]->Finalize(), "finalize");
  Expect(nets[2]->Finalize(), "finalize");
  session.Run({OfSizes({1000})});
  session.End();
  Session last(subject);
  last.Run({OfSizes({1000})});
  last.End();
}

}  // namespace

std::vector<Case> SetupCases() {
  return {
      {"table", "the table has a name, and no call is NULL that NCCL makes unseen", Table},
      {"properties", "every field of getProperties is written and sane", CheckProperties},
      {"no-such-device", "getProperties of a device that is not there is an error", NoSuchDevice},
      {"virtual-device", "makeVDevice, where it is there", VirtualDevice},
      {"handle", "listen writes no more than 128 bytes", Handle},
      {"listen-close", "listening ends without a connection", ListenClose},
      {"connect", "connect and accept take under 100 ms each, whoever comes first",
       ConnectDoesNotBlock},
      {"init-again", "from v11 on several communicators, each ended by itself", InitAgain},
  };
}

}  // namespace harp
}  // namespace taco
