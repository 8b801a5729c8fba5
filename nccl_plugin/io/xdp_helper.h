// This process's side of harp-helper: AF_XDP for a process that may not do it by itself. The helper
// opens the queues of an interface and attaches the XDP program; what it gives is the process's
// own, and works on when the helper is gone.
#ifndef NCCL_PLUGIN_IO_XDP_HELPER_H_
#define NCCL_PLUGIN_IO_XDP_HELPER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nccl_plugin/io/xdp_helper_protocol.h"
#include "nccl_plugin/io/xdp_socket.h"

namespace taco {
namespace harp {

class XdpHelper {
 public:
  // Asks whoever listens at `path` for all queues of an interface. Null: `error` names the cause
  // and the remedy.
  static std::unique_ptr<XdpHelper> Open(const std::string& path, int interface,
                                         const std::string& name, std::string* error);
  ~XdpHelper();
  XdpHelper(const XdpHelper&) = delete;
  XdpHelper& operator=(const XdpHelper&) = delete;

  // One for each queue. They are the caller's; once.
  std::vector<std::unique_ptr<XdpSocket>> TakeSockets() { return std::move(sockets_); }
  size_t receive_frames() const { return receive_frames_; }  // of all
  bool generic() const { return generic_; }

  // Frames to the address and port of this UDP socket are to come to the queues. A helper that is
  // gone is no failure: what comes then goes to the socket.
  bool Claim(int socket, std::string* error);
  void Drop(uint16_t port);

 private:
  XdpHelper() = default;
  // False: `error` says why; `gone_`: there is no helper any more.
  bool Ask(const HelperRequest& request, const std::vector<int>& descriptors, HelperReply* reply,
           std::vector<int>* given, std::string* error);
  bool UseQueues(int interface, const std::string& name, const HelperReply& reply,
                 std::vector<int>* given, std::string* error);

  int socket_ = -1;
  int link_ = -1;  // keeps the program attached
  bool generic_ = false;
  bool gone_ = false;
  size_t receive_frames_ = 0;
  std::vector<std::unique_ptr<XdpSocket>> sockets_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_XDP_HELPER_H_
