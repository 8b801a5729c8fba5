#include <dlfcn.h>

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <map>

#include "nccl_plugin/abi/counters.h"
#include "nccl_plugin/abi/net.h"
#include "nccl_plugin/tools/harp_perf/transport.h"

namespace taco {
namespace harp {
namespace {

void Log(ncclDebugLogLevel level, unsigned long, const char*, int, const char* format, ...) {
  if (level != NCCL_LOG_WARN) return;
  va_list list;
  va_start(list, format);
  std::vfprintf(stderr, format, list);
  std::fputc('\n', stderr);
  va_end(list);
}

void Check(ncclResult_t result, const char* what) {
  if (result != ncclSuccess) Die(std::string(what) + " gave result " + std::to_string(result));
}

class PluginLine : public Line {
 public:
  // `counters`: null where the plugin has none.
  PluginLine(const ncclNet_v12_t* net, TacoHarpCountersCall counters, void* comm, bool sends)
      : net_(net), counters_(counters), comm_(comm), sends_(sends) {}
  ~PluginLine() override { sends_ ? net_->closeSend(comm_) : net_->closeRecv(comm_); }

  void* Send(const void* bytes, size_t size) override {
    void* request = nullptr;
    auto* data = const_cast<void*>(bytes);
    Check(net_->isend(comm_, data, size, 0, handles_.at(bytes), nullptr, &request), "isend");
    return request;
  }
  void* Receive(void* bytes, size_t size) override {
    void* request = nullptr;
    void* handle = handles_.at(bytes);
    int tag = 0;
    Check(net_->irecv(comm_, 1, &bytes, &size, &tag, &handle, nullptr, &request), "irecv");
    return request;
  }
  bool Done(void* request) override {
    int done = 0;
    Check(net_->test(request, &done, nullptr), "test");
    return done != 0;
  }
  void Prepare(const void* bytes, size_t size) override {
    auto* data = const_cast<void*>(bytes);
    Check(net_->regMr(comm_, data, size, NCCL_PTR_HOST, &handles_[bytes]), "regMr");
  }
  void Forget() override {
    for (const auto& [bytes, handle] : handles_) Check(net_->deregMr(comm_, handle), "deregMr");
    handles_.clear();
  }
  std::optional<Costs> costs() const override {
    TacoHarpCounters seen = {};
    if (counters_ == nullptr || counters_(comm_, &seen) != 0) return std::nullopt;
    return Costs{seen.system_calls, seen.user_copied_bytes, seen.kernel_copied_bytes};
  }

 private:
  const ncclNet_v12_t* net_;
  const TacoHarpCountersCall counters_;
  void* comm_;
  const bool sends_;
  std::map<const void*, void*> handles_;
};

class PluginTransport : public Transport {
 public:
  PluginTransport(const ncclNet_v12_t* net, TacoHarpCountersCall counters,
                  const std::string& interface)
      : net_(net), counters_(counters) {
    static ncclNetCommConfig_v12_t config = {NCCL_NET_TRAFFIC_CLASS_UNDEF};
    Check(net_->init(&context_, 1, &config, Log, nullptr), "init");
    int count = 0;
    Check(net_->devices(&count), "devices");
    std::string names;
    for (int index = 0; index < count; ++index) {
      ncclNetProperties_v12_t properties;
      Check(net_->getProperties(index, &properties), "getProperties");
      if (properties.name == interface || interface.empty()) {
        device_ = index;
        return;
      }
      names += std::string(" ") + properties.name;
    }
    Die("the plugin has no device " + interface + "; it has:" + names);
  }

  ~PluginTransport() override { net_->finalize(context_); }

  std::string Listen() override {
    std::string handle(128, 0);
    Check(net_->listen(context_, device_, handle.data(), &listener_), "listen");
    return handle;
  }
  std::unique_ptr<Line> Accept() override {
    void* comm = nullptr;
    ncclNetDeviceHandle_v12_t* device = nullptr;
    while (comm == nullptr) Check(net_->accept(listener_, &comm, &device), "accept");
    net_->closeListen(listener_);
    return std::make_unique<PluginLine>(net_, counters_, comm, false);
  }
  std::unique_ptr<Line> Connect(const std::string& handle) override {
    std::string state = handle;
    void* comm = nullptr;
    ncclNetDeviceHandle_v12_t* device = nullptr;
    while (comm == nullptr) {
      Check(net_->connect(context_, device_, state.data(), &comm, &device), "connect");
    }
    return std::make_unique<PluginLine>(net_, counters_, comm, true);
  }

 private:
  const ncclNet_v12_t* net_;
  const TacoHarpCountersCall counters_;
  void* context_ = nullptr;
  void* listener_ = nullptr;
  int device_ = 0;
};

}  // namespace

std::unique_ptr<Transport> OpenPlugin(const std::string& path, const std::string& interface) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) Die(dlerror());
  const auto* net = static_cast<const ncclNet_v12_t*>(dlsym(library, "ncclNetPlugin_v12"));
  if (net == nullptr) Die(path + " has no ncclNetPlugin_v12");
  const auto counters =
      reinterpret_cast<TacoHarpCountersCall>(dlsym(library, "taco_harp_counters"));
  return std::make_unique<PluginTransport>(net, counters, interface);
}

}  // namespace harp
}  // namespace taco
