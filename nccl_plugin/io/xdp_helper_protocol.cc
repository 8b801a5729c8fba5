#include "nccl_plugin/io/xdp_helper_protocol.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace taco {
namespace harp {
namespace {

constexpr size_t kMostDescriptors = 1 + 2 * kMaxXdpQueues;
constexpr size_t kControlBytes = CMSG_SPACE(sizeof(int) * kMostDescriptors);

template <size_t kSize>
bool AllZero(const uint8_t (&bytes)[kSize]) {
  return std::all_of(bytes, bytes + kSize, [](uint8_t byte) { return byte == 0; });
}

template <size_t kSize>
bool Ends(const char (&text)[kSize]) {
  return std::memchr(text, 0, kSize) != nullptr;
}

}  // namespace

bool ReadHelperRequest(const uint8_t* bytes, size_t size, HelperRequest* request,
                       std::string* error) {
  if (size != sizeof(*request)) {
    *error = "a request has " + std::to_string(sizeof(*request)) + " bytes, and " +
             std::to_string(size) + " came";
    return false;
  }
  std::memcpy(request, bytes, size);
  if (request->magic != kHelperMagic) {
    *error = "this is no request of HARP";
    return false;
  }
  if (request->version != kHelperVersion) {
    *error = "harp-helper speaks version " + std::to_string(kHelperVersion) +
             ", and was spoken to in version " + std::to_string(request->version) +
             "; install both of one release";
    return false;
  }
  const auto ask = static_cast<uint16_t>(request->ask);
  const bool opens = request->ask == HelperAsk::kOpen, drops = request->ask == HelperAsk::kDrop;
  const bool named = request->interface[0] != 0;
  if (ask < 1 || ask > 3 || !AllZero(request->zeros) || !Ends(request->interface) ||
      opens != named || drops != (request->port != 0)) {
    *error = "this request makes no sense";
    return false;
  }
  return true;
}

bool ReadHelperReply(const uint8_t* bytes, size_t size, HelperReply* reply) {
  if (size != sizeof(*reply)) return false;
  std::memcpy(reply, bytes, size);
  if (reply->magic != kHelperMagic || reply->version != kHelperVersion || !Ends(reply->error) ||
      reply->queues > kMaxXdpQueues) {
    return false;
  }
  const auto power = [](uint32_t number) { return number != 0 && (number & (number - 1)) == 0; };
  return std::all_of(reply->queue, reply->queue + reply->queues, [&](const HelperQueue& each) {
    return power(each.receive_frames) && each.receive_frames <= 1u << 20 &&
           power(each.send_frames) && each.send_frames <= 1u << 20;
  });
}

bool SendWithDescriptors(int socket, const void* bytes, size_t size,
                         const std::vector<int>& descriptors) {
  alignas(cmsghdr) char control[kControlBytes] = {};
  iovec vector = {const_cast<void*>(bytes), size};
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  if (descriptors.size() > kMostDescriptors) {
    errno = EINVAL;
    return false;
  }
  if (!descriptors.empty()) {
    const size_t all = sizeof(int) * descriptors.size();
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(all);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(all);
    std::memcpy(CMSG_DATA(header), descriptors.data(), all);
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(size);
}

ptrdiff_t ReceiveWithDescriptors(int socket, void* bytes, size_t size, size_t most,
                                 std::vector<int>* descriptors, bool* too_many) {
  alignas(cmsghdr) char control[kControlBytes];
  iovec vector = {bytes, size};
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t got;
  do {
    got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  *too_many = false;
  if (got < 0) return got;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t index = 0; index < count; ++index) {
      int descriptor;
      std::memcpy(&descriptor, CMSG_DATA(header) + index * sizeof(int), sizeof(descriptor));
      if (descriptors->size() < most) {
        descriptors->push_back(descriptor);
      } else {
        close(descriptor);
        *too_many = true;
      }
    }
  }
  *too_many |= (message.msg_flags & MSG_CTRUNC) != 0;
  // A longer message than there is room for is no message of ours.
  return (message.msg_flags & MSG_TRUNC) != 0 ? static_cast<ptrdiff_t>(size) + 1 : got;
}

}  // namespace harp
}  // namespace taco
