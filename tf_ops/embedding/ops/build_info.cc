#include "tf_ops/embedding/ops/build_info.h"

#include <dlfcn.h>

namespace taco {
namespace ops {

std::string TensorFlowRunning() {
  // TF_Version is part of TensorFlow's stable C API. Python loads the library that has it without
  // making its symbols global, so it is asked for by name; RTLD_NOLOAD: only if it is there.
  for (const char* library : {"libtensorflow_cc.so.2", "libtensorflow.so.2"}) {
    void* handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
    if (handle == nullptr) continue;
    const auto version = reinterpret_cast<const char* (*)()>(dlsym(handle, "TF_Version"));
    const std::string running = version != nullptr ? version() : "";
    dlclose(handle);
    if (!running.empty()) return running;
  }
  const auto version = reinterpret_cast<const char* (*)()>(dlsym(RTLD_DEFAULT, "TF_Version"));
  return version != nullptr ? version() : "unknown";
}

}  // namespace ops
}  // namespace taco
