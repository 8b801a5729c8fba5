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
#include "nccl_plugin/io/port.h"
#include "nccl_plugin/io/port_io.h"

namespace taco {
namespace harp {
namespace {

constexpr char kLibraryName[] = "libharp-dpdk.so";
constexpr int kLeastMtu = 1280;                // as udp's
constexpr int64_t kAskAgain = 10'000'000;      // a neighbour that has not answered
constexpr int64_t kHeardFor = 30'000'000'000;  // after which one is asked again

Ipv4 Ipv4Of(const Endpoint& endpoint) {
  Ipv4 address;
  std::copy_n(endpoint.address.begin(), address.size(), address.begin());
  return address;
}

bool SameNetwork(const Ipv4& one, const Ipv4& other, int prefix) {
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
        mine_(Ipv4Of(address.address)),
        prefix_(address.prefix),
        gateway_(Ipv4Of(address.gateway)) {
    facts_.address = address.address;
    std::copy(std::begin(facts.mac), std::end(facts.mac), facts_.mac.begin());
    facts_.max_ip = facts.mtu;
    facts_.frames = facts.frames;
    facts_.user_copies_received = facts.received.user;
    facts_.kernel_copies_received = facts.received.kernel;
    copies_sent_ = facts.sent;
  }
  ~Dpdk() override {
    library_->close(port_);
    close(event_);
  }

  const Facts& facts() const override { return facts_; }
  size_t Receive(Frame* frames, size_t most, PacketIo::Stats*) override {
    return library_->receive(port_, frames, most);
  }
  void GiveBack(const uint64_t* handles, size_t count) override {
    library_->give_back(port_, handles, count);
  }
  uint8_t* Borrow(size_t size, uint64_t* handle) override {
    return library_->borrow(port_, size, handle);
  }
  size_t Send(const Pieces* frames, size_t count, PacketIo::Stats* stats) override {
    const size_t sent = library_->send(port_, frames, count, &stats->user_copied_bytes);
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
  Way Find(const Endpoint& to, int64_t now, Mac* mac) override;
  void OnOther(const Frame& frame, bool may_send) override;
  bool Claim(uint16_t, int, std::string*) override { return true; }  // all frames come here
  void Drop(uint16_t) override {}
  int descriptor() const override { return event_; }

 private:
  void Say(bool reply, const Mac& to_mac, const Ipv4& to);

  const DpdkLibrary* const library_;
  void* const port_;
  const int event_;  // always readable: nobody can sleep until a port of DPDK has something
  const Ipv4 mine_;
  const int prefix_;
  const Ipv4 gateway_;  // 0.0.0.0: none
  Facts facts_;
  DpdkCopies copies_sent_ = {};
  ArpTable heard_;
  // Of who sends.
  Ipv4 asked_ = {};
  int64_t asked_at_ = 0;
  int64_t asked_again_ = 0;
};

void Dpdk::Say(bool reply, const Mac& to_mac, const Ipv4& to) {
  uint8_t frame[60] = {};  // the least that Ethernet carries
  WriteArp({reply, facts_.mac, mine_, to_mac, to}, frame);
  Pieces pieces;
  pieces.header = frame;
  pieces.header_bytes = sizeof(frame);
  uint64_t copied = 0;  // it is no packet
  library_->send(port_, &pieces, 1, &copied);
}

FrameDevice::Way Dpdk::Find(const Endpoint& to, int64_t now, Mac* mac) {
  Ipv4 hop = Ipv4Of(to);
  if (hop == mine_) return Way::kLocal;
  if (!SameNetwork(hop, mine_, prefix_)) {
    if (gateway_ == Ipv4()) return Way::kUnknown;
    hop = gateway_;
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
    Say(false, Mac(), hop);
  }
  return known ? Way::kFrames : Way::kUnknown;
}

void Dpdk::OnOther(const Frame& frame, bool may_send) {
  ArpPacket arp;
  if (!ParseArp(frame.bytes, frame.size, &arp) || arp.to != mine_ || arp.from == mine_ ||
      !SameNetwork(arp.from, mine_, prefix_)) {
    return;
  }
  heard_.Learn(arp.from, arp.from_mac);
  if (!arp.reply && may_send) Say(true, arp.from_mac, arp.from);
}

// The library beside the plugin, or where the system finds it. Null and a reason.
const DpdkLibrary* LoadLibrary(std::string* error) {
  static std::mutex mutex;
  static const DpdkLibrary* library = nullptr;
  const std::lock_guard<std::mutex> lock(mutex);
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

std::optional<DpdkAddress> ParseOne(const std::string& text) {
  const size_t slash = text.find('/');
  const size_t comma = text.find(',');
  if (slash == std::string::npos || slash > comma) return std::nullopt;
  const std::optional<Endpoint> address = ParseEndpoint(text.substr(0, slash));
  const std::string prefix = text.substr(slash + 1, comma - slash - 1);
  const bool digits = !prefix.empty() && prefix.size() <= 2 &&
                      prefix.find_first_not_of("0123456789") == std::string::npos;
  DpdkAddress read;
  if (!address || address->family != Family::kIpv4 || address->port != 0 || address->IsWildcard() ||
      !digits) {
    return std::nullopt;
  }
  read.address = *address;
  read.prefix = std::stoi(prefix);
  if (read.prefix > 32) return std::nullopt;
  if (comma != std::string::npos) {
    const std::optional<Endpoint> gateway = ParseEndpoint(text.substr(comma + 1));
    if (!gateway || gateway->family != Family::kIpv4 || gateway->port != 0 ||
        !SameNetwork(Ipv4Of(*gateway), Ipv4Of(*address), read.prefix)) {
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
               "' is no IPv4 address with the length of its network, such as "
               "10.9.0.1/24, or 10.9.0.1/24,10.9.0.254 with a gateway";
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

std::unique_ptr<PacketIo> OpenDpdk(const DpdkPlace& place, uint16_t paths, uint16_t mtu,
                                   std::string* error) {
  const DpdkLibrary* const library = LoadLibrary(error);
  if (library == nullptr) return nullptr;
  const auto make = [&]() -> std::unique_ptr<FrameDevice> {
    const int event = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    DpdkFacts facts = {};
    char why[1024] = {};
    void* const port =
        event < 0 ? nullptr : library->open(place.index, mtu, &facts, why, sizeof(why));
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
  PortIoOptions options;
  options.paths = paths;
  return OpenPortIo(std::move(port), std::move(options), error);
}

}  // namespace harp
}  // namespace taco
