#include "nccl_plugin/tools/harp_helper/session.h"

#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "nccl_plugin/engine/interfaces.h"
#include "nccl_plugin/io/socket_address.h"

namespace taco {
namespace harp {
namespace {

#ifndef SO_NETNS_COOKIE
constexpr int SO_NETNS_COOKIE = 71;  // Linux 5.14
#endif

bool Option(int socket, int name, void* value, socklen_t size) {
  socklen_t got = size;
  return getsockopt(socket, SOL_SOCKET, name, value, &got) == 0 && got == size;
}

// Whether its address is one of this network namespace.
bool IsOfHere(int socket) {
  uint64_t theirs = 0, ours = 0;
  const int any = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const bool known = Option(any, SO_NETNS_COOKIE, &ours, sizeof(ours));
  if (any >= 0) close(any);
  return known && Option(socket, SO_NETNS_COOKIE, &theirs, sizeof(theirs)) && theirs == ours;
}

// What a UDP socket is bound to; no family, and a sentence: it is none that can be claimed.
Endpoint BoundTo(int socket, std::string* error) {
  int kind = 0, protocol = 0;
  if (!Option(socket, SO_TYPE, &kind, sizeof(kind)) || kind != SOCK_DGRAM ||
      !Option(socket, SO_PROTOCOL, &protocol, sizeof(protocol)) || protocol != IPPROTO_UDP) {
    *error = "what came with the claim is no UDP socket";
    return {};
  }
  if (!IsOfHere(socket)) {
    *error =
        "the UDP socket is of another network namespace than harp-helper (or Linux is older "
        "than 5.14); start a helper there";
    return {};
  }
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  const bool named = getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  const Endpoint endpoint = named ? FromSocketAddress(address) : Endpoint();
  if (endpoint.family == Family::kNone || endpoint.port == 0 || endpoint.IsWildcard()) {
    *error = "the UDP socket is not bound to an address and a port";
    return {};
  }
  return endpoint;
}

HelperReply ReplyTo(HelperAsk ask, bool done, const std::string& error) {
  HelperReply reply;
  reply.ask = ask;
  reply.failed = done ? 0 : 1;
  if (!done) error.copy(reply.error, sizeof(reply.error) - 1);
  return reply;
}

}  // namespace

void Refuse(int socket, const std::string& why) {
  const HelperReply reply = ReplyTo(HelperAsk::kOpen, false, why);
  SendWithDescriptors(socket, &reply, sizeof(reply), {});
}

HelperSession::~HelperSession() {
  // The client may have the program's link for itself: what it has claimed ends all the same.
  for (const auto& [port, socket] : claims_) {
    program_->Drop(port);
    close(socket);
  }
  if (!interface_.empty()) {
    std::fprintf(stderr, "harp-helper: %s is free again, %s has gone\n", interface_.c_str(),
                 who_.c_str());
  }
  close(socket_);
}

bool HelperSession::Serve() {
  uint8_t bytes[sizeof(HelperRequest) + 1];
  std::vector<int> came;
  bool too_many = false;
  const ptrdiff_t got = ReceiveWithDescriptors(socket_, bytes, sizeof(bytes), 1, &came, &too_many);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return true;
  HelperRequest request;
  std::string error;
  std::vector<int> give;
  bool done = false, understood = false;
  HelperReply reply;
  if (got > 0) {
    understood = ReadHelperRequest(bytes, static_cast<size_t>(got), &request, &error);
    const size_t wanted = request.ask == HelperAsk::kClaim ? 1 : 0;
    if (understood && (too_many || came.size() != wanted)) {
      error = "this request came with a wrong number of descriptors";
      understood = false;
    }
  }
  if (understood) {
    switch (request.ask) {
      case HelperAsk::kOpen:
        done = Open(request, &reply, &give, &error);
        break;
      case HelperAsk::kClaim:
        done = Claim(came[0], &error);
        if (done) came.clear();  // it is kept
        break;
      case HelperAsk::kDrop:
        done = Drop(request.port, &error);
        break;
    }
  }
  for (const int descriptor : came) close(descriptor);
  if (got <= 0) return false;
  const HelperReply said = ReplyTo(understood ? request.ask : HelperAsk::kOpen, done, error);
  if (!done) reply = said;
  reply.ask = said.ask;
  const bool sent = SendWithDescriptors(socket_, &reply, sizeof(reply), give);
  for (size_t index = 1; index < give.size(); ++index) close(give[index]);  // the link stays ours
  return understood && sent;
}

bool HelperSession::Open(const HelperRequest& request, HelperReply* reply, std::vector<int>* give,
                         std::string* error) {
  const std::string name = request.interface;
  const auto index = static_cast<int>(if_nametoindex(name.c_str()));
  if (program_ != nullptr) {
    *error = "this connection has an interface already: " + interface_;
  } else if (index == 0) {
    *error = "there is no interface " + name + " here";
  } else if (!Wanted(name, interfaces_)) {
    *error = "harp-helper was not told to open " + name + " (--interfaces)";
  } else {
    program_ = XdpProgram::Attach(index, name, error);
  }
  if (program_ == nullptr || !interface_.empty()) return false;
  give->push_back(program_->link());
  for (const XdpSocket::Options& each : XdpQueuesOf(index, name, program_->generic())) {
    XdpSocket::Made made;
    const bool opened = XdpSocket::Make(each, &made, error);
    if (opened) give->insert(give->end(), {made.socket, made.memory});
    if (!opened || !program_->SetSocket(each.queue, made.socket, error)) {
      for (size_t given = 1; given < give->size(); ++given) close((*give)[given]);
      give->clear();
      program_.reset();
      return false;
    }
    HelperQueue& queue = reply->queue[reply->queues++];
    queue.receive_frames = each.receive_frames;
    queue.send_frames = each.send_frames;
    queue.zero_copy = made.zero_copy ? 1 : 0;
    queue.busy_poll = made.busy_poll ? 1 : 0;
  }
  reply->generic = program_->generic() ? 1 : 0;
  interface_ = name;
  std::fprintf(stderr, "harp-helper: %s goes to %s\n", name.c_str(), who_.c_str());
  return true;
}

bool HelperSession::Claim(int socket, std::string* error) {
  if (program_ == nullptr) {
    *error = "a claim before an interface was opened";
    return false;
  }
  const Endpoint endpoint = BoundTo(socket, error);
  if (endpoint.family == Family::kNone) return false;
  if (claims_.count(endpoint.port) != 0) {
    *error = "UDP port " + std::to_string(endpoint.port) + " is claimed already";
    return false;
  }
  if (claims_.size() >= kMaxClaims) {
    *error = "a process has at most " + std::to_string(kMaxClaims) + " UDP ports";
    return false;
  }
  if (!program_->Claim(endpoint, error)) return false;
  claims_[endpoint.port] = socket;
  return true;
}

bool HelperSession::Drop(uint16_t port, std::string* error) {
  const auto found = claims_.find(port);
  if (found == claims_.end()) {
    *error = "UDP port " + std::to_string(port) + " is not claimed";
    return false;
  }
  program_->Drop(port);
  close(found->second);
  claims_.erase(found);
  return true;
}

}  // namespace harp
}  // namespace taco
