// A NCCL net plugin that is simple and right, in versions 6 to 12: what harp-check is tested with.
// REFERENCE_FAULT=NAME makes it wrong in one way (fault.h).
#include <signal.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "nccl_plugin/abi/net.h"
#include "nccl_plugin/tools/harp_check/testing/fault.h"
#include "nccl_plugin/tools/harp_check/testing/tcp_comm.h"

namespace taco {
namespace harp {
namespace reference {
namespace {

int DeviceCount() {
  const char* count = std::getenv("REFERENCE_DEVICES");
  return count == nullptr ? 1 : std::atoi(count);
}

char g_device_name[] = "reference0";
volatile int g_counter = 0;

ncclResult_t Begin() {
  if (Fault("init-fails")) return ncclSystemError;
  if (Fault("no-join")) {  // a thread that outlives the code it runs
    std::thread([] {
      for (;;) {
        g_counter = g_counter + 1;
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      }
    }).detach();
  }
  return ncclSuccess;
}

ncclResult_t Init(ncclDebugLogger_t) { return Begin(); }
ncclResult_t InitV10(ncclDebugLogger_t, ncclProfilerCallback_t) { return Begin(); }
ncclResult_t InitV11(void** ctx, uint64_t, ncclNetCommConfig_v11_t*, ncclDebugLogger_t,
                     ncclProfilerCallback_t) {
  *ctx = new int(0);
  return Begin();
}
ncclResult_t Finalize(void* ctx) {
  delete static_cast<int*>(ctx);
  return ncclSuccess;
}
ncclResult_t SetNetAttr(void*, ncclNetAttr_v11_t*) { return ncclSuccess; }

ncclResult_t Devices(int* count) {
  *count = DeviceCount();
  return ncclSuccess;
}

template <class P>
ncclResult_t Common(int dev, P* p) {
  if ((dev < 0 || dev >= DeviceCount()) && !Fault("any-device")) return ncclInvalidArgument;
  p->name = g_device_name;
  p->pciPath = nullptr;
  p->guid = 1;
  p->ptrSupport = NCCL_PTR_HOST | NCCL_PTR_CUDA;  // so that iflush is called
  p->speed = Fault("no-speed") ? 0 : 10000;
  p->port = 1;
  p->latency = 10;
  p->maxComms = 65536;
  if (!Fault("unset")) p->maxRecvs = kMaxRecvs;
  return ncclSuccess;
}

template <class P>
ncclResult_t CommonV7(int dev, P* p) {
  p->netDeviceType = NCCL_NET_DEVICE_HOST;
  p->netDeviceVersion = NCCL_NET_DEVICE_INVALID_VERSION;
  return Common(dev, p);
}

template <class P>
ncclResult_t CommonV8(int dev, P* p) {
  p->regIsGlobal = 0;
  return CommonV7(dev, p);
}

template <class P>
ncclResult_t CommonV9(int dev, P* p) {
  p->forceFlush = 0;
  p->vProps.ndevs = 1;
  p->vProps.devs[0] = dev;
  p->maxP2pBytes = size_t{1} << 31;
  p->maxCollBytes = size_t{1} << 31;
  return CommonV8(dev, p);
}

ncclResult_t PropertiesV11(int dev, ncclNetProperties_v11_t* p) {
  p->maxMultiRequestSize = 1;
  return CommonV9(dev, p);
}

ncclResult_t PropertiesV12(int dev, ncclNetProperties_v12_t* p) {
  p->maxMultiRequestSize = 1;
  p->railId = NCCL_NET_ID_UNDEF;
  p->planeId = NCCL_NET_ID_UNDEF;
  return CommonV9(dev, p);
}

ncclResult_t ListenV6(int, void* handle, void** comm) { return Listen(handle, comm); }
ncclResult_t ListenV11(void*, int, void* handle, void** comm) { return Listen(handle, comm); }

ncclResult_t ConnectV6(int, void* handle, void** comm) { return Connect(handle, comm); }
ncclResult_t ConnectV7(int, void* handle, void** comm, ncclNetDeviceHandle_v7_t**) {
  return Connect(handle, comm);
}
ncclResult_t ConnectV10(int, ncclNetCommConfig_v10_t*, void* handle, void** comm,
                        ncclNetDeviceHandle_v10_t**) {
  return Connect(handle, comm);
}
ncclResult_t ConnectV11(void*, int, void* handle, void** comm, ncclNetDeviceHandle_v11_t**) {
  return Connect(handle, comm);
}
ncclResult_t AcceptV7(void* listener, void** comm, ncclNetDeviceHandle_v7_t**) {
  return Accept(listener, comm);
}

template <class Size>
ncclResult_t RegMr(void*, void*, Size, int type, void** mhandle) {
  *mhandle = nullptr;
  return type == NCCL_PTR_HOST ? ncclSuccess : ncclInvalidArgument;
}
ncclResult_t DeregMr(void*, void*) { return ncclSuccess; }

template <class Size>
ncclResult_t Isend(void* comm, void* data, Size size, int tag, void*, void** request) {
  *request = nullptr;
  if (Shy()) return static_cast<Comm*>(comm)->Progress();
  const auto bytes = static_cast<size_t>(size);
  const Part part = {static_cast<char*>(data), bytes, tag, bytes, true};
  *request = static_cast<Comm*>(comm)->Post(1, &part);
  return static_cast<Comm*>(comm)->Progress();
}
ncclResult_t IsendV10(void* comm, void* data, size_t size, int tag, void* mhandle, void*,
                      void** request) {
  return Isend(comm, data, size, tag, mhandle, request);
}

template <class Size>
ncclResult_t Irecv(void* comm, int n, void** data, Size* sizes, int* tags, void**, void** request) {
  if (n < 1 || n > kMaxRecvs) return ncclInvalidArgument;
  std::array<Part, kMaxRecvs> parts;
  for (int i = 0; i < n; ++i) {
    parts[static_cast<size_t>(i)] = {static_cast<char*>(data[i]), static_cast<size_t>(sizes[i]),
                                     tags[i], 0, false};
  }
  if (Shy()) {
    *request = nullptr;
    return ncclSuccess;
  }
  if (Fault("optional") && *request != nullptr) return ncclSuccess;
  *request = static_cast<Comm*>(comm)->Post(n, parts.data());
  return ncclSuccess;
}
ncclResult_t IrecvV10(void* comm, int n, void** data, size_t* sizes, int* tags, void** mhandles,
                      void**, void** request) {
  return Irecv(comm, n, data, sizes, tags, mhandles, request);
}

ncclResult_t Iflush(void*, int, void**, int*, void**, void** request) {
  *request = nullptr;
  return Fault("flush") ? ncclInternalError : ncclSuccess;
}

ncclResult_t Test(void* opaque, int* done, int* sizes) {
  Request* request = static_cast<Request*>(opaque);
  *done = 0;
  const ncclResult_t result = request->comm->Progress();
  if (Fault("never-done") && request->n == 1 && request->parts[0].size == 0) return result;
  const bool early = (Fault("early-done") && request->comm->Begun(request)) ||
                     (Fault("done-unsent") && request->comm->sends());
  if (early && !request->told && !request->done) {
    request->told = true;
  } else if (!request->done) {
    return result;  // what has ended well stays so
  }
  if (sizes != nullptr || Fault("null-sizes")) {
    for (int i = 0; i < request->n; ++i) sizes[i] = static_cast<int>(request->parts[i].size);
  }
  request->used = request->told;
  *done = 1;
  return ncclSuccess;
}

ncclResult_t CloseComm(void* comm) {
  delete static_cast<Comm*>(comm);
  return ncclSuccess;
}

ncclResult_t MakeVDeviceV9(int* made, ncclNetVDeviceProps_v9_t* props) {
  if (props->ndevs != 1 || props->devs[0] >= DeviceCount()) return ncclInvalidUsage;
  *made = props->devs[0];
  return ncclSuccess;
}
ncclResult_t MakeVDeviceV12(int* made, ncclNetVDeviceProps_v12_t* props) {
  if (props->ndevs != 1 || props->devs[0] >= DeviceCount()) return ncclInvalidUsage;
  *made = props->devs[0];
  return ncclSuccess;
}

}  // namespace

extern "C" {

extern const ncclNet_v6_t ncclNetPlugin_v6;
extern const ncclNet_v7_t ncclNetPlugin_v7;
extern const ncclNet_v8_t ncclNetPlugin_v8;
extern const ncclNet_v9_t ncclNetPlugin_v9;
extern const ncclNet_v10_t ncclNetPlugin_v10;
extern const ncclNet_v11_t ncclNetPlugin_v11;
extern const ncclNet_v12_t ncclNetPlugin_v12;

const ncclNet_v6_t ncclNetPlugin_v6 = {
    "reference", Init,      Devices,    Common<ncclNetProperties_v6_t>,
    ListenV6,    ConnectV6, Accept,     RegMr<int>,
    nullptr,     DeregMr,   Isend<int>, Irecv<int>,
    Iflush,      Test,      CloseComm,  CloseComm,
    CloseListen,
};
const ncclNet_v7_t ncclNetPlugin_v7 = {
    "reference", Init,      Devices,    CommonV7<ncclNetProperties_v7_t>,
    ListenV6,    ConnectV7, AcceptV7,   RegMr<int>,
    nullptr,     DeregMr,   Isend<int>, Irecv<int>,
    Iflush,      Test,      CloseComm,  CloseComm,
    CloseListen, nullptr,   nullptr,
};
const ncclNet_v8_t ncclNetPlugin_v8 = {
    "reference", Init,      Devices,    CommonV8<ncclNetProperties_v8_t>,
    ListenV6,    ConnectV7, AcceptV7,   RegMr<size_t>,
    nullptr,     DeregMr,   Isend<int>, Irecv<int>,
    Iflush,      Test,      CloseComm,  CloseComm,
    CloseListen, nullptr,   nullptr,
};
const ncclNet_v9_t ncclNetPlugin_v9 = {
    "reference", Init,      Devices,       CommonV9<ncclNetProperties_v9_t>,
    ListenV6,    ConnectV7, AcceptV7,      RegMr<size_t>,
    nullptr,     DeregMr,   Isend<size_t>, Irecv<size_t>,
    Iflush,      Test,      CloseComm,     CloseComm,
    CloseListen, nullptr,   nullptr,       MakeVDeviceV9,
};
const ncclNet_v10_t ncclNetPlugin_v10 = {
    "reference", InitV10,    Devices,   CommonV9<ncclNetProperties_v10_t>,
    ListenV6,    ConnectV10, AcceptV7,  RegMr<size_t>,
    nullptr,     DeregMr,    IsendV10,  IrecvV10,
    Iflush,      Test,       CloseComm, CloseComm,
    CloseListen, nullptr,    nullptr,   MakeVDeviceV9,
};
const ncclNet_v11_t ncclNetPlugin_v11 = {
    "reference", InitV11, Devices,  PropertiesV11, ListenV11, ConnectV11, AcceptV7,  RegMr<size_t>,
    nullptr,     DeregMr, IsendV10, IrecvV10,      Iflush,    Test,       CloseComm, CloseComm,
    CloseListen, nullptr, nullptr,  MakeVDeviceV9, Finalize,  SetNetAttr,
};
const ncclNet_v12_t ncclNetPlugin_v12 = {
    "reference", InitV11, Devices,  PropertiesV12,  ListenV11, ConnectV11, AcceptV7,  RegMr<size_t>,
    nullptr,     DeregMr, IsendV10, IrecvV10,       Iflush,    Test,       CloseComm, CloseComm,
    CloseListen, nullptr, nullptr,  MakeVDeviceV12, Finalize,  SetNetAttr,
};

}  // extern "C"

}  // namespace reference
}  // namespace harp
}  // namespace taco
