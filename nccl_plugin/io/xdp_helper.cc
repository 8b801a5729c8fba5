#include "nccl_plugin/io/xdp_helper.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace taco {
namespace harp {
namespace {

constexpr timeval kPatience = {10, 0};  // a helper that does not answer is gone

int Connected(const std::string& path, std::string* error) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    *error = "the path of harp-helper's socket is too long: " + path;
    return -1;
  }
  path.copy(address.sun_path, path.size());
  const int made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (made >= 0) {
    setsockopt(made, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof(kPatience));
    setsockopt(made, SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof(kPatience));
    if (connect(made, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return made;
  }
  const int number = errno;
  *error = "harp-helper cannot be reached at " + path + ": " + std::strerror(number) +
           (number == EACCES ? "; this user has to be in its group"
                             : "; is it running? (HARP_HELPER names its socket)");
  if (made >= 0) close(made);
  return -1;
}

void CloseAll(std::vector<int>* descriptors) {
  for (const int descriptor : *descriptors) close(descriptor);
  descriptors->clear();
}

}  // namespace

std::unique_ptr<XdpHelper> XdpHelper::Open(const std::string& path, int interface,
                                           const std::string& name, std::string* error) {
  std::unique_ptr<XdpHelper> made(new XdpHelper);
  made->socket_ = Connected(path, error);
  if (made->socket_ < 0) return nullptr;
  HelperRequest request;
  request.ask = HelperAsk::kOpen;
  name.copy(request.interface, sizeof(request.interface) - 1);
  HelperReply reply;
  std::vector<int> given;
  const bool answered = made->Ask(request, {}, &reply, &given, error);
  const bool used = answered && made->UseQueues(interface, name, reply, &given, error);
  CloseAll(&given);
  return used ? std::move(made) : nullptr;
}

XdpHelper::~XdpHelper() {
  sockets_.clear();
  if (link_ >= 0) close(link_);
  if (socket_ >= 0) close(socket_);
}

// Takes from `given` what it uses.
bool XdpHelper::UseQueues(int interface, const std::string& name, const HelperReply& reply,
                          std::vector<int>* given, std::string* error) {
  if (reply.queues == 0 || given->size() != 1 + 2 * size_t{reply.queues}) {
    *error = "harp-helper gave " + std::to_string(given->size()) + " descriptors for " +
             std::to_string(reply.queues) + " queues";
    return false;
  }
  generic_ = reply.generic != 0;
  std::vector<int> mine;
  mine.swap(*given);
  link_ = mine[0];
  for (uint32_t queue = 0; queue < reply.queues; ++queue) {
    const HelperQueue& each = reply.queue[queue];
    XdpSocket::Options options;
    options.interface = interface;
    options.name = name;
    options.queue = queue;
    options.receive_frames = each.receive_frames;
    options.send_frames = each.send_frames;
    const XdpSocket::Made made = {mine[1 + 2 * queue], mine[2 + 2 * queue], each.zero_copy != 0,
                                  each.busy_poll != 0};
    std::unique_ptr<XdpSocket> socket = XdpSocket::Use(options, made, error);
    if (socket == nullptr) {
      given->assign(mine.begin() + 3 + 2 * queue, mine.end());
      return false;
    }
    sockets_.push_back(std::move(socket));
    receive_frames_ += each.receive_frames;
  }
  return true;
}

bool XdpHelper::Ask(const HelperRequest& request, const std::vector<int>& descriptors,
                    HelperReply* reply, std::vector<int>* given, std::string* error) {
  uint8_t bytes[sizeof(HelperReply)];
  bool too_many = false;
  ptrdiff_t got = -1;
  // Who is turned away may be told so, and the connection closed, before the request is there; then
  // the answer can be read all the same, though an error may come first.
  const bool sent = SendWithDescriptors(socket_, &request, sizeof(request), descriptors);
  for (int turn = 0; turn < 2 && got < 0 && (sent || errno == EPIPE || errno == ECONNRESET);
       ++turn) {
    if (turn != 0 && errno != ECONNRESET) break;
    got = ReceiveWithDescriptors(socket_, bytes, sizeof(bytes), 1 + 2 * kMaxXdpQueues, given,
                                 &too_many);
  }
  if (got <= 0) {
    *error = std::string("harp-helper is gone: ") +
             (got == 0 ? "it has closed the connection" : std::strerror(errno));
    gone_ = true;
    return false;
  }
  if (too_many || !ReadHelperReply(bytes, static_cast<size_t>(got), reply) ||
      reply->ask != request.ask) {
    *error = "harp-helper's answer makes no sense; is it of this release of TACO?";
    gone_ = true;
    return false;
  }
  if (reply->failed == 0) return true;
  *error = std::string("harp-helper: ") + reply->error;
  return false;
}

bool XdpHelper::Claim(int socket, std::string* error) {
  if (gone_) return true;
  HelperRequest request;
  request.ask = HelperAsk::kClaim;
  HelperReply reply;
  std::vector<int> given;
  const bool claimed = Ask(request, {socket}, &reply, &given, error);
  CloseAll(&given);
  return claimed || gone_;
}

void XdpHelper::Drop(uint16_t port) {
  if (gone_) return;
  HelperRequest request;
  request.ask = HelperAsk::kDrop;
  request.port = port;
  HelperReply reply;
  std::vector<int> given;
  std::string error;
  Ask(request, {}, &reply, &given, &error);
  CloseAll(&given);
}

}  // namespace harp
}  // namespace taco
