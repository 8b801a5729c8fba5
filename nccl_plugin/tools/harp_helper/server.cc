#include "nccl_plugin/tools/harp_helper/server.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <vector>

namespace taco {
namespace harp {
namespace {

constexpr int kWaiting = 16;       // connections that are not accepted yet
constexpr size_t kGroups = 65536;  // that the kernel allows a process

bool IsInGroup(int socket, const ucred& peer, gid_t group) {
  if (peer.gid == group) return true;
  std::vector<gid_t> groups(64);
  socklen_t bytes = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  int result = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &bytes);
  if (result != 0 && errno == ERANGE && bytes <= kGroups * sizeof(gid_t)) {
    groups.resize(bytes / sizeof(gid_t));
    result = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &bytes);
  }
  if (result != 0) return false;
  const auto end = groups.begin() + static_cast<ptrdiff_t>(bytes / sizeof(gid_t));
  return std::find(groups.begin(), end, group) != end;
}

}  // namespace

HelperServer::~HelperServer() {
  if (listener_ < 0) return;
  close(listener_);
  unlink(options_.path.c_str());
}

bool HelperServer::Begin(std::string* error) {
  const std::string& path = options_.path;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    *error = "'" + path + "' is no path of a socket: it is empty or too long";
    return false;
  }
  path.copy(address.sun_path, path.size());
  const auto* const generic = reinterpret_cast<const sockaddr*>(&address);
  listener_ = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener_ >= 0 && connect(listener_, generic, sizeof(address)) == 0) {
    *error = "another harp-helper is at " + path;
    close(listener_);
    listener_ = -1;
    return false;
  }
  struct stat there = {};
  if (lstat(path.c_str(), &there) == 0 && S_ISSOCK(there.st_mode)) unlink(path.c_str());
  const mode_t before = umask(0177);
  const bool bound = listener_ >= 0 && bind(listener_, generic, sizeof(address)) == 0;
  umask(before);
  bool opened = bound;
  if (bound && options_.group) {
    opened = chown(path.c_str(), static_cast<uid_t>(-1), *options_.group) == 0 &&
             chmod(path.c_str(), 0660) == 0;
  }
  if (opened && listen(listener_, kWaiting) == 0) return true;
  *error = "cannot listen at " + path + ": " + std::strerror(errno);
  if (!bound && listener_ >= 0) {
    close(listener_);
    listener_ = -1;  // the path is somebody else's
  }
  return false;
}

bool HelperServer::Allowed(int socket, const ucred& peer) const {
  return peer.uid == 0 || peer.uid == geteuid() ||
         (options_.group && IsInGroup(socket, peer, *options_.group));
}

void HelperServer::Accept() {
  const int socket = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (socket < 0) return;
  ucred peer = {};
  socklen_t size = sizeof(peer);
  const bool known = getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
  if (!known || !Allowed(socket, peer)) {
    Refuse(socket, "user " + std::to_string(peer.uid) + " is not in harp-helper's group (--group)");
    close(socket);
    return;
  }
  if (sessions_.size() >= options_.clients) {
    Refuse(socket, "it has " + std::to_string(sessions_.size()) +
                       " clients, as many as it may have (--clients)");
    close(socket);
    return;
  }
  const std::string who =
      "process " + std::to_string(peer.pid) + " of user " + std::to_string(peer.uid);
  sessions_.emplace_back(socket, who, options_.interfaces);
}

void HelperServer::Run(int stop) {
  for (;;) {
    std::vector<pollfd> watched = {{stop, POLLIN, 0}, {listener_, POLLIN, 0}};
    for (const HelperSession& each : sessions_) watched.push_back({each.socket(), POLLIN, 0});
    if (poll(watched.data(), watched.size(), -1) < 0) continue;
    if (watched[0].revents != 0) return;
    size_t at = 2;
    for (auto session = sessions_.begin(); session != sessions_.end(); ++at) {
      const bool goes_on = watched[at].revents == 0 || session->Serve();
      session = goes_on ? std::next(session) : sessions_.erase(session);
    }
    if (watched[1].revents != 0) Accept();
  }
}

}  // namespace harp
}  // namespace taco
