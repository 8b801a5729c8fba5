#include "nccl_plugin/engine/net.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "nccl_plugin/engine/open_io.h"
#include "nccl_plugin/engine/statistics.h"
#include "nccl_plugin/io/aead.h"
#include "nccl_plugin/io/clock.h"
#include "nccl_plugin/io/per_process.h"

namespace taco {
namespace harp {
namespace {

constexpr char kMagic[8] = {'H', 'A', 'R', 'P', 'n', 'e', 't', 0};
constexpr int64_t kStopWait = 100'000'000;

const char* Environment(const char* name) { return std::getenv(name); }

std::string ProcessName() {
  char host[64] = {};
  gethostname(host, sizeof(host) - 1);
  return std::string(host) + ":" + std::to_string(getpid());
}

// What may be on its way to all receivers of an interface: four round trips of 100 us at its speed,
// which in the simulator keeps a link busy and a switch's queue of a megabyte from overflowing.
uint64_t CreditOf(const Interface& interface, const Settings& settings) {
  constexpr uint64_t kUs = 400, kLeast = 256 << 10;
  if (settings.credit_bytes != 0) return static_cast<uint64_t>(settings.credit_bytes);
  return std::max(kLeast, static_cast<uint64_t>(interface.speed_mbps) * kUs / 8);
}

}  // namespace

Net& Net::Get() {
  static PerProcess<Net> nets;
  return nets.Get([] { return std::unique_ptr<Net>(new Net); });
}

int Net::Init(Log log) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (log != nullptr) log_ = log;
  if (users_++ != 0) return devices();
  settings_ = ReadSettings(Environment);
  for (const std::string& problem : settings_.problems) Warn(problem);
  if (!settings_.key_problem.empty()) {
    Warn(settings_.key_problem + "; HARP makes no connection without it");
  }
  std::string error;
  if (!ParseFaults(settings_.faults, &faults_, &error)) Warn("HARP_FAULTS: " + error);
  if (!interfaces_.empty()) former_.push_back(std::move(interfaces_));
  {
    const std::lock_guard<std::mutex> of_merged(merged_mutex_);
    if (!merged_.empty()) former_merged_.push_back(std::move(merged_));
    merged_.clear();
  }
  kept_.clear();
  if (settings_.io == "dpdk") {
    interfaces_ = FindDpdkInterfaces(settings_, &error);
    if (interfaces_.empty()) {
      Warn("HARP cannot use DPDK, and NCCL goes on with its own transport: " + error);
      return 0;
    }
  } else {
    interfaces_ = FindInterfaces(settings_.interfaces);
  }
  interfaces_.erase(std::remove_if(interfaces_.begin(), interfaces_.end(),
                                   [&](Interface& each) { return !Try(&each); }),
                    interfaces_.end());
  if (interfaces_.empty()) {
    Info("HARP finds no network interface that is up and has an address" +
         (settings_.interfaces.empty() ? "" : " among " + settings_.interfaces) +
         "; NCCL goes on with its own transport (HARP_IFACE names interfaces)");
    return 0;
  }
  engines_.Resize(settings_.engines);
  if (!settings_.stats.empty()) {
    auto statistics = std::make_unique<Statistics>();
    if (statistics->Open(StatisticsFile(settings_.stats), settings_.stats_seconds, &error)) {
      helper_.Report(std::move(statistics));
    } else {
      Warn(error);
    }
  }
  credit_.clear();
  for (const Interface& each : interfaces_) {
    credit_.push_back(std::make_shared<CreditPool>(CreditOf(each, settings_)));
  }
  std::string names;
  for (const Interface& each : interfaces_) {
    names += (names.empty() ? "" : ", ") + each.name + " " + each.address;
    if (each.io != interfaces_[0].io) names += std::string(" (") + KindInWords(each.io) + ")";
  }
  Info(std::string("HARP over ") + KindInWords(interfaces_[0].io) + " on " + names + "; " +
       settings_.ToText());
  return devices();
}

void Net::Finalize() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (users_ == 0 || --users_ != 0) return;
  helper_.Stop(kStopWait);
  engines_.Stop();
  kept_.clear();
}

bool Net::Try(Interface* interface) {
  if (settings_.io == "afxdp") interface->io = "afxdp";
  std::string error;
  std::unique_ptr<PacketIo> io = OpenIo({interface}, 1, settings_, &error);
  if (io == nullptr && interface->io == "afxdp") {
    Warn("HARP cannot use " + interface->name + " by " + KindInWords(interface->io) +
         ", and uses " + KindInWords("udp") + ": " + error);
    interface->io = "udp";
    io = OpenIo({interface}, 1, settings_, &error);
  }
  if (io == nullptr) {
    Warn("HARP leaves " + interface->name + " out: " + error);
    return false;
  }
  if (!io->notes().empty()) Info("HARP on " + interface->name + ": " + io->notes());
  if (interface->io != "udp") kept_.push_back(std::move(io));
  return true;
}

void Net::Warn(const std::string& text) const {
  if (log_ != nullptr) log_(LogLevel::kWarn, text.c_str());
}

void Net::Info(const std::string& text) const {
  if (log_ != nullptr) log_(LogLevel::kInfo, text.c_str());
}

uint64_t Net::Random() {
  uint64_t number = 0;
  while (number == 0) {
    if (getrandom(&number, sizeof(number), 0) != sizeof(number)) number = 0;
  }
  return number;
}

std::unique_ptr<PacketIo> Net::Open(int device, int paths, std::string* error) {
  if (!settings_.key_problem.empty()) {
    *error = settings_.key_problem;
    return nullptr;
  }
  const std::vector<int> parts = Parts(device);
  std::vector<const Interface*> interfaces;
  for (const int part : parts) interfaces.push_back(&interfaces_[part]);
  const int most = static_cast<int>(kMaxPaths / parts.size());
  std::unique_ptr<PacketIo> io = OpenIo(interfaces, std::min(paths, most), settings_, error);
  if (io == nullptr) return io;
  Faults faults = faults_;
  faults.seed += ++opened_;  // not the same packets of all connections
  io = WithFaults(std::move(io), faults);
  return settings_.key ? WithAead(std::move(io), *settings_.key, error) : std::move(io);
}

bool Net::Knows(int device) const {
  const std::lock_guard<std::mutex> lock(merged_mutex_);
  return device >= 0 && device < devices() + static_cast<int>(merged_.size());
}

const Interface& Net::device(int index) const {
  if (index < devices()) return interfaces_[index];
  const std::lock_guard<std::mutex> lock(merged_mutex_);
  return merged_[index - devices()];
}

std::vector<int> Net::Parts(int index) const {
  const std::vector<int>& parts = device(index).parts;
  return parts.empty() ? std::vector<int>{index} : parts;
}

int Net::Merge(const std::vector<int>& parts, std::string* error) {
  if (parts.empty() || parts.size() > kMaxPlaces) {
    *error = std::to_string(parts.size()) + " devices cannot be merged; 1 to " +
             std::to_string(kMaxPlaces) + " can";
    return -1;
  }
  std::string name;
  int speed = 0;
  for (const int part : parts) {
    if (part < 0 || part >= devices() || std::count(parts.begin(), parts.end(), part) != 1) {
      *error = "device " + std::to_string(part) + " is not one of the " +
               std::to_string(devices()) + " interfaces, or comes twice";
      return -1;
    }
    name += (name.empty() ? "" : "+") + interfaces_[part].name;
    speed += interfaces_[part].speed_mbps;
  }
  if (parts.size() == 1) return parts[0];
  const std::lock_guard<std::mutex> lock(merged_mutex_);
  const auto known = std::find_if(merged_.begin(), merged_.end(),
                                  [&](const Interface& each) { return each.parts == parts; });
  const auto index = static_cast<int>(known - merged_.begin());
  if (known == merged_.end()) {
    Interface made = interfaces_[parts[0]];
    made.name = name;
    made.speed_mbps = speed;
    made.parts = parts;
    merged_.push_back(made);
  }
  return devices() + index;
}

Listener* Net::Listen(int device, Handle* handle) {
  std::string error;
  std::unique_ptr<PacketIo> io = Open(device, 1, &error);
  if (io == nullptr) {
    Warn("HARP cannot listen on " + this->device(device).name + ": " + error);
    return nullptr;
  }
  *handle = Handle();
  std::copy(std::begin(kMagic), std::end(kMagic), handle->magic);
  const Endpoint local = io->local(0);
  std::copy(local.address.begin(), local.address.end(), handle->address);
  handle->port = local.port;
  handle->family = static_cast<uint8_t>(local.family);
  handle->version = kVersion;
  if (getrandom(handle->secret.data(), handle->secret.size(), 0) !=
      static_cast<ssize_t>(handle->secret.size())) {
    Warn("HARP cannot listen: the system has no random bytes");
    return nullptr;
  }
  auto listener = std::make_unique<Listener>(
      std::move(io), [this, device](std::string* why) { return Open(device, 1, why); },
      handle->secret, settings_, credit_[Parts(device)[0]], [this] { return Random(); });
  helper_.Add(listener.get());
  return listener.release();
}

void Net::Close(Listener* listener) {
  helper_.Remove(listener);
  delete listener;
}

SendConnection* Net::Connect(int device, Handle* handle, bool* failed) {
  *failed = true;
  if (std::memcmp(handle->magic, kMagic, sizeof(kMagic)) != 0 || handle->version != kVersion) {
    Warn(
        "HARP was given the handle of something else: does every node use HARP, of one version? "
        "(a node without it uses NCCL's own transport, and the two do not understand each other)");
    return nullptr;
  }
  if (handle->attempt == nullptr) {
    std::string error;
    std::unique_ptr<PacketIo> io = Open(device, settings_.paths, &error);
    if (io == nullptr) {
      Warn("HARP cannot connect on " + this->device(device).name + ": " + error);
      return nullptr;
    }
    Endpoint listener;
    std::copy(std::begin(handle->address), std::end(handle->address), listener.address.begin());
    listener.port = handle->port;
    listener.family = static_cast<Family>(handle->family);
    // The scope of a link-local address is this machine's own matter.
    listener.scope = io->local(0).scope;
    handle->attempt =
        new SendConnection(std::move(io), listener, handle->secret, Random(), ProcessName(),
                           settings_, Now(), static_cast<int>(Parts(device).size()));
    Begin(handle->attempt);
  }
  SendConnection* connection = handle->attempt;
  connection->Move(Now());
  *failed = connection->state() == Connection::State::kFailed;
  if (*failed) {
    Warn("HARP cannot connect: " + connection->failure());
    handle->attempt = nullptr;
    End(connection);
    delete connection;
    return nullptr;
  }
  if (connection->state() == Connection::State::kGreeting) return nullptr;
  handle->attempt = nullptr;
  return connection;
}

ReceiveConnection* Net::Accept(Listener* listener) {
  listener->Move(Now());
  std::unique_ptr<ReceiveConnection> connection = listener->Accept();
  if (connection == nullptr) return nullptr;
  Begin(connection.get());
  return connection.release();
}

RegisteredMemory* Net::Register(Connection* connection, const void* bytes, size_t size) {
  auto made = std::make_unique<RegisteredMemory>();
  made->bytes = bytes;
  made->size = size;
  if (settings_.dpdk_zero_copy) made->io = connection->io().Register(bytes, size);
  return made.release();
}

bool Net::Deregister(RegisteredMemory* memory) {
  helper_.TakeBack(memory->bytes, memory->size);
  if (memory->io != nullptr && !memory->io->Release()) {
    Warn(
        "HARP: packets of memory that is taken back are still in the network interface's queue (is "
        "its link up?)");
    return false;
  }
  delete memory;
  return true;
}

void Net::Begin(Connection* connection) {
  if (engines_.any()) {
    connection->UseEngine();
    engines_.Add(connection);
  }
  helper_.Add(connection);
}

void Net::End(Connection* connection) {
  engines_.Remove(connection);
  helper_.Remove(connection);
}

void Net::Close(SendConnection* connection) {
  End(connection);
  connection->SendClose("");
  delete connection;
}

void Net::Close(ReceiveConnection* connection) {
  End(connection);
  std::unique_ptr<ReceiveConnection> mine(connection);
  if (mine->unfinished()) {
    mine->SendClose("its user has closed it with receives under way");
    return;
  }
  // The sender may still wait for the last acknowledgement.
  mine->BeginLingering(Now());
  mine->Move(Now());
  if (mine->Lingers(Now())) helper_.Linger(std::move(mine));
}

}  // namespace harp
}  // namespace taco
