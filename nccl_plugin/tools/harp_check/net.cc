#include "nccl_plugin/tools/harp_check/net.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "nccl_plugin/tools/harp_check/board.h"

namespace taco {
namespace harp {
namespace {

// HARP_CHECK_VERBOSE=1 shows all that the plugin logs.
extern "C" void LogOfNccl(ncclDebugLogLevel level, unsigned long, const char* file, int line,
                          const char* format, ...) {
  static const bool verbose = std::getenv("HARP_CHECK_VERBOSE") != nullptr;
  if (!verbose && level != NCCL_LOG_WARN) return;
  char text[400];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  if (level == NCCL_LOG_WARN) {
    std::snprintf(CurrentBoard()->log, sizeof(CurrentBoard()->log), "%s", text);
  }
  if (verbose) std::fprintf(stderr, "  %s:%d %s\n", file == nullptr ? "" : file, line, text);
}

// A profiler that wants nothing.
extern "C" ncclResult_t ProfilerOfNccl(void** handle, int type, void*, int64_t, void*) {
  if (type == ncclProfilerNetEventStart && handle != nullptr) *handle = nullptr;
  return ncclSuccess;
}

template <int kVersion>
struct Abi;
#define HARP_CHECK_ABI(v)                          \
  template <>                                      \
  struct Abi<v> {                                  \
    using Table = ncclNet_v##v##_t;                \
    using Properties = ncclNetProperties_v##v##_t; \
  };
HARP_CHECK_ABI(6)
HARP_CHECK_ABI(7)
HARP_CHECK_ABI(8)
HARP_CHECK_ABI(9)
HARP_CHECK_ABI(10)
HARP_CHECK_ABI(11)
HARP_CHECK_ABI(12)
#undef HARP_CHECK_ABI

template <int kV>
class VersionedNet final : public Net {
 public:
  using Table = typename Abi<kV>::Table;
  using Size = std::conditional_t<(kV >= 9), size_t, int>;          // of messages
  using RegisterSize = std::conditional_t<(kV >= 8), size_t, int>;  // of regMr

  explicit VersionedNet(const Table* table) : table_(*table) {}

  int version() const override { return kV; }
  const char* name() const override { return table_.name; }
  std::unique_ptr<Net> Another() const override { return std::make_unique<VersionedNet>(&table_); }

  std::vector<std::string> Missing() const override {
    std::vector<std::string> missing;
    const auto look = [&](const char* name, auto* function) {
      if (function == nullptr) missing.push_back(name);
    };
    look("init", table_.init);
    look("devices", table_.devices);
    look("getProperties", table_.getProperties);
    look("listen", table_.listen);
    look("connect", table_.connect);
    look("accept", table_.accept);
    look("regMr", table_.regMr);
    look("regMrDmaBuf", table_.regMrDmaBuf);
    look("deregMr", table_.deregMr);
    look("isend", table_.isend);
    look("irecv", table_.irecv);
    look("iflush", table_.iflush);
    look("test", table_.test);
    look("closeSend", table_.closeSend);
    look("closeRecv", table_.closeRecv);
    look("closeListen", table_.closeListen);
    if constexpr (kV >= 7) {
      look("getDeviceMr", table_.getDeviceMr);
      look("irecvConsumed", table_.irecvConsumed);
    }
    if constexpr (kV >= 9) look("makeVDevice", table_.makeVDevice);
    if constexpr (kV >= 11) {
      look("finalize", table_.finalize);
      look("setNetAttr", table_.setNetAttr);
    }
    return missing;
  }

  ncclResult_t Init() override {
    ScopedCall call("init");
    if constexpr (kV >= 11) {
      static std::atomic<uint64_t> next{1};
      ncclNetCommConfig_v11_t config = {NCCL_NET_TRAFFIC_CLASS_UNDEF};
      return table_.init(&context_, next++, &config, LogOfNccl, ProfilerOfNccl);
    } else if constexpr (kV == 10) {
      return table_.init(LogOfNccl, ProfilerOfNccl);
    } else {
      return table_.init(LogOfNccl);
    }
  }

  ncclResult_t Finalize() override {
    ScopedCall call("finalize");
    if constexpr (kV >= 11) return table_.finalize(context_);
    return ncclSuccess;
  }

  ncclResult_t Devices(int* count) override {
    ScopedCall call("devices");
    return table_.devices(count);
  }

  ncclResult_t GetProperties(int dev, Properties* out) override {
    ScopedCall call("getProperties");
    typename Abi<kV>::Properties in;
    std::memset(static_cast<void*>(&in), kUnset, sizeof(in));
    if (ncclResult_t result = table_.getProperties(dev, &in); result != ncclSuccess) return result;
    *out = Properties();
    out->name = in.name;
    out->pci_path = in.pciPath;
    out->ptr_support = in.ptrSupport;
    out->speed = in.speed;
    out->port = in.port;
    out->latency = in.latency;
    out->max_comms = in.maxComms;
    out->max_recvs = in.maxRecvs;
    if constexpr (kV >= 7) {
      out->device_type = static_cast<int>(in.netDeviceType);
      out->device_version = in.netDeviceVersion;
    }
    if constexpr (kV >= 8) out->reg_is_global = in.regIsGlobal;
    if constexpr (kV >= 9) {
      out->force_flush = in.forceFlush;
      out->part_count = in.vProps.ndevs;
      const int most = static_cast<int>(std::size(in.vProps.devs));
      const int parts = std::clamp(in.vProps.ndevs, 0, most);
      out->parts.assign(in.vProps.devs, in.vProps.devs + parts);
      out->max_p2p_bytes = in.maxP2pBytes;
      out->max_coll_bytes = in.maxCollBytes;
    }
    if constexpr (kV >= 11) out->max_multi_request_size = in.maxMultiRequestSize;
    if constexpr (kV >= 12) {
      out->rail = in.railId;
      out->plane = in.planeId;
    }
    return ncclSuccess;
  }

  ncclResult_t MakeVDevice(int dev, int* made) override {
    ScopedCall call("makeVDevice");
    if constexpr (kV >= 9) {
      std::remove_reference_t<decltype(Abi<kV>::Properties::vProps)> parts = {};
      parts.ndevs = 1;
      parts.devs[0] = dev;
      return table_.makeVDevice(made, &parts);
    }
    (void)dev;
    (void)made;
    return ncclInvalidUsage;
  }

  ncclResult_t Listen(int dev, void* handle, void** comm) override {
    ScopedCall call("listen");
    if constexpr (kV >= 11) return table_.listen(context_, dev, handle, comm);
    if constexpr (kV < 11) return table_.listen(dev, handle, comm);
  }

  ncclResult_t Connect(int dev, void* handle, void** comm) override {
    ScopedCall call("connect");
    if constexpr (kV == 6) {
      return table_.connect(dev, handle, comm);
    } else {
      ncclNetDeviceHandle_v7_t* device = nullptr;
      if constexpr (kV >= 11) {
        return table_.connect(context_, dev, handle, comm, &device);
      } else if constexpr (kV == 10) {
        ncclNetCommConfig_v10_t config = {NCCL_NET_TRAFFIC_CLASS_UNDEF};
        return table_.connect(dev, &config, handle, comm, &device);
      } else {
        return table_.connect(dev, handle, comm, &device);
      }
    }
  }

  ncclResult_t Accept(void* listen, void** comm) override {
    ScopedCall call("accept");
    if constexpr (kV == 6) {
      return table_.accept(listen, comm);
    } else {
      ncclNetDeviceHandle_v7_t* device = nullptr;
      return table_.accept(listen, comm, &device);
    }
  }

  ncclResult_t RegMr(void* comm, void* data, size_t size, void** mhandle) override {
    ScopedCall call("regMr");
    return table_.regMr(comm, data, static_cast<RegisterSize>(size), NCCL_PTR_HOST, mhandle);
  }

  ncclResult_t DeregMr(void* comm, void* mhandle) override {
    ScopedCall call("deregMr");
    return table_.deregMr(comm, mhandle);
  }

  ncclResult_t Isend(void* comm, void* data, size_t size, int tag, void* mhandle,
                     void** request) override {
    ScopedCall call("isend");
    if constexpr (kV >= 10) {
      return table_.isend(comm, data, size, tag, mhandle, nullptr, request);
    } else {
      return table_.isend(comm, data, static_cast<Size>(size), tag, mhandle, request);
    }
  }

  ncclResult_t Irecv(void* comm, int n, void** data, size_t* sizes, int* tags, void** mhandles,
                     void** request) override {
    ScopedCall call("irecv");
    std::array<Size, 8> typed = {};
    for (int i = 0; i < n; ++i) typed[i] = static_cast<Size>(sizes[i]);
    if constexpr (kV >= 10) {
      std::array<void*, 8> profiler = {};
      return table_.irecv(comm, n, data, typed.data(), tags, mhandles, profiler.data(), request);
    } else {
      return table_.irecv(comm, n, data, typed.data(), tags, mhandles, request);
    }
  }

  ncclResult_t Iflush(void* comm, int n, void** data, int* sizes, void** mhandles,
                      void** request) override {
    ScopedCall call("iflush");
    return table_.iflush(comm, n, data, sizes, mhandles, request);
  }

  ncclResult_t Test(void* request, int* done, int* sizes) override {
    ScopedCall call("test");
    return table_.test(request, done, sizes);
  }

  ncclResult_t CloseSend(void* comm) override {
    ScopedCall call("closeSend");
    return table_.closeSend(comm);
  }
  ncclResult_t CloseRecv(void* comm) override {
    ScopedCall call("closeRecv");
    return table_.closeRecv(comm);
  }
  ncclResult_t CloseListen(void* comm) override {
    ScopedCall call("closeListen");
    return table_.closeListen(comm);
  }

 private:
  const Table table_;
  void* context_ = nullptr;
};

template <int kV = kNewestVersion>
std::unique_ptr<Net> AdaptFrom(int version, const void* table) {
  if (version == kV) {
    return std::make_unique<VersionedNet<kV>>(static_cast<const typename Abi<kV>::Table*>(table));
  }
  if constexpr (kV > kOldestVersion) return AdaptFrom<kV - 1>(version, table);
  return nullptr;
}

}  // namespace

std::unique_ptr<Net> Adapt(int version, const void* table) { return AdaptFrom<>(version, table); }

}  // namespace harp
}  // namespace taco
