// A client of harp-helper, from its connection to its end.
#ifndef NCCL_PLUGIN_TOOLS_HARP_HELPER_SESSION_H_
#define NCCL_PLUGIN_TOOLS_HARP_HELPER_SESSION_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nccl_plugin/io/xdp_helper_protocol.h"
#include "nccl_plugin/io/xdp_program.h"

namespace taco {
namespace harp {

class HelperSession {
 public:
  static constexpr size_t kMaxClaims = 4096;

  // Takes the socket. `interfaces` as HARP_IFACE.
  HelperSession(int socket, std::string who, const std::string& interfaces)
      : socket_(socket), who_(std::move(who)), interfaces_(interfaces) {}
  ~HelperSession();
  HelperSession(const HelperSession&) = delete;
  HelperSession& operator=(const HelperSession&) = delete;

  int socket() const { return socket_; }

  // Carries out the request that has come. False: the session has ended, by the client or because
  // what came was no request; then that was said to it.
  bool Serve();

 private:
  bool Open(const HelperRequest& request, HelperReply* reply, std::vector<int>* give,
            std::string* error);
  bool Claim(int socket, std::string* error);
  bool Drop(uint16_t port, std::string* error);

  const int socket_;
  const std::string who_;
  const std::string interfaces_;
  std::string interface_;  // which it has
  std::unique_ptr<XdpProgram> program_;
  std::map<uint16_t, int> claims_;  // UDP ports, and sockets that keep them from others
};

// Says why to a client that is turned away.
void Refuse(int socket, const std::string& why);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_HELPER_SESSION_H_
