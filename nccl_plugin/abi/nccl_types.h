// What all versions of NCCL's net plugin interface share: results, logging, profiling, constants.
//
// Written from the layout that testdata/net_layout.json states, with NCCL's names: the plugin
// includes no header of NCCL, and builds where there is none. net_layout_test compares.
#ifndef NCCL_PLUGIN_ABI_NCCL_TYPES_H_
#define NCCL_PLUGIN_ABI_NCCL_TYPES_H_

#include <cstdint>

namespace taco {
namespace harp {

extern "C" {

enum ncclResult_t {
  ncclSuccess = 0,
  ncclUnhandledCudaError = 1,
  ncclSystemError = 2,
  ncclInternalError = 3,
  ncclInvalidArgument = 4,
  ncclInvalidUsage = 5,
  ncclRemoteError = 6,  // the peer, or the way to it
};

// Of NCCL_DEBUG.
enum ncclDebugLogLevel {
  NCCL_LOG_NONE = 0,
  NCCL_LOG_VERSION = 1,
  NCCL_LOG_WARN = 2,
  NCCL_LOG_INFO = 3,
  NCCL_LOG_ABORT = 4,
  NCCL_LOG_TRACE = 5,
};

// Bits, of NCCL_DEBUG_SUBSYS.
enum ncclDebugLogSubSys {
  NCCL_INIT = 1 << 0,
  NCCL_COLL = 1 << 1,
  NCCL_P2P = 1 << 2,
  NCCL_SHM = 1 << 3,
  NCCL_NET = 1 << 4,
  NCCL_GRAPH = 1 << 5,
  NCCL_TUNING = 1 << 6,
  NCCL_ENV = 1 << 7,
  NCCL_ALLOC = 1 << 8,
  NCCL_CALL = 1 << 9,
  NCCL_PROXY = 1 << 10,
  NCCL_NVLS = 1 << 11,
  NCCL_BOOTSTRAP = 1 << 12,
  NCCL_REG = 1 << 13,
  NCCL_PROFILE = 1 << 14,
  NCCL_RAS = 1 << 15,
  NCCL_DESTROY = 1 << 16,
  NCCL_ALLOC_HOST = 1 << 17,
  NCCL_ALL = ~0,
};

// NCCL's own log: `flags` are subsystems, `file` also a function's name, `format` as printf's.
typedef void (*ncclDebugLogger_t)(ncclDebugLogLevel level, unsigned long flags, const char* file,
                                  int line, const char* format, ...);

// `type` of a call of the profiler.
enum ncclProfilerNetEvent {
  ncclProfilerNetEventStart = 0,
  ncclProfilerNetEventStop = 1,
  ncclProfilerNetEventUpdate = 2,
  ncclProfilerNetEventUpdateAndStop = 3,
};

// From v10. `phandle` is what came with isend or irecv; a start writes *eHandle, which the later
// calls about the same event pass back.
typedef ncclResult_t (*ncclProfilerCallback_t)(void** eHandle, int type, void* phandle,
                                               int64_t pluginId, void* extData);

// Who moves the bytes: from v7.
enum ncclNetDeviceType {
  NCCL_NET_DEVICE_HOST = 0,    // the plugin alone
  NCCL_NET_DEVICE_UNPACK = 1,  // GPU threads gather what the plugin has received
  NCCL_NET_DEVICE_GIN_PROXY = 2,
  NCCL_NET_DEVICE_GIN_GDAKI = 3,
};

}  // extern "C"

// netDeviceVersion of the types above.
inline constexpr int NCCL_NET_DEVICE_INVALID_VERSION = 0;  // of NCCL_NET_DEVICE_HOST
inline constexpr int NCCL_NET_DEVICE_UNPACK_VERSION = 7;
inline constexpr int NCCL_NET_MTU_SIZE = 4096;

// Kinds of memory: bits of ptrSupport, and the type that regMr gets.
inline constexpr int NCCL_PTR_HOST = 1;
inline constexpr int NCCL_PTR_CUDA = 2;
inline constexpr int NCCL_PTR_DMABUF = 4;

inline constexpr int NCCL_NET_HANDLE_MAXSIZE = 128;                   // bytes that listen may write
inline constexpr int NCCL_NET_HANDLE_MAXSIZE_V4 = 64;                 // the same up to v4
inline constexpr int NCCL_NET_MAX_REQUESTS = 32;                      // under way, of one comm
inline constexpr int NCCL_NET_MAX_REQUESTS_V3 = 16;                   // the same up to v3
inline constexpr int64_t NCCL_MAX_NET_SIZE_BYTES = int64_t{1} << 40;  // bounds maxP2pBytes

// What *request may be when irecv is called, as a pointer: NCCL may do without the completion.
// irecv gives a request all the same.
inline constexpr int NCCL_NET_OPTIONAL_RECV_COMPLETION = 1;

inline constexpr int NCCL_NET_MAX_DEVS_PER_NIC_V11 = 4;  // v9 to v11
inline constexpr int NCCL_NET_MAX_DEVS_PER_NIC_V12 = 8;
inline constexpr int NCCL_NET_MAX_DEVS_PER_NIC = NCCL_NET_MAX_DEVS_PER_NIC_V12;

inline constexpr int NCCL_NET_TRAFFIC_CLASS_UNDEF = -1;  // of trafficClass
inline constexpr int NCCL_NET_ID_UNDEF = -1;             // of railId and planeId

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ABI_NCCL_TYPES_H_
