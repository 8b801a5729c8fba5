// A plugin's shared object: opened as NCCL opens it, and what its file exports.
#ifndef NCCL_PLUGIN_TOOLS_HARP_CHECK_PLUGIN_H_
#define NCCL_PLUGIN_TOOLS_HARP_CHECK_PLUGIN_H_

#include <memory>
#include <string>
#include <vector>

#include "nccl_plugin/tools/harp_check/net.h"

namespace taco {
namespace harp {

// Closed, as by NCCL, when the object goes.
class Plugin {
 public:
  // Fails the case where the dynamic linker refuses.
  explicit Plugin(const std::string& path);
  ~Plugin();
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;

  // NULL where it does not export ncclNetPlugin_v<version>.
  std::unique_ptr<Net> Find(int version) const;

 private:
  void* const library_;
};

// Symbols that the file exports and NCCL does not look for: they may clash with those of others.
// Those with the plugin's own name in theirs will not.
// `error` is set where the file cannot be read as one of x86-64.
std::vector<std::string> StrangeExports(const std::string& path, std::string* error);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_CHECK_PLUGIN_H_
