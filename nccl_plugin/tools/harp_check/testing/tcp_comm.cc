#include "nccl_plugin/tools/harp_check/testing/tcp_comm.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <iterator>
#include <thread>

#include "nccl_plugin/tools/harp_check/testing/fault.h"

namespace taco {
namespace harp {
namespace reference {
namespace {

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = port;
  return address;
}

int NewSocket() { return socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

bool WouldBlock() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

void* NewComm(int fd, bool sends) {
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  return new Comm(fd, sends);
}

}  // namespace

ncclResult_t Listen(void* handle, void** listener) {
  const int fd = NewSocket();
  if (fd < 0) return ncclSystemError;
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd, 16) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    close(fd);
    return ncclSystemError;
  }
  const Handle written = {address.sin_port, 0};
  std::memset(handle, 0, Fault("handle") ? NCCL_NET_HANDLE_MAXSIZE + 1 : NCCL_NET_HANDLE_MAXSIZE);
  std::memcpy(handle, &written, sizeof(written));
  *listener = new Listener{fd};
  return ncclSuccess;
}

ncclResult_t Connect(void* handle, void** comm) {
  Handle state;
  std::memcpy(&state, handle, sizeof(state));
  *comm = nullptr;
  if (Shy()) return ncclSuccess;
  if (Fault("block-connect")) usleep(150000);
  if (state.fd == 0) {
    state.fd = NewSocket();
    if (state.fd < 0) return ncclSystemError;
    const sockaddr_in address = Loopback(state.port);
    if (connect(state.fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 &&
        errno != EINPROGRESS) {
      close(state.fd);
      return ncclRemoteError;
    }
    if (Fault("signal")) std::signal(SIGPIPE, SIG_IGN);
    if (Fault("leak-thread")) std::thread([] { pause(); }).detach();
    std::memcpy(handle, &state, sizeof(state));
    return ncclSuccess;  // the next call looks whether it is there
  }
  pollfd ready = {state.fd, POLLOUT, 0};
  if (poll(&ready, 1, 0) == 0) return ncclSuccess;
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(state.fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) {
    close(state.fd);
    return ncclRemoteError;
  }
  *comm = NewComm(state.fd, true);
  return ncclSuccess;
}

ncclResult_t Accept(void* listener, void** comm) {
  const int listening = static_cast<Listener*>(listener)->fd;
  *comm = nullptr;
  if (Shy()) return ncclSuccess;
  if (Fault("block-accept")) {
    pollfd ready = {listening, POLLIN, 0};
    poll(&ready, 1, 1000);
  }
  const int fd = accept4(listening, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return WouldBlock() ? ncclSuccess : ncclSystemError;
  *comm = NewComm(fd, false);
  return ncclSuccess;
}

ncclResult_t CloseListen(void* listener) {
  Listener* closed = static_cast<Listener*>(listener);
  close(closed->fd);
  delete closed;
  return ncclSuccess;
}

Comm::~Comm() {
  if (Fault("crash-on-close") && !queue_.empty()) *static_cast<volatile int*>(nullptr) = 1;
  if (Fault("hang-on-close") && !queue_.empty()) pause();
  if (!Fault("leak-fd")) close(fd_);
}

Request* Comm::Post(int n, const Part* parts) {
  for (Request& request : requests_) {
    if (request.used) continue;
    request = {this, true, false, false, n, 0, {}};
    for (int i = 0; i < n; ++i) request.parts[static_cast<size_t>(i)] = parts[i];
    const bool swap = Fault("reorder") && !sends_ && queue_.size() >= 2;
    queue_.insert(swap ? std::prev(queue_.end()) : queue_.end(), &request);
    return &request;
  }
  return nullptr;
}

void Comm::Complete(Request* request) {
  moved_ = 0;
  part_ = nullptr;
  if (++request->complete < request->n) return;
  request->done = true;
  if (request->told) request->used = false;
  queue_.pop_front();
}

bool Comm::Begun(const Request* request) const {
  return !queue_.empty() && queue_.front() == request && part_ != nullptr;
}

ncclResult_t Comm::ProgressSends() {
  const size_t kept = Fault("done-unsent") ? 1 : 0;
  while (!failed_ && queue_.size() > kept) {
    Request* request = queue_.front();
    const Part& part = request->parts[0];
    if (Fault("drop-empty") && part.size == 0) {
      Complete(request);
      continue;
    }
    header_ = {part.size, part.tag};
    iovec pieces[2] = {{&header_, sizeof(header_)}, {part.data, part.size}};
    const size_t skip = moved_ < sizeof(header_) ? moved_ : sizeof(header_);
    pieces[0].iov_base = reinterpret_cast<char*>(&header_) + skip;
    pieces[0].iov_len -= skip;
    pieces[1].iov_base = part.data + (moved_ - skip);
    pieces[1].iov_len -= moved_ - skip;
    msghdr message = {};
    message.msg_iov = pieces;
    message.msg_iovlen = 2;
    const ssize_t sent = sendmsg(fd_, &message, MSG_NOSIGNAL);
    if (sent < 0) {
      if (WouldBlock()) return ncclSuccess;
      failed_ = true;
      break;
    }
    moved_ += static_cast<size_t>(sent);
    if (moved_ == sizeof(header_) + part.size) Complete(request);
  }
  return failed_ ? ncclRemoteError : ncclSuccess;
}

// The buffer, among those of the oldest receive, of the message whose header has come.
bool Comm::Choose() {
  Request* request = queue_.front();
  for (int i = 0; i < request->n && part_ == nullptr; ++i) {
    Part* part = &request->parts[static_cast<size_t>(i)];
    if (!part->taken && (part->tag == header_.tag || Fault("wrong-tag"))) part_ = part;
  }
  if (part_ == nullptr || header_.size > part_->room) return false;
  part_->taken = true;
  part_->size = header_.size;
  return true;
}

ncclResult_t Comm::ProgressReceives() {
  while (!failed_ && !queue_.empty()) {
    const bool in_header = moved_ < sizeof(header_);
    char* to = in_header ? reinterpret_cast<char*>(&header_) + moved_
                         : part_->data + (moved_ - sizeof(header_));
    const size_t size = sizeof(header_) + (in_header ? 0 : part_->size) - moved_;
    const ssize_t came = recv(fd_, to, size, 0);
    if (came <= 0) {
      if (came < 0 && WouldBlock()) return ncclSuccess;
      failed_ = true;
      break;
    }
    moved_ += static_cast<size_t>(came);
    if (in_header && moved_ == sizeof(header_) && !Choose()) {
      failed_ = true;
      break;
    }
    if (in_header && part_ != nullptr && Fault("early-done")) return ncclSuccess;
    if (part_ == nullptr || moved_ != sizeof(header_) + part_->size) continue;
    if (Fault("corrupt") && part_->size > 4096) part_->data[4096] ^= 1;
    if (Fault("overrun")) part_->data[part_->room] = 0;
    if (Fault("underrun")) part_->data[-1] = 0;
    if (Fault("short-size")) part_->size = part_->room;
    Complete(queue_.front());
  }
  return failed_ ? ncclRemoteError : ncclSuccess;
}

}  // namespace reference
}  // namespace harp
}  // namespace taco
