// One interface for all versions of NCCL's net plugin interface, so that a case is written once.
#ifndef NCCL_PLUGIN_TOOLS_HARP_CHECK_NET_H_
#define NCCL_PLUGIN_TOOLS_HARP_CHECK_NET_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nccl_plugin/abi/net.h"

namespace taco {
namespace harp {

inline constexpr int kOldestVersion = 6;
inline constexpr int kNewestVersion = 12;

// What getProperties is given to write to: NCCL does not clear its memory either. A field that
// still looks like this was left out.
inline constexpr unsigned char kUnset = 0xc3;

// Of all versions; what a version lacks has the value that NCCL takes for it.
struct Properties {
  const char* name;
  const char* pci_path;
  int ptr_support;
  int reg_is_global = 0;
  int force_flush = 0;
  int speed;
  int port;
  float latency;
  int max_comms;
  int max_recvs;
  int device_type = NCCL_NET_DEVICE_HOST;
  int device_version = NCCL_NET_DEVICE_INVALID_VERSION;
  std::vector<int> parts;  // of vProps; empty: the version lacks it
  int part_count = 0;      // as the plugin says
  size_t max_p2p_bytes = size_t{1} << 30;
  size_t max_coll_bytes = size_t{1} << 30;
  int max_multi_request_size = 1;
  int rail = NCCL_NET_ID_UNDEF;
  int plane = NCCL_NET_ID_UNDEF;
};

// A plugin's table of one version, with one communicator's context from v11 on. All calls go to the
// plugin as they are, from the thread that makes them.
class Net {
 public:
  virtual ~Net() = default;

  virtual int version() const = 0;
  virtual const char* name() const = 0;
  // Names of calls that are NULL in the table.
  virtual std::vector<std::string> Missing() const = 0;
  // Another communicator's, of the same table.
  virtual std::unique_ptr<Net> Another() const = 0;

  virtual ncclResult_t Init() = 0;
  virtual ncclResult_t Finalize() = 0;  // nothing before v11
  virtual ncclResult_t Devices(int* count) = 0;
  virtual ncclResult_t GetProperties(int dev, Properties* properties) = 0;
  virtual ncclResult_t MakeVDevice(int dev, int* made) = 0;  // of one device; v9 and later
  virtual ncclResult_t Listen(int dev, void* handle, void** comm) = 0;
  virtual ncclResult_t Connect(int dev, void* handle, void** comm) = 0;
  virtual ncclResult_t Accept(void* listen, void** comm) = 0;
  virtual ncclResult_t RegMr(void* comm, void* data, size_t size, void** mhandle) = 0;
  virtual ncclResult_t DeregMr(void* comm, void* mhandle) = 0;
  virtual ncclResult_t Isend(void* comm, void* data, size_t size, int tag, void* mhandle,
                             void** request) = 0;
  virtual ncclResult_t Irecv(void* comm, int n, void** data, size_t* sizes, int* tags,
                             void** mhandles, void** request) = 0;
  virtual ncclResult_t Iflush(void* comm, int n, void** data, int* sizes, void** mhandles,
                              void** request) = 0;
  virtual ncclResult_t Test(void* request, int* done, int* sizes) = 0;
  virtual ncclResult_t CloseSend(void* comm) = 0;
  virtual ncclResult_t CloseRecv(void* comm) = 0;
  virtual ncclResult_t CloseListen(void* comm) = 0;
};

// The adapter of ncclNetPlugin_v<version>, a table of that version.
std::unique_ptr<Net> Adapt(int version, const void* table);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_CHECK_NET_H_
