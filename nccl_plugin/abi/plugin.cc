// The exports: one implementation, and a table of calls for each version that NCCL looks for.
//
// What the versions differ in are the types of sizes, the arguments that came with time, and the
// properties; so the calls are templates of these, and nothing else is written twice.

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <string>
#include <type_traits>
#include <vector>

#include "nccl_plugin/abi/counters.h"
#include "nccl_plugin/abi/net.h"
#include "nccl_plugin/abi/profile.h"
#include "nccl_plugin/engine/net.h"

namespace taco {
namespace harp {
namespace {

constexpr int kMaxComms = 65536;

std::atomic<ncclDebugLogger_t> ncclLog{nullptr};
std::atomic<ncclProfilerCallback_t> profiler{nullptr};

void WriteLog(LogLevel level, const char* text) {
  const ncclDebugLogger_t log = ncclLog.load();
  if (log == nullptr) return;
  const bool warn = level == LogLevel::kWarn;
  log(warn ? NCCL_LOG_WARN : NCCL_LOG_INFO, NCCL_INIT | NCCL_NET, "HARP", 0, "%s", text);
}

ncclResult_t Error(ncclResult_t result, const std::string& text) {
  Net::Get().Warn(text);
  return result;
}

ncclResult_t Broken(const Connection& connection) {
  return Error(ncclRemoteError, "HARP: " + connection.failure());
}

bool Known(int dev) { return Net::Get().Knows(dev); }

ncclResult_t NoDevice(int dev) {
  return Error(ncclInvalidArgument, "HARP has " + std::to_string(Net::Get().devices()) +
                                        " devices, and was asked for number " +
                                        std::to_string(dev));
}

// init, of each version.

ncclResult_t Begin(ncclDebugLogger_t log) {
  if (log != nullptr) ncclLog.store(log);
  // No device is no error: NCCL turns to its own transport.
  Net::Get().Init(WriteLog);
  return ncclSuccess;
}

ncclResult_t Init(ncclDebugLogger_t log) { return Begin(log); }
ncclResult_t InitWithProfiler(ncclDebugLogger_t log, ncclProfilerCallback_t callback) {
  if (callback != nullptr) profiler.store(callback);
  return Begin(log);
}
ncclResult_t InitContext(void** ctx, uint64_t, ncclNetCommConfig_v11_t*, ncclDebugLogger_t log,
                         ncclProfilerCallback_t callback) {
  if (ctx != nullptr) *ctx = &Net::Get();
  return InitWithProfiler(log, callback);
}

ncclResult_t Finalize(void*) {
  Net::Get().Finalize();
  return ncclSuccess;
}

ncclResult_t SetNetAttr(void*, ncclNetAttr_v11_t*) { return ncclSuccess; }

ncclResult_t Devices(int* count) {
  *count = Net::Get().devices();
  return ncclSuccess;
}

// getProperties: what came with a version is set where the struct has it.

template <typename T>
void SetRegIsGlobal(T* props, decltype(T::regIsGlobal)*) {
  props->regIsGlobal = 1;
}
template <typename T>
void SetRegIsGlobal(T*, ...) {}

template <typename T>
void SetDeviceType(T* props, decltype(T::netDeviceType)*) {
  props->netDeviceType = NCCL_NET_DEVICE_HOST;
  props->netDeviceVersion = NCCL_NET_DEVICE_INVALID_VERSION;
}
template <typename T>
void SetDeviceType(T*, ...) {}

template <typename T>
void SetVirtual(T* props, int dev, const std::vector<int>& parts, decltype(T::vProps)*) {
  props->forceFlush = 0;
  props->vProps.ndevs = std::max(1, static_cast<int>(parts.size()));
  props->vProps.devs[0] = dev;
  std::copy(parts.begin(), parts.end(), props->vProps.devs);
  props->maxP2pBytes = NCCL_MAX_NET_SIZE_BYTES;
  props->maxCollBytes = NCCL_MAX_NET_SIZE_BYTES;
}
template <typename T>
void SetVirtual(T*, int, const std::vector<int>&, ...) {}

template <typename T>
void SetMultiRequest(T* props, decltype(T::maxMultiRequestSize)*) {
  props->maxMultiRequestSize = 1;
}
template <typename T>
void SetMultiRequest(T*, ...) {}

template <typename T>
void SetRail(T* props, decltype(T::railId)*) {
  props->railId = NCCL_NET_ID_UNDEF;
  props->planeId = NCCL_NET_ID_UNDEF;
}
template <typename T>
void SetRail(T*, ...) {}

template <typename T>
ncclResult_t GetProperties(int dev, T* props) {
  if (!Known(dev)) return NoDevice(dev);
  const Interface& device = Net::Get().device(dev);
  *props = T();
  props->name = const_cast<char*>(device.name.c_str());
  props->pciPath = device.pci_path.empty() ? nullptr : const_cast<char*>(device.pci_path.c_str());
  props->guid = device.guid;
  props->ptrSupport = NCCL_PTR_HOST;
  props->speed = device.speed_mbps;
  props->port = 0;
  props->latency = 0;
  props->maxComms = kMaxComms;
  props->maxRecvs = Receiver::kMaxBuffers;
  SetRegIsGlobal(props, nullptr);
  SetDeviceType(props, nullptr);
  SetVirtual(props, dev, device.parts, nullptr);
  SetMultiRequest(props, nullptr);
  SetRail(props, nullptr);
  return ncclSuccess;
}

// makeVDevice: of several interfaces one, which NCCL then uses in their place.
template <typename T>
ncclResult_t MakeVDevice(int* dev, T* props) {
  std::string error;
  constexpr int kMost = sizeof(props->devs) / sizeof(props->devs[0]);
  const int count = std::clamp(props->ndevs, 0, kMost);
  *dev = Net::Get().Merge({props->devs, props->devs + count}, &error);
  return *dev < 0 ? Error(ncclInvalidArgument, "HARP: " + error) : ncclSuccess;
}

// listen, connect and accept.

ncclResult_t Listen(int dev, void* handle, void** listenComm) {
  if (!Known(dev)) return NoDevice(dev);
  *listenComm = Net::Get().Listen(dev, static_cast<Handle*>(handle));
  return *listenComm == nullptr ? ncclSystemError : ncclSuccess;
}
ncclResult_t ListenContext(void*, int dev, void* handle, void** listenComm) {
  return Listen(dev, handle, listenComm);
}

ncclResult_t Connect(int dev, void* handle, void** sendComm) {
  *sendComm = nullptr;
  if (!Known(dev)) return NoDevice(dev);
  bool failed;
  *sendComm = Net::Get().Connect(dev, static_cast<Handle*>(handle), &failed);
  return failed ? ncclRemoteError : ncclSuccess;
}
// From v7 a device handle could be given, for GPU threads; there is none.
ncclResult_t ConnectV7(int dev, void* handle, void** sendComm, ncclNetDeviceHandle_v7_t**) {
  return Connect(dev, handle, sendComm);
}
ncclResult_t ConnectV10(int dev, ncclNetCommConfig_v10_t*, void* handle, void** sendComm,
                        ncclNetDeviceHandle_v10_t**) {
  return Connect(dev, handle, sendComm);
}
ncclResult_t ConnectContext(void*, int dev, void* handle, void** sendComm,
                            ncclNetDeviceHandle_v11_t**) {
  return Connect(dev, handle, sendComm);
}

ncclResult_t Accept(void* listenComm, void** recvComm) {
  *recvComm = Net::Get().Accept(static_cast<Listener*>(listenComm));
  return ncclSuccess;
}
ncclResult_t AcceptV7(void* listenComm, void** recvComm, ncclNetDeviceHandle_v7_t**) {
  return Accept(listenComm, recvComm);
}

// Kinds of packet I/O that can send from where a message lies want to know of its memory; sockets
// of the kernel take any. A handle is never NULL.

template <typename Size>
ncclResult_t RegMr(void* comm, void* data, Size size, int type, void** mhandle) {
  if (type != NCCL_PTR_HOST) {
    return Error(ncclInvalidArgument,
                 "HARP moves host memory, as its ptrSupport says, and was "
                 "given type " +
                     std::to_string(type));
  }
  if constexpr (std::is_signed_v<Size>) {
    if (size < 0) return Error(ncclInvalidArgument, "HARP: regMr of fewer than no bytes");
  }
  auto* connection = static_cast<Connection*>(comm);
  *mhandle = Net::Get().Register(connection, data, static_cast<size_t>(size));
  return ncclSuccess;
}

ncclResult_t RegMrDmaBuf(void*, void*, size_t, int, uint64_t, int, void**) {
  return Error(ncclInvalidUsage, "HARP has no DMA-BUF support, as its ptrSupport says");
}

ncclResult_t DeregMr(void*, void* mhandle) {
  if (mhandle == nullptr) return ncclSuccess;
  const bool released = Net::Get().Deregister(static_cast<RegisteredMemory*>(mhandle));
  return released ? ncclSuccess : ncclSystemError;
}

// isend, irecv, test.

ncclResult_t Isend(void* sendComm, void* data, size_t size, int tag, void** request) {
  // The comm is a SendConnection since connect gave it.
  auto* connection = static_cast<SendConnection*>(sendComm);
  *request = connection->Send(data, size, tag);
  if (*request == nullptr && connection->state() == Connection::State::kFailed) {
    return Broken(*connection);
  }
  return ncclSuccess;
}
template <typename Size>
ncclResult_t IsendOf(void* sendComm, void* data, Size size, int tag, void*, void** request) {
  if (size < 0) return Error(ncclInvalidArgument, "HARP: isend of fewer than no bytes");
  return Isend(sendComm, data, static_cast<size_t>(size), tag, request);
}
ncclResult_t IsendV9(void* sendComm, void* data, size_t size, int tag, void*, void** request) {
  return Isend(sendComm, data, size, tag, request);
}
ncclResult_t IsendV10(void* sendComm, void* data, size_t size, int tag, void*, void* phandle,
                      void** request) {
  const ncclResult_t result = Isend(sendComm, data, size, tag, request);
  if (phandle != nullptr && *request != nullptr) {
    auto* mine = static_cast<Request*>(*request);
    const int fd = mine->connection->io().descriptor();
    mine->events[0] = BeginEvent(profiler.load(), phandle, false, fd, size);
  }
  return result;
}

template <typename Size>
ncclResult_t Irecv(void* recvComm, int n, void** data, Size* sizes, int* tags, void**,
                   void** request) {
  auto* connection = static_cast<ReceiveConnection*>(recvComm);
  // NCCL's wish to do without the completion stands here; it gets a request all the same.
  *request = nullptr;
  if (n < 1 || n > Receiver::kMaxBuffers) {
    return Error(ncclInvalidArgument, "HARP: irecv of " + std::to_string(n) +
                                          " buffers; from 1 to " +
                                          std::to_string(Receiver::kMaxBuffers) + " may be");
  }
  Receiver::Buffer buffers[Receiver::kMaxBuffers];
  for (int index = 0; index < n; ++index) {
    if constexpr (std::is_signed_v<Size>) {
      if (sizes[index] < 0) return Error(ncclInvalidArgument, "HARP: irecv of fewer than no bytes");
    }
    buffers[index] = {data[index], static_cast<uint64_t>(sizes[index]), tags[index]};
  }
  *request = connection->Post(buffers, n);
  if (*request == nullptr && connection->state() == Connection::State::kFailed) {
    return Broken(*connection);
  }
  return ncclSuccess;
}
ncclResult_t IrecvV10(void* recvComm, int n, void** data, size_t* sizes, int* tags, void** mhandles,
                      void** phandles, void** request) {
  const ncclResult_t result = Irecv(recvComm, n, data, sizes, tags, mhandles, request);
  if (phandles != nullptr && *request != nullptr) {
    auto* mine = static_cast<Request*>(*request);
    const int fd = mine->connection->io().descriptor();
    for (int index = 0; index < n; ++index) {
      mine->events[index] = BeginEvent(profiler.load(), phandles[index], true, fd, sizes[index]);
    }
  }
  return result;
}

// Host memory is there when it is there.
ncclResult_t Iflush(void*, int, void**, int*, void**, void** request) {
  *request = nullptr;
  return ncclSuccess;
}

ncclResult_t Test(void* request, int* done, int* sizes) {
  auto* mine = static_cast<Request*>(request);
  Connection* connection = mine->connection;
  const int count = mine->count;
  const auto events = mine->events;  // the request is gone once it is done
  uint64_t seen[Receiver::kMaxBuffers];
  *done = connection->Test(mine, seen) ? 1 : 0;
  if (*done == 0) {
    return connection->state() == Connection::State::kFailed ? Broken(*connection) : ncclSuccess;
  }
  for (void* event : events) EndEvent(profiler.load(), event);
  if (sizes != nullptr) {
    for (int index = 0; index < count; ++index) sizes[index] = static_cast<int>(seen[index]);
  }
  return ncclSuccess;
}

ncclResult_t CloseSend(void* comm) {
  if (comm != nullptr) Net::Get().Close(static_cast<SendConnection*>(comm));
  return ncclSuccess;
}
ncclResult_t CloseRecv(void* comm) {
  if (comm != nullptr) Net::Get().Close(static_cast<ReceiveConnection*>(comm));
  return ncclSuccess;
}
ncclResult_t CloseListen(void* comm) {
  if (comm != nullptr) Net::Get().Close(static_cast<Listener*>(comm));
  return ncclSuccess;
}

constexpr char kName[] = "HARP";

}  // namespace

extern "C" {

int taco_harp_counters(void* comm, TacoHarpCounters* counters) {
  if (comm == nullptr || counters == nullptr) return 1;
  const Connection::Costs costs = static_cast<Connection*>(comm)->costs();
  *counters = {costs.system_calls, costs.user_copied_bytes, costs.kernel_copied_bytes};
  return 0;
}

#define HARP_EXPORT __attribute__((visibility("default"))) extern const

HARP_EXPORT ncclNet_v6_t ncclNetPlugin_v6;
HARP_EXPORT ncclNet_v7_t ncclNetPlugin_v7;
HARP_EXPORT ncclNet_v8_t ncclNetPlugin_v8;
HARP_EXPORT ncclNet_v9_t ncclNetPlugin_v9;
HARP_EXPORT ncclNet_v10_t ncclNetPlugin_v10;
HARP_EXPORT ncclNet_v11_t ncclNetPlugin_v11;
HARP_EXPORT ncclNet_v12_t ncclNetPlugin_v12;

const ncclNet_v6_t ncclNetPlugin_v6 = {
    kName,  Init,       Devices,     GetProperties, Listen,       Connect,
    Accept, RegMr<int>, RegMrDmaBuf, DeregMr,       IsendOf<int>, Irecv<int>,
    Iflush, Test,       CloseSend,   CloseRecv,     CloseListen};

const ncclNet_v7_t ncclNetPlugin_v7 = {
    kName,      Init,        Devices,     GetProperties, Listen,     ConnectV7, AcceptV7,
    RegMr<int>, RegMrDmaBuf, DeregMr,     IsendOf<int>,  Irecv<int>, Iflush,    Test,
    CloseSend,  CloseRecv,   CloseListen, nullptr,       nullptr};

const ncclNet_v8_t ncclNetPlugin_v8 = {
    kName,         Init,        Devices,     GetProperties, Listen,     ConnectV7, AcceptV7,
    RegMr<size_t>, RegMrDmaBuf, DeregMr,     IsendOf<int>,  Irecv<int>, Iflush,    Test,
    CloseSend,     CloseRecv,   CloseListen, nullptr,       nullptr};

const ncclNet_v9_t ncclNetPlugin_v9 = {
    kName,     Init,          Devices,       GetProperties, Listen,
    ConnectV7, AcceptV7,      RegMr<size_t>, RegMrDmaBuf,   DeregMr,
    IsendV9,   Irecv<size_t>, Iflush,        Test,          CloseSend,
    CloseRecv, CloseListen,   nullptr,       nullptr,       MakeVDevice<ncclNetVDeviceProps_v9_t>};

const ncclNet_v10_t ncclNetPlugin_v10 = {kName,       InitWithProfiler,
                                         Devices,     GetProperties,
                                         Listen,      ConnectV10,
                                         AcceptV7,    RegMr<size_t>,
                                         RegMrDmaBuf, DeregMr,
                                         IsendV10,    IrecvV10,
                                         Iflush,      Test,
                                         CloseSend,   CloseRecv,
                                         CloseListen, nullptr,
                                         nullptr,     MakeVDevice<ncclNetVDeviceProps_v10_t>};

const ncclNet_v11_t ncclNetPlugin_v11 = {
    kName,         InitContext,    Devices,   GetProperties,
    ListenContext, ConnectContext, AcceptV7,  RegMr<size_t>,
    RegMrDmaBuf,   DeregMr,        IsendV10,  IrecvV10,
    Iflush,        Test,           CloseSend, CloseRecv,
    CloseListen,   nullptr,        nullptr,   MakeVDevice<ncclNetVDeviceProps_v11_t>,
    Finalize,      SetNetAttr};

const ncclNet_v12_t ncclNetPlugin_v12 = {
    kName,         InitContext,    Devices,   GetProperties,
    ListenContext, ConnectContext, AcceptV7,  RegMr<size_t>,
    RegMrDmaBuf,   DeregMr,        IsendV10,  IrecvV10,
    Iflush,        Test,           CloseSend, CloseRecv,
    CloseListen,   nullptr,        nullptr,   MakeVDevice<ncclNetVDeviceProps_v12_t>,
    Finalize,      SetNetAttr};

}  // extern "C"

}  // namespace harp
}  // namespace taco
