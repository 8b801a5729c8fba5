#include "nccl_plugin/io/udp_receiver.h"

#include <netinet/in.h>
#include <netinet/udp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "nccl_plugin/io/socket_address.h"

namespace taco {
namespace harp {
namespace {

int64_t Nanoseconds(const timespec& time) { return time.tv_sec * 1'000'000'000 + time.tv_nsec; }

// What the kernel says of a message.
struct Notes {
  uint32_t segment = 0;    // size of the packets that it has put together; 0: there is but one
  int64_t arrived_ns = 0;  // by the clock of the day; 0: it does not say
};

Notes NotesOf(msghdr* header) {
  Notes notes;
  for (cmsghdr* control = CMSG_FIRSTHDR(header); control != nullptr;
       control = CMSG_NXTHDR(header, control)) {
    if (control->cmsg_level == SOL_UDP && control->cmsg_type == UDP_GRO) {
      int segment = 0;
      std::memcpy(&segment, CMSG_DATA(control), sizeof(segment));
      if (segment > 0) notes.segment = static_cast<uint32_t>(segment);
    } else if (control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_TIMESTAMPNS) {
      timespec time;
      std::memcpy(&time, CMSG_DATA(control), sizeof(time));
      notes.arrived_ns = Nanoseconds(time);
    }
  }
  return notes;
}

constexpr int64_t kLongestWait = 1'000'000'000;

}  // namespace

UdpReceiver::UdpReceiver(std::vector<int> sockets, int epoll, PacketIo::Stats* stats)
    : sockets_(std::move(sockets)),
      epoll_(epoll),
      stats_(stats),
      bytes_(new uint8_t[kSlots * kSlotBytes]) {
  for (size_t i = 0; i < kSlots; ++i) {
    vectors_[i] = {&bytes_[i * kSlotBytes], kSlotBytes};
    headers_[i].msg_hdr.msg_name = &slots_[i].address;
    headers_[i].msg_hdr.msg_iov = &vectors_[i];
    headers_[i].msg_hdr.msg_iovlen = 1;
    headers_[i].msg_hdr.msg_control = slots_[i].control.data();
  }
}

size_t UdpReceiver::Receive(PacketIo::Incoming* packets, size_t most) {
  if (at_ == filled_) at_ = filled_ = 0;  // the views into them have ended
  size_t count = HandOut(packets, most);
  bool looked = false;
  while (count < most && filled_ < kSlots) {
    if (ready_at_ == ready_count_) {
      if (looked || !FindReady()) break;
      looked = true;
    }
    const auto path = static_cast<uint16_t>(ready_[ready_at_++].data.u32);
    Fill(path, std::min(kSlots - filled_, most - count));
    count += HandOut(packets + count, most - count);
  }
  return count;
}

size_t UdpReceiver::HandOut(PacketIo::Incoming* packets, size_t most) {
  size_t count = 0;
  while (count < most && at_ < filled_) {
    const Slot& slot = slots_[at_];
    PacketIo::Incoming& packet = packets[count++];
    packet.bytes = &bytes_[at_ * kSlotBytes + offset_];
    packet.size = std::min(slot.segment, slot.size - offset_);
    packet.path = slot.path;
    packet.from = slot.from;
    packet.waited_ns = slot.waited_ns;
    stats_->bytes_received += packet.size;
    offset_ += packet.size;
    if (offset_ < slot.size) continue;
    offset_ = 0;
    ++at_;
  }
  stats_->packets_received += count;
  return count;
}

// One that is left with something to read comes again, behind the others: none is starved.
bool UdpReceiver::FindReady() {
  ready_at_ = 0;
  ready_count_ = 1;
  if (sockets_.size() == 1) {
    ready_[0].data.u32 = 0;  // asking would cost as much as reading
    return true;
  }
  const int found = epoll_wait(epoll_, ready_.data(), static_cast<int>(ready_.size()), 0);
  ++stats_->receive_calls;
  ready_count_ = found > 0 ? static_cast<size_t>(found) : 0;
  return found > 0;
}

void UdpReceiver::Fill(uint16_t path, size_t most) {
  for (size_t i = filled_; i < filled_ + most; ++i) {
    headers_[i].msg_hdr.msg_namelen = sizeof(slots_[i].address);
    headers_[i].msg_hdr.msg_controllen = slots_[i].control.size();
  }
  const int got = recvmmsg(sockets_[path], &headers_[filled_], static_cast<unsigned>(most),
                           MSG_DONTWAIT, nullptr);
  ++stats_->receive_calls;
  if (got < 0 && errno != EAGAIN && errno != EINTR) ++stats_->error(errno);
  timespec now = {};
  if (got > 0) clock_gettime(CLOCK_REALTIME, &now);
  for (int i = 0; i < got; ++i) {
    Slot& slot = slots_[filled_];
    slot.size = headers_[filled_].msg_len;
    const Notes notes = NotesOf(&headers_[filled_].msg_hdr);
    slot.segment = notes.segment > 0 ? notes.segment : slot.size;
    // The clock of the day may be set meanwhile.
    const int64_t waited = notes.arrived_ns == 0 ? 0 : Nanoseconds(now) - notes.arrived_ns;
    slot.waited_ns = std::clamp<int64_t>(waited, 0, kLongestWait);
    slot.from = FromSocketAddress(slot.address);
    slot.path = path;
    stats_->kernel_copied_bytes += slot.size;
    ++filled_;
  }
}

}  // namespace harp
}  // namespace taco
