#include "nccl_plugin/io/dpdk.h"

#include <dlfcn.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <sstream>
#include <utility>

#include "nccl_plugin/io/arp.h"
#include "nccl_plugin/io/dpdk_library.h"
#include "nccl_plugin/io/heard.h"
#include "nccl_plugin/io/nd.h"
#include "nccl_plugin/io/per_process.h"
#include "nccl_plugin/io/port.h"
#include "nccl_plugin/io/port_io.h"

namespace taco {
namespace harp {
namespace {

constexpr char kLibraryName[] = "libharp-dpdk.so";
constexpr int kLeastMtu = 1280;                // as udp's
constexpr int64_t kAskAgain = 10'000'000;      // a neighbour that has not answered
constexpr int64_t kHeardFor = 30'000'000'000;  // after which one is asked again

using Address = HeardTable::Address;

Ipv4 Ipv4Of(const Address& address) { return {address[0], address[1], address[2], address[3]}; }
Address AddressOf(const Ipv4& ipv4) { return {ipv4[0], ipv4[1], ipv4[2], ipv4[3]}; }

int Bits(Family family) { return family == Family::kIpv4 ? 32 : 128; }

bool SameNetwork(const Address& one, const Address& other, int prefix) {
  for (int bit = 0; bit < prefix; ++bit) {
    if (((one[bit / 8] ^ other[bit / 8]) >> (7 - bit % 8) & 1) != 0) return false;
  }
  return true;
}

class Dpdk final : public FrameDevice {
 public:
  Dpdk(const DpdkLibrary* library, void* port, const DpdkFacts& facts, const DpdkAddress& address,
       int event)
      : library_(library),
        port_(port),
        event_(event),
        family_(address.address.family),
        mine_(address.address.address),
        prefix_(address.prefix),
        gateway_(address.gateway) {
    facts_.address = address.address;
    std::copy(std::begin(facts.mac), std::end(facts.mac), facts_.mac.begin());
    facts_.max_ip = facts.mtu;
    facts_.frames = facts.frames;
    facts_.receive_queues = facts_.send_queues = facts.queues;
    facts_.user_copies_received = facts.received.user;
    facts_.kernel_copies_received = facts.received.kernel;
    copies_sent_ = facts.sent;
  }
  ~Dpdk() override {
    library_->close(port_);
    close(event_);
  }

  const Facts& facts() const override { return facts_; }
  size_t Receive(size_t queue, Frame* frames, size_t most, PacketIo::Stats*) override {
    return library_->receive(port_, queue, frames, most);
  }
  void GiveBack(size_t, const uint64_t* handles, size_t count) override {
    library_->give_back(port_, handles, count);
  }
  uint8_t* Borrow(size_t queue, size_t size, uint64_t* handle) override {
    return library_->borrow(port_, queue, size, handle);
  }
  size_t Send(size_t queue, const Pieces* frames, size_t count, PacketIo::Stats* stats) override {
    const size_t sent = library_->send(port_, queue, frames, count, &stats->user_copied_bytes);
    uint64_t bytes = 0;
    for (size_t index = 0; index < sent; ++index) bytes += frames[index].packet_bytes();
    stats->user_copied_bytes += copies_sent_.user * bytes;
    stats->kernel_copied_bytes += copies_sent_.kernel * bytes;
    return sent;
  }
  void* AddMemory(const void* bytes, size_t size) override {
    return library_->add_memory(port_, bytes, size);
  }
  bool RemoveMemory(void* memory) override { return library_->remove_memory(port_, memory); }
  Way Find(const Endpoint& to, int64_t now, Mac* mac, size_t queue) override;
  void OnOther(const Frame& frame, size_t queue) override;
  bool Claim(uint16_t, int, std::string*) override { return true; }  // all frames come here
  void Drop(uint16_t) override {}
  int descriptor() const override { return event_; }

 private:
  // Asks for an address, or answers to one: by ARP or by neighbour discovery.
  void Say(bool answer, const Mac& to_mac, const Address& to, size_t queue);
  void OnArp(const Frame& frame, size_t queue);
  void OnNd(const Frame& frame, size_t queue);

  const DpdkLibrary* const library_;
  void* const port_;
  const int event_;  // always readable: nobody can sleep until a port of DPDK has something
  const Family family_;
  const Address mine_;
  const int prefix_;
  const Endpoint gateway_;  // of no family: none
  Facts facts_;
  DpdkCopies copies_sent_ = {};
  HeardTable heard_;
  Address asked_ = {};
  int64_t asked_at_ = 0;
  int64_t asked_again_ = 0;
};

void Dpdk::Say(bool answer, const Mac& to_mac, const Address& to, size_t queue) {
  if (queue == kNoQueue) return;
  constexpr size_t kLeast = 60;  // that Ethernet carries
  uint8_t frame[std::max(kLeast, kNdFrameBytes)] = {};
  Pieces pieces;
  pieces.header = frame;
  if (family_ == Family::kIpv4) {
    WriteArp({answer, facts_.mac, Ipv4Of(mine_), to_mac, Ipv4Of(to)}, frame);
    pieces.header_bytes = kLeast;
  } else {
    WriteNd({answer, facts_.mac, mine_, to_mac, to, answer ? mine_ : to}, frame);
    pieces.header_bytes = kNdFrameBytes;
  }
  uint64_t copied = 0;  // it is no packet
  library_->send(port_, queue, &pieces, 1, &copied);
}

FrameDevice::Way Dpdk::Find(const Endpoint& to, int64_t now, Mac* mac, size_t queue) {
  Address hop = to.address;
  if (hop == mine_) return Way::kLocal;
  if (!SameNetwork(hop, mine_, prefix_)) {
    if (gateway_.family == Family::kNone) return Way::kUnknown;
    hop = gateway_.address;
  }
  const bool known = heard_.Find(hop, mac);
  const bool due =
      known ? now - asked_again_ > kHeardFor : hop != asked_ || now - asked_at_ > kAskAgain;
  if (due) {
    if (known) {
      asked_again_ = now;
    } else {
      asked_ = hop;
      asked_at_ = now;
    }
    Say(false, Mac(), hop, queue);
  }
  return known ? Way::kFrames : Way::kUnknown;
}

void Dpdk::OnOther(const Frame& frame, size_t queue) {
  family_ == Family::kIpv4 ? OnArp(frame, queue) : OnNd(frame, queue);
}

void Dpdk::OnArp(const Frame& frame, size_t queue) {
  ArpPacket arp;
  if (!ParseArp(frame.bytes, frame.size, &arp)) return;
  const Address from = AddressOf(arp.from);
  if (AddressOf(arp.to) != mine_ || from == mine_ || !SameNetwork(from, mine_, prefix_)) return;
  heard_.Learn(from, arp.from_mac);
  if (!arp.reply) Say(true, arp.from_mac, from, queue);
}

void Dpdk::OnNd(const Frame& frame, size_t queue) {
  NdPacket nd;
  if (!ParseNd(frame.bytes, frame.size, &nd) || nd.from == mine_) return;
  if (nd.answer) {
    const bool asked = nd.to == mine_ && nd.target != mine_;
    if (asked && SameNetwork(nd.target, mine_, prefix_)) heard_.Learn(nd.target, nd.from_mac);
    return;
  }
  if (nd.target != mine_) return;
  if (nd.from == Ipv6()) {  // it wants to have this address: all are told whose it is
    Say(true, GroupMac(kAllNodes), kAllNodes, queue);
    return;
  }
  // One of the link's own addresses (fe80::) may ask, too, and is answered alone.
  if (SameNetwork(nd.from, mine_, prefix_)) heard_.Learn(nd.from, nd.from_mac);
  Say(true, nd.from_mac, nd.from, queue);
}

// The library beside the plugin, or where the system finds it. Null and a reason.
const DpdkLibrary* LoadLibrary(std::string* error) {
  static PerProcess<std::mutex> mutex;
  static const DpdkLibrary* library = nullptr;
  const std::lock_guard<std::mutex> lock(mutex.Get());
  if (library != nullptr) return library;
  Dl_info here = {};
  std::string path = kLibraryName;
  if (dladdr(reinterpret_cast<const void*>(&LoadLibrary), &here) != 0 &&
      here.dli_fname != nullptr) {
    const std::string name = here.dli_fname;
    const std::string beside = name.substr(0, name.rfind('/') + 1) + kLibraryName;
    if (name.find('/') != std::string::npos && access(beside.c_str(), R_OK) == 0) path = beside;
  }
  // DPDK's own drivers are found through its libraries' symbols.
  void* const opened = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (opened == nullptr) {
    const char* const said = dlerror();
    const std::string why = said == nullptr ? "" : said;
    *error =
        std::string("cannot open ") + kLibraryName + ": " + why +
        (why.find("librte_") != std::string::npos
             ? "; install DPDK 22.11, whose libraries it needs (Debian 12: libdpdk-dev)"
             : "; it stands beside the plugin where that was built with DPDK 22.11 (Debian 12: "
               "libdpdk-dev)");
    return nullptr;
  }
  using Symbol = const DpdkLibrary* (*)();
  const auto symbol = reinterpret_cast<Symbol>(dlsym(opened, "taco_harp_dpdk"));
  if (symbol != nullptr && symbol() == nullptr) {
    *error = path +
             " was built where there was no DPDK; install it (Debian: libdpdk-dev), and "
             "build again";
    return nullptr;
  }
  if (symbol == nullptr || symbol()->version != kDpdkLibraryVersion) {
    *error = path + " is not of this version of HARP; build both together";
    return nullptr;
  }
  library = symbol();
  return library;
}

// An address alone: neither a port nor a scope, which belongs to an interface of the kernel.
std::optional<Endpoint> ParseAlone(const std::string& text) {
  const std::optional<Endpoint> read = ParseEndpoint(text);
  if (!read || read->port != 0 || read->scope != 0 || read->IsWildcard()) return std::nullopt;
  if (read->family == Family::kIpv6 && read->address[0] == 0xff) return std::nullopt;
  return read;
}

std::optional<DpdkAddress> ParseOne(const std::string& text) {
  const size_t slash = text.find('/');
  const size_t comma = text.find(',');
  if (slash == std::string::npos || slash > comma) return std::nullopt;
  const std::optional<Endpoint> address = ParseAlone(text.substr(0, slash));
  const std::string prefix = text.substr(slash + 1, comma - slash - 1);
  const bool digits = !prefix.empty() && prefix.size() <= 3 &&
                      prefix.find_first_not_of("0123456789") == std::string::npos;
  if (!address || !digits) return std::nullopt;
  DpdkAddress read;
  read.address = *address;
  read.prefix = std::stoi(prefix);
  if (read.prefix > Bits(address->family)) return std::nullopt;
  if (comma != std::string::npos) {
    const std::optional<Endpoint> gateway = ParseAlone(text.substr(comma + 1));
    if (!gateway || gateway->family != address->family ||
        !SameNetwork(gateway->address, address->address, read.prefix)) {
      return std::nullopt;
    }
    read.gateway = *gateway;
  }
  return read;
}

}  // namespace

std::optional<std::vector<DpdkAddress>> ParseDpdkAddresses(const std::string& text,
                                                           std::string* error) {
  std::vector<DpdkAddress> all;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ';');) {
    const std::optional<DpdkAddress> one = ParseOne(part);
    if (!one) {
      *error = "'" + part +
               "' is no address with the length of its network, such as 10.9.0.1/24 or fd09::1/64, "
               "or 10.9.0.1/24,10.9.0.254 with a gateway";
      return std::nullopt;
    }
    all.push_back(*one);
  }
  if (all.empty()) {
    *error = "it needs an address for each port of DPDK, by semicolons, such as 10.9.0.1/24";
    return std::nullopt;
  }
  return all;
}

std::vector<DpdkPlace> FindDpdkPlaces(const std::string& arguments,
                                      const std::vector<DpdkAddress>& addresses,
                                      std::string* error) {
  const DpdkLibrary* const library = LoadLibrary(error);
  if (library == nullptr) return {};
  char why[1024] = {};
  const int ports = library->begin(arguments.c_str(), why, sizeof(why));
  if (ports < 0) {
    *error = why;
    return {};
  }
  if (ports < static_cast<int>(addresses.size())) {
    *error = "DPDK has " + std::to_string(ports) + " ports where HARP_DPDK_ADDRESS has " +
             std::to_string(addresses.size()) +
             " addresses; bind interfaces to vfio-pci, or name virtual ones in HARP_DPDK_ARGS "
             "(--vdev=...)";
    return {};
  }
  std::vector<DpdkPlace> places;
  for (size_t index = 0; index < addresses.size(); ++index) {
    DpdkFacts facts;
    if (!library->look(static_cast<int>(index), &facts)) {
      *error = "DPDK knows nothing of its port " + std::to_string(index);
      return {};
    }
    places.push_back({static_cast<int>(index), facts.name, addresses[index],
                      static_cast<int>(facts.speed_mbps)});
  }
  return places;
}

std::unique_ptr<PacketIo> OpenDpdk(const DpdkPlace& place, const DpdkOptions& options,
                                   std::string* error) {
  const DpdkLibrary* const library = LoadLibrary(error);
  if (library == nullptr) return nullptr;
  const auto make = [&]() -> std::unique_ptr<FrameDevice> {
    const int event = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    DpdkFacts facts = {};
    char why[1024] = {};
    void* const port = event < 0 ? nullptr
                                 : library->open(place.index, options.mtu, options.queues, &facts,
                                                 why, sizeof(why));
    if (port == nullptr) {
      *error = event < 0 ? "cannot open an eventfd; raise `ulimit -n`" : why;
      if (event >= 0) close(event);
      return nullptr;
    }
    if (facts.mtu < kLeastMtu) {
      *error = "the MTU of " + place.name + " is " + std::to_string(facts.mtu) + ", HARP needs " +
               std::to_string(kLeastMtu) + "; set HARP_DPDK_MTU";
      library->close(port);
      close(event);
      return nullptr;
    }
    return std::make_unique<Dpdk>(library, port, facts, place.address, event);
  };
  std::shared_ptr<Port> port = SharedPort("dpdk " + place.name, make);
  if (port == nullptr) return nullptr;
  PortIoOptions port_options;
  port_options.paths = options.paths;
  return OpenPortIo(std::move(port), std::move(port_options), error);
}

}  // namespace harp
}  // namespace taco
