#include "nccl_plugin/io/afxdp.h"

#include <net/if.h>
#include <net/if_arp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "nccl_plugin/io/neighbours.h"
#include "nccl_plugin/io/port.h"
#include "nccl_plugin/io/port_io.h"
#include "nccl_plugin/io/socket_address.h"
#include "nccl_plugin/io/xdp_helper.h"
#include "nccl_plugin/io/xdp_program.h"
#include "nccl_plugin/io/xdp_queues.h"
#include "nccl_plugin/io/xdp_socket.h"

namespace taco {
namespace harp {
namespace {

// All queues of an interface. A handle is a place in the memory of its queue.
class Afxdp final : public FrameDevice {
 public:
  // `helper`: the path of harp-helper's socket, for want of privileges.
  static std::unique_ptr<Afxdp> Open(const Endpoint& address, const std::string& name,
                                     const std::string& helper, std::string* error);
  ~Afxdp() override {
    if (epoll_ >= 0) close(epoll_);
  }

  const Facts& facts() const override { return facts_; }
  size_t Receive(size_t queue, Frame* frames, size_t most, PacketIo::Stats* stats) override {
    return sockets_[queue]->Receive(frames, most, stats);
  }
  void GiveBack(size_t queue, const uint64_t* handles, size_t count) override {
    sockets_[queue]->GiveBack(handles, count);
  }
  size_t Send(size_t queue, const Pieces* frames, size_t count, PacketIo::Stats* stats) override {
    return sockets_[queue]->Send(frames, count, stats);
  }
  Way Find(const Endpoint& to, int64_t now, Mac* mac, size_t) override {
    return neighbours_.Find(to, now, mac);
  }
  bool Claim(uint16_t port, int socket, std::string* error) override {
    if (helper_ != nullptr) return helper_->Claim(socket, error);
    Endpoint endpoint = facts_.address;
    endpoint.port = port;
    return program_->Claim(endpoint, error);
  }
  void Drop(uint16_t port) override {
    if (helper_ != nullptr) return helper_->Drop(port);
    program_->Drop(port);
  }
  int descriptor() const override { return epoll_; }

 private:
  explicit Afxdp(int interface) : neighbours_(interface) {}
  bool OpenQueues(int interface, const std::string& name, std::string* error);
  bool OpenByHelper(const std::string& helper, int interface, const std::string& name,
                    std::string* error);
  bool generic() const { return helper_ != nullptr ? helper_->generic() : program_->generic(); }

  Facts facts_;
  Neighbours neighbours_;
  std::unique_ptr<XdpProgram> program_;  // its tables hold the sockets
  std::unique_ptr<XdpHelper> helper_;    // in its place: who has them
  std::vector<std::unique_ptr<XdpSocket>> sockets_;
  int epoll_ = -1;
};

bool ReadMac(const std::string& name, Mac* mac, std::string* error) {
  const int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq request = {};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  const bool read = any >= 0 && ioctl(any, SIOCGIFHWADDR, &request) == 0;
  if (any >= 0) close(any);
  if (!read || request.ifr_hwaddr.sa_family != ARPHRD_ETHER) {
    *error = name + " is no Ethernet, which AF_XDP is used for; choose another interface";
    return false;
  }
  std::memcpy(mac->data(), request.ifr_hwaddr.sa_data, mac->size());
  return true;
}

bool Afxdp::OpenQueues(int interface, const std::string& name, std::string* error) {
  program_ = XdpProgram::Attach(interface, name, error);
  if (program_ == nullptr) return false;
  for (const XdpSocket::Options& each : XdpQueuesOf(interface, name, program_->generic())) {
    std::unique_ptr<XdpSocket> socket = XdpSocket::Open(each, error);
    if (socket == nullptr) return false;
    if (!program_->SetSocket(each.queue, socket->descriptor(), error)) return false;
    facts_.frames = each.receive_frames;
    sockets_.push_back(std::move(socket));
  }
  return true;
}

bool Afxdp::OpenByHelper(const std::string& helper, int interface, const std::string& name,
                         std::string* error) {
  sockets_.clear();
  program_.reset();
  std::string why;
  helper_ = XdpHelper::Open(helper, interface, name, &why);
  if (helper_ == nullptr) {
    *error += ". Without these: " + why;
    return false;
  }
  sockets_ = helper_->TakeSockets();
  facts_.frames = helper_->receive_frames() / sockets_.size();
  facts_.notes += "AF_XDP was opened by harp-helper. ";
  return true;
}

std::unique_ptr<Afxdp> Afxdp::Open(const Endpoint& address, const std::string& name,
                                   const std::string& helper, std::string* error) {
  const auto interface = static_cast<int>(if_nametoindex(name.c_str()));
  const std::optional<size_t> mtu = InterfaceMtu(name);
  if (interface == 0 || !mtu) {
    *error = "there is no interface " + name + "; `ip link` lists those of this machine";
    return nullptr;
  }
  std::unique_ptr<Afxdp> made(new Afxdp(interface));
  Facts& facts = made->facts_;
  facts.address = address;
  facts.address.port = 0;
  if (!ReadMac(name, &facts.mac, error)) return nullptr;
  made->epoll_ = epoll_create1(EPOLL_CLOEXEC);
  if (!made->OpenQueues(interface, name, error) &&
      (helper.empty() || !made->OpenByHelper(helper, interface, name, error))) {
    return nullptr;
  }
  for (const auto& socket : made->sockets_) {
    epoll_event event = {};
    event.events = EPOLLIN;
    epoll_ctl(made->epoll_, EPOLL_CTL_ADD, socket->descriptor(), &event);
  }
  facts.max_ip = std::min(*mtu, XdpSocket::kMaxFrame - kEthernetBytes);
  if (facts.max_ip < *mtu) {
    facts.notes += "AF_XDP's frames are pages: packets have " + std::to_string(facts.max_ip) +
                   " bytes where the MTU is " + std::to_string(*mtu) + ". ";
  }
  const bool zero_copy = made->sockets_[0]->zero_copy();
  if (!zero_copy) {
    facts.notes += std::string("AF_XDP copies packets") +
                   (made->generic() ? " in the kernel's generic way" : "") +
                   ", as the driver has no zero-copy. ";
  }
  facts.kernel_copies_received = zero_copy ? 0 : 1;
  facts.receive_queues = made->sockets_.size();
  facts.send_queues = std::min<size_t>(CountXdpSendQueues(name), made->sockets_.size());
  return made;
}

}  // namespace

std::unique_ptr<PacketIo> OpenAfxdp(UdpOptions options, const std::string& helper,
                                    std::string* error) {
  PortIoOptions port_options;
  port_options.paths = options.paths;
  options.sockets = &port_options.sockets;
  port_options.kernel = OpenUdp(options, error);
  if (port_options.kernel == nullptr) return nullptr;
  const Endpoint local = port_options.kernel->local(0);
  const std::string name = options.interface.empty() ? FindInterface(local) : options.interface;
  Endpoint address = local;
  address.port = 0;
  std::shared_ptr<Port> port = SharedPort("afxdp " + name + " " + ToText(address), [&] {
    return Afxdp::Open(address, name, helper, error);
  });
  if (port == nullptr) return nullptr;
  return OpenPortIo(std::move(port), std::move(port_options), error);
}

}  // namespace harp
}  // namespace taco
