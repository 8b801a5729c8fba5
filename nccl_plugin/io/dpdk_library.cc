// libharp-dpdk.so. Mbufs come from pools that are stacks, so that few of them are in use and stay
// in the caches. Our threads are none of DPDK's: its caches of pools do not work for them, but
// bursts amortise the stacks' locks, which nobody else wants, as each queue has its own, and the
// Port lets one thread at a time use it.
#include "nccl_plugin/io/dpdk_library.h"

#ifdef TACO_WITHOUT_DPDK

extern "C" __attribute__((visibility("default"))) const taco::harp::DpdkLibrary* taco_harp_dpdk() {
  return nullptr;
}

#else

#include <pthread.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "nccl_plugin/io/dpdk_port.h"
#include "nccl_plugin/io/per_process.h"

namespace taco {
namespace harp {
namespace {

constexpr uint16_t kRing = 1024;  // descriptors of a queue

// The last lines that DPDK has logged: they are for nobody's terminal, and say why something
// failed.
std::string& Logged() {
  static auto* const logged = new std::string;
  return *logged;
}
ssize_t Log(void*, const char* text, size_t size) {
  constexpr size_t kMost = 600;
  std::string& logged = Logged();
  logged.append(text, size);
  if (logged.size() > kMost) logged.erase(0, logged.size() - kMost);
  return static_cast<ssize_t>(size);
}

std::string LastWords() {
  std::string words = Logged();
  std::replace(words.begin(), words.end(), '\n', ' ');
  return words.empty() ? words : " (DPDK says: " + words + ")";
}

void Say(const std::string& text, char* error, size_t error_bytes) {
  std::snprintf(error, error_bytes, "%s", text.c_str());
}

bool Has(const std::vector<std::string>& words, std::initializer_list<const char*> beginnings) {
  return std::any_of(words.begin(), words.end(), [&](const std::string& word) {
    return std::any_of(beginnings.begin(), beginnings.end(), [&](const char* beginning) {
      return word.compare(0, std::strlen(beginning), beginning) == 0;
    });
  });
}

// What EAL was started with.
std::vector<std::string>& Arguments() {
  static auto* const arguments = new std::vector<std::string>;
  return *arguments;
}

// What the user has not said: one core, no threads but those that DPDK cannot do without, no files
// that outlive the process.
std::vector<std::string> Complete(const std::string& arguments) {
  std::vector<std::string> words = {"harp"};
  std::istringstream stream(arguments);
  for (std::string word; stream >> word;) words.push_back(word);
  if (!Has(words, {"-l", "-c", "--lcores"})) {
    words.push_back("-l");
    words.push_back(std::to_string(std::max(sched_getcpu(), 0)));
  }
  if (!Has(words, {"--telemetry", "--no-telemetry"})) words.push_back("--no-telemetry");
  if (!Has(words, {"--no-huge", "--in-memory", "--file-prefix", "--no-shconf", "--proc-type"})) {
    words.push_back("--in-memory");
  }
  return words;
}

int Begin(const char* arguments, char* error, size_t error_bytes) {
  static PerProcess<std::mutex> mutex;
  static int result = 0;
  static bool begun = false;
  static pid_t process = 0;
  const std::lock_guard<std::mutex> lock(mutex.Get());
  if (begun && process != getpid()) {
    Say("DPDK belongs to the process that forked this one; start this one anew (exec)", error,
        error_bytes);
    return -1;
  }
  if (begun && result < 0) {
    Say("DPDK did not start before, and can be started once a process", error, error_bytes);
    return -1;
  }
  if (!begun) {
    begun = true;
    process = getpid();
    cookie_io_functions_t functions = {};
    functions.write = Log;
    FILE* const log = fopencookie(nullptr, "w", functions);
    if (log != nullptr) {
      std::setvbuf(log, nullptr, _IOLBF, 0);
      rte_openlog_stream(log);
    }
    // It pins the thread that starts it to a core, and its own threads have that one's signals.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    Arguments() = Complete(arguments);
    std::thread starter([&] {
      std::vector<std::string> words = Arguments();
      std::vector<char*> pointers;
      for (std::string& word : words) pointers.push_back(word.data());
      pointers.push_back(nullptr);
      result = rte_eal_init(static_cast<int>(words.size()), pointers.data());
    });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    starter.join();
    if (result < 0) {
      Say(std::string("DPDK does not start: ") + rte_strerror(rte_errno) +
              "; HARP_DPDK_ARGS has the arguments of its EAL, which needs huge pages (`sysctl "
              "vm.nr_hugepages=512`) or --no-huge -m 256 --no-shconf" +
              LastWords(),
          error, error_bytes);
      return -1;
    }
  }
  return rte_eth_dev_count_avail();
}

// The index-th of those that are there.
int NumberOf(int index) {
  uint16_t number;
  RTE_ETH_FOREACH_DEV(number) {
    if (index-- == 0) return number;
  }
  return -1;
}

// What drivers copy that are no hardware's: memif into and from the memory that two processes
// share, af_packet into and from rings that the kernel reads in place and fills by a copy, tap and
// pcap by calls of the system.
void SetCopies(DpdkFacts* facts) {
  const auto is = [&](const char* driver) { return std::strcmp(facts->driver, driver) == 0; };
  if (is("net_memif")) {
    facts->sent.user = facts->received.user = 1;
  } else if (is("net_af_packet")) {
    facts->sent.user = facts->received.user = facts->received.kernel = 1;
  } else if (is("net_tap") || is("net_pcap")) {
    facts->sent.kernel = facts->received.kernel = 1;
  }
}

bool Look(int index, DpdkFacts* facts) {
  const int number = NumberOf(index);
  if (number < 0) return false;
  const auto port = static_cast<uint16_t>(number);
  *facts = {};
  rte_eth_dev_info info;
  rte_ether_addr mac;
  if (rte_eth_dev_info_get(port, &info) != 0 || rte_eth_macaddr_get(port, &mac) != 0) return false;
  rte_eth_dev_get_mtu(port, &facts->mtu);
  static_assert(sizeof(facts->name) >= RTE_ETH_NAME_MAX_LEN, "DPDK's names fit");
  rte_eth_dev_get_name_by_port(port, facts->name);
  std::snprintf(facts->driver, sizeof(facts->driver), "%s", info.driver_name);
  std::memcpy(facts->mac, mac.addr_bytes, sizeof(facts->mac));
  rte_eth_link link;
  if (rte_eth_link_get_nowait(port, &link) == 0 && link.link_speed != RTE_ETH_SPEED_NUM_UNKNOWN) {
    facts->speed_mbps = link.link_speed;
  }
  SetCopies(facts);
  return true;
}

// `room`: of each mbuf; 0: they have none of their own.
rte_mempool* MakePool(const char* what, uint16_t port, size_t queue, uint32_t count, size_t room) {
  const std::string name =
      std::string("harp_") + what + std::to_string(port) + "_" + std::to_string(queue);
  const int node = rte_eth_dev_socket_id(port);
  const auto bytes = static_cast<uint16_t>(room == 0 ? 0 : room + RTE_PKTMBUF_HEADROOM);
  rte_mempool* pool = rte_mempool_lookup(name.c_str());  // of an attempt that failed later
  if (pool != nullptr) return pool;
  pool = rte_pktmbuf_pool_create_by_ops(name.c_str(), count, 0, 0, bytes, node, "stack");
  if (pool == nullptr) pool = rte_pktmbuf_pool_create(name.c_str(), count, 0, 0, bytes, node);
  return pool;
}

// How many queues each way a port gets, of `wanted`.
uint16_t QueuesOf(const DpdkFacts& facts, const rte_eth_dev_info& info, uint16_t wanted) {
  const auto is = [&](const char* driver) { return std::strcmp(facts.driver, driver) == 0; };
  const uint16_t most = std::min(info.max_rx_queues, info.max_tx_queues);
  // The kernel hands packets to all sockets that af_packet was given (qpairs).
  if (is("net_af_packet")) return std::max<uint16_t>(most, 1);
  // Both ends of memif and of a ring have to have as many, and the other one does not say.
  if (is("net_memif") || is("net_ring")) return 1;
  return std::clamp<uint16_t>(wanted, 1, std::max<uint16_t>(most, 1));
}

bool SetUpQueue(DpdkPort* port, uint16_t index, uint32_t receiving, uint16_t receive_ring,
                uint16_t send_ring) {
  const uint16_t number = port->number;
  const DpdkQueue& queue = port->queues[index];
  const int node = rte_eth_dev_socket_id(number);
  const auto socket = static_cast<unsigned>(node < 0 ? 0 : node);
  port->facts.frames = receiving - receive_ring - kBurst;
  return rte_eth_rx_queue_setup(number, index, receive_ring, socket, nullptr, queue.receiving) ==
             0 &&
         rte_eth_tx_queue_setup(number, index, send_ring, socket, nullptr) == 0;
}

// Null, or what failed.
const char* Configure(DpdkPort* port, uint16_t wanted_queues) {
  const uint16_t number = port->number;
  DpdkFacts& facts = port->facts;
  rte_eth_dev_info info;
  if (rte_eth_dev_info_get(number, &info) != 0) return "its description";
  port->attaching = AttachingOf(facts, info);
  port->device = info.device;
  const uint16_t count = QueuesOf(facts, info, wanted_queues);
  rte_eth_conf conf = {};
  conf.rxmode.mtu = facts.mtu;
  conf.txmode.offloads = info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
  const uint64_t spread = info.flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP);
  if (count > 1 && spread != 0) {  // by address and port, so that a path keeps to a queue
    conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    conf.rx_adv_conf.rss_conf.rss_hf = spread;
  }
  if (rte_eth_dev_configure(number, count, count, &conf) != 0) {
    // memif has no MTU of its own, and takes what fits its buffers (bsize).
    if (std::strcmp(facts.driver, "net_memif") != 0) return "its queues";
    conf.rxmode.mtu = 0;
    if (rte_eth_dev_configure(number, count, count, &conf) != 0) return "its queues";
  }
  // A multiple of 1 KiB, as memif's buffers usually are: one that is not smaller is filled at once.
  const size_t room = std::max<size_t>(
      (facts.mtu + RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN + 1023) / 1024 * 1024, 2048);
  uint16_t receive_ring = kRing, send_ring = kRing;
  rte_eth_dev_adjust_nb_rx_tx_desc(number, &receive_ring, &send_ring);
  // Together they have as many as one alone, and each what its ring takes twice.
  const uint32_t receiving =
      std::max<uint32_t>((facts.mtu > 4096 ? 4096 : 8192) / count, 2u * receive_ring + kBurst);
  const uint32_t sending = 2u * send_ring + 512;
  std::vector<DpdkQueue> made(count);
  for (size_t index = 0; index < count; ++index) {
    DpdkQueue& queue = made[index];
    queue.receiving = MakePool("rx", number, index, receiving, room);
    queue.sending = MakePool("tx", number, index, sending, room);
    if (queue.receiving == nullptr || queue.sending == nullptr) return "memory for its frames";
    if (port->attaching == Attaching::kNone) continue;
    queue.bodies = MakePool("body", number, index, sending, 0);
    if (queue.bodies == nullptr) port->attaching = Attaching::kNone;
  }
  port->queues = std::move(made);
  facts.queues = count;
  for (uint16_t index = 0; index < count; ++index) {
    if (SetUpQueue(port, index, receiving, receive_ring, send_ring)) continue;
    port->queues.clear();
    return "its queues";
  }
  return nullptr;
}

bool IsUp(uint16_t port) {
  rte_eth_link link = {};
  return rte_eth_link_get_nowait(port, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

// Whether the arguments make it a client of memif, which has a server.
bool IsMemifClient(const DpdkPort& port) {
  if (std::strcmp(port.facts.driver, "net_memif") != 0) return false;
  for (const std::string& word : Arguments()) {
    const size_t name = word.find(port.facts.name);
    if (name != std::string::npos) return word.find("role=server", name) == std::string::npos;
  }
  return true;
}

// 0, or a negative errno. The driver of memif connects once, when a client is started, and a server
// that is not ready yet turns it away: then it is started again.
int Start(const DpdkPort& port) {
  if (!IsMemifClient(port)) return rte_eth_dev_start(port.number);
  const auto pause = [] { std::this_thread::sleep_for(std::chrono::milliseconds(10)); };
  for (int turn = 0; turn < 50; ++turn) {
    const int result = rte_eth_dev_start(port.number);
    for (int look = 0; look < 10 && result == 0; ++look) {
      if (IsUp(port.number)) return 0;
      pause();
    }
    if (result == 0) rte_eth_dev_stop(port.number);
    for (int look = 0; look < 10 && result != 0; ++look) pause();
  }
  return -ETIMEDOUT;
}

void* Open(int index, uint16_t mtu, uint16_t queues, DpdkFacts* facts, char* error,
           size_t error_bytes) {
  static std::mutex mutex;
  static auto* const ports = new std::map<int, DpdkPort>;
  const std::lock_guard<std::mutex> lock(mutex);
  DpdkPort& port = (*ports)[index];
  const char* failed = nullptr;
  if (port.queues.empty()) {
    if (!Look(index, &port.facts)) {
      Say("DPDK has no port " + std::to_string(index), error, error_bytes);
      return nullptr;
    }
    port.number = static_cast<uint16_t>(NumberOf(index));
    if (mtu != 0) port.facts.mtu = mtu;
    failed = Configure(&port, queues);
  }
  int started = 0;
  if (failed == nullptr && !port.started && (started = Start(port)) != 0) failed = "its start";
  if (failed != nullptr) {
    const int number = started != 0 ? -started : rte_errno;
    Say(std::string("DPDK's port ") + port.facts.name + " fails at " + failed + ": " +
            rte_strerror(number) +
            "; huge pages (vm.nr_hugepages), HARP_DPDK_MTU, and for a client of memif its server "
            "are what to look at" +
            LastWords(),
        error, error_bytes);
    return nullptr;
  }
  // Memory can be taken back from a device only where it can be asked what it has sent.
  if (!port.started && port.attaching == Attaching::kMapped &&
      rte_eth_tx_done_cleanup(port.number, 0, 0) < 0) {
    port.attaching = Attaching::kNone;
  }
  port.started = true;
  rte_eth_promiscuous_enable(port.number);  // virtual ones have no filter to be asked
  *facts = port.facts;
  return &port;
}

// It stays started until the process ends. Stopping it would gain nothing, and the driver of memif
// unmaps its memory at the other end too, whoever polls there.
void Close(void*) {}

size_t Receive(void* opened, size_t queue, FrameDevice::Frame* frames, size_t most) {
  const auto* const port = static_cast<const DpdkPort*>(opened);
  rte_mbuf* mbufs[kBurst];
  const uint16_t count = rte_eth_rx_burst(port->number, static_cast<uint16_t>(queue), mbufs,
                                          static_cast<uint16_t>(std::min<size_t>(most, kBurst)));
  size_t given = 0;
  for (uint16_t index = 0; index < count; ++index) {
    rte_mbuf* const mbuf = mbufs[index];
    if (mbuf->nb_segs != 1 && rte_pktmbuf_linearize(mbuf) != 0) {
      rte_pktmbuf_free(mbuf);
      continue;
    }
    frames[given].bytes = rte_pktmbuf_mtod(mbuf, const uint8_t*);
    frames[given].size = mbuf->data_len;
    frames[given++].handle = reinterpret_cast<uint64_t>(mbuf);
  }
  return given;
}

void GiveBack(void*, const uint64_t* handles, size_t count) {
  rte_mbuf* mbufs[kBurst];
  for (size_t begin = 0; begin < count; begin += kBurst) {
    const size_t size = std::min<size_t>(count - begin, kBurst);
    for (size_t index = 0; index < size; ++index) {
      mbufs[index] = reinterpret_cast<rte_mbuf*>(handles[begin + index]);
    }
    rte_pktmbuf_free_bulk(mbufs, static_cast<unsigned>(size));
  }
}

uint8_t* Borrow(void* opened, size_t queue, size_t size, uint64_t* handle) {
  const auto* const port = static_cast<const DpdkPort*>(opened);
  rte_mbuf* const mbuf = rte_pktmbuf_alloc(port->queues[queue].receiving);
  if (mbuf == nullptr) return nullptr;
  char* const room = rte_pktmbuf_append(mbuf, static_cast<uint16_t>(size));
  if (room == nullptr) {
    rte_pktmbuf_free(mbuf);
    return nullptr;
  }
  *handle = reinterpret_cast<uint64_t>(mbuf);
  return reinterpret_cast<uint8_t*>(room);
}

// Returns how many bytes of the packet were copied.
uint32_t Fill(DpdkPort* port, DpdkQueue* queue, const FrameDevice::Pieces& pieces, rte_mbuf* mbuf) {
  auto* room = rte_pktmbuf_mtod(mbuf, uint8_t*);
  std::memcpy(room, pieces.header, pieces.header_bytes);
  room += pieces.header_bytes;
  if (pieces.head_bytes != 0) std::memcpy(room, pieces.head, pieces.head_bytes);
  room += pieces.head_bytes;
  mbuf->pkt_len = pieces.size();
  if (rte_mbuf* const body = Attach(port, queue, pieces); body != nullptr) {
    mbuf->data_len = static_cast<uint16_t>(pieces.header_bytes + pieces.head_bytes);
    mbuf->next = body;
    mbuf->nb_segs = 2;
    return pieces.head_bytes;
  }
  if (pieces.body_bytes != 0) std::memcpy(room, pieces.body, pieces.body_bytes);
  mbuf->data_len = static_cast<uint16_t>(pieces.size());
  return pieces.packet_bytes();
}

size_t Send(void* opened, size_t index, const FrameDevice::Pieces* frames, size_t count,
            uint64_t* copied) {
  auto* const port = static_cast<DpdkPort*>(opened);
  DpdkQueue* const queue = &port->queues[index];
  rte_mbuf* mbufs[kBurst];
  uint32_t copies[kBurst];
  const auto most = static_cast<uint16_t>(std::min<size_t>(count, kBurst));
  if (most == 0 || rte_pktmbuf_alloc_bulk(queue->sending, mbufs, most) != 0) return 0;
  for (uint16_t each = 0; each < most; ++each) {
    copies[each] = Fill(port, queue, frames[each], mbufs[each]);
  }
  const uint16_t sent = rte_eth_tx_burst(port->number, static_cast<uint16_t>(index), mbufs, most);
  if (sent < most) rte_pktmbuf_free_bulk(mbufs + sent, static_cast<unsigned>(most - sent));
  for (uint16_t each = 0; each < sent; ++each) *copied += copies[each];
  return sent;
}

constexpr DpdkLibrary kLibrary = {
    kDpdkLibraryVersion, Begin,        Look, Open, Close, Receive, GiveBack, Borrow,
    AddMemory,           RemoveMemory, Send};

}  // namespace
}  // namespace harp
}  // namespace taco

extern "C" __attribute__((visibility("default"))) const taco::harp::DpdkLibrary* taco_harp_dpdk() {
  return &taco::harp::kLibrary;
}

#endif  // TACO_WITHOUT_DPDK
