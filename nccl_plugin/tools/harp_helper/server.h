// Start here. harp-helper: opens AF_XDP for processes that may not do it themselves.
//
// One thread, one client at a time: a request is carried out and answered before the next is read.
// What a client gets is its own and outlives the helper; what the helper keeps for it (the program
// with its tables, a copy of each UDP socket that it has claimed) goes when its connection ends.
// Each client has one interface, so many claims at most, and one request under way.
#ifndef NCCL_PLUGIN_TOOLS_HARP_HELPER_SERVER_H_
#define NCCL_PLUGIN_TOOLS_HARP_HELPER_SERVER_H_

#include <sys/socket.h>
#include <sys/types.h>

#include <cstddef>
#include <list>
#include <optional>
#include <string>
#include <utility>

#include "nccl_plugin/tools/harp_helper/session.h"

namespace taco {
namespace harp {

struct HelperOptions {
  std::string path;            // of its socket
  std::optional<gid_t> group;  // who is in it may ask; none: root and the helper's own user alone
  std::string interfaces;      // as HARP_IFACE; empty: those that HARP takes by itself
  size_t clients = 64;         // at a time
};

class HelperServer {
 public:
  explicit HelperServer(HelperOptions options) : options_(std::move(options)) {}
  ~HelperServer();
  HelperServer(const HelperServer&) = delete;
  HelperServer& operator=(const HelperServer&) = delete;

  // Listens. False: `error` names the cause and the remedy.
  bool Begin(std::string* error);
  // Until `stop` is readable.
  void Run(int stop);

 private:
  void Accept();
  bool Allowed(int socket, const ucred& peer) const;

  const HelperOptions options_;
  int listener_ = -1;
  std::list<HelperSession> sessions_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_HELPER_SERVER_H_
