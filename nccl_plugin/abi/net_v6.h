// Version 6 of NCCL's net plugin interface, from NCCL 2.15: the calls and what is expected of each.
// The later headers say what their version changes.
//
// A call gives its object or request back through a pointer to it. NULL means "not yet: call again"
// of connect, accept, isend and irecv.
#ifndef NCCL_PLUGIN_ABI_NET_V6_H_
#define NCCL_PLUGIN_ABI_NET_V6_H_

#include <cstddef>
#include <cstdint>

#include "nccl_plugin/abi/nccl_types.h"

namespace taco {
namespace harp {

extern "C" {

struct ncclNetProperties_v6_t {
  char* name;      // of the device, in logs; the plugin keeps it alive
  char* pciPath;   // below /sys, so that NCCL finds the nearest GPU; NULL: a virtual NIC
  uint64_t guid;   // the same for all ports of one card
  int ptrSupport;  // NCCL_PTR_* bits
  int speed;       // Mb/s
  int port;
  float latency;  // us
  int maxComms;   // that the device can have
  int maxRecvs;   // largest n of irecv
};

struct ncclNet_v6_t {
  // What NCCL_NET is compared with, whatever the case.
  const char* name;

  // Comes first. NCCL turns to another plugin or to its own transports if this fails or there is
  // no device.
  ncclResult_t (*init)(ncclDebugLogger_t logFunction);
  ncclResult_t (*devices)(int* ndev);
  ncclResult_t (*getProperties)(int dev, ncclNetProperties_v6_t* props);

  // Writes at most NCCL_NET_HANDLE_MAXSIZE bytes to `handle`, which NCCL carries to the peer, and
  // never gives NULL.
  ncclResult_t (*listen)(int dev, void* handle, void** listenComm);

  // Must not block. A repeated call of connect comes with the same bytes at `handle`, so the state
  // of an attempt can live there.
  ncclResult_t (*connect)(int dev, void* handle, void** sendComm);
  ncclResult_t (*accept)(void* listenComm, void** recvComm);

  // For a sending or a receiving comm. `type` is one of NCCL_PTR_*.
  ncclResult_t (*regMr)(void* comm, void* data, int size, int type, void** mhandle);
  ncclResult_t (*regMrDmaBuf)(void* comm, void* data, size_t size, int type, uint64_t offset,
                              int fd, void** mhandle);
  ncclResult_t (*deregMr)(void* comm, void* mhandle);

  // A message may be empty.
  ncclResult_t (*isend)(void* sendComm, void* data, int size, int tag, void* mhandle,
                        void** request);
  // n buffers, one for each message, in the order of the sends; a tag chooses among the n alone. A
  // message may be smaller than its buffer.
  ncclResult_t (*irecv)(void* recvComm, int n, void** data, int* sizes, int* tags, void** mhandles,
                        void** request);
  // Makes bytes that were received visible to the GPU.
  ncclResult_t (*iflush)(void* recvComm, int n, void** data, int* sizes, void** mhandles,
                         void** request);
  // Once *done, the request is gone, and `sizes`, unless NULL, has the true sizes.
  ncclResult_t (*test)(void* request, int* done, int* sizes);

  ncclResult_t (*closeSend)(void* sendComm);
  ncclResult_t (*closeRecv)(void* recvComm);
  ncclResult_t (*closeListen)(void* listenComm);
};

}  // extern "C"

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ABI_NET_V6_H_
