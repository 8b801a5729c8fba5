// A port of DPDK, and memory whose bytes are sent from where they lie: mbufs are attached to it,
// each of which counts as one of its users until the driver has freed it. Within libharp-dpdk.so.
#ifndef NCCL_PLUGIN_IO_DPDK_PORT_H_
#define NCCL_PLUGIN_IO_DPDK_PORT_H_

#include <rte_config.h>  // DPDK's headers believe that it is there
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "nccl_plugin/io/dpdk_library.h"

namespace taco {
namespace harp {

constexpr uint16_t kBurst = 64;

// How bodies may be sent from where they lie.
enum class Attaching {
  kNone,
  kAtOnce,  // the driver reads them with the processor, and is done with them when it has sent
  kMapped,  // the device reads them, from memory that is mapped for it
};

// Memory whose bodies are attached to mbufs, each of which counts as one of its users until the
// driver frees it.
struct AttachedMemory {
  const uint8_t* begin = nullptr;
  size_t size = 0;
  int added = 0;  // so often
  // For kMapped: its pages.
  void* pages = nullptr;
  size_t page_bytes = 0;
  rte_mbuf_ext_shared_info shared = {};

  bool Holds(const uint8_t* bytes, size_t count) const {
    return bytes >= begin && count <= size && static_cast<size_t>(bytes - begin) <= size - count;
  }
};

// A queue to receive by and one to send by, with pools of their own, so that threads share none.
struct alignas(64) DpdkQueue {
  rte_mempool* receiving = nullptr;
  // Of who sends.
  rte_mempool* sending = nullptr;
  rte_mempool* bodies = nullptr;  // mbufs without room
  rte_mbuf* spare[kBurst];        // of these
  unsigned spare_count = 0;
  AttachedMemory* last = nullptr;  // in which a body was found
};

// One port, which stays configured and started once it was opened.
struct DpdkPort {
  uint16_t number = 0;
  DpdkFacts facts = {};
  std::vector<DpdkQueue> queues;  // empty: it is not configured
  bool started = false;
  Attaching attaching = Attaching::kNone;
  rte_device* device = nullptr;
  // Of who keeps all sending to itself; who sends reads it.
  std::vector<std::unique_ptr<AttachedMemory> > memory;   // in the order of their addresses
  std::vector<std::unique_ptr<AttachedMemory> > leaving;  // removed, and still to be sent from

  // Users of memory that nothing is sent from. DPDK counts the second one in a way that allows for
  // one thread alone.
  uint16_t idle_users() const { return queues.size() > 1 ? 2 : 1; }
};

// What this port's driver can do: chains of mbufs at least. Of net_ring the other end gets the
// mbufs themselves, and would read what is not there any more.
Attaching AttachingOf(const DpdkFacts& facts, const rte_eth_dev_info& info);

// As FrameDevice's; `opened` is a DpdkPort.
void* AddMemory(void* opened, const void* bytes, size_t size);
bool RemoveMemory(void* opened, void* added);

// An mbuf whose bytes are the body's own; null: it has to be copied.
rte_mbuf* Attach(DpdkPort* port, DpdkQueue* queue, const FrameDevice::Pieces& pieces);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_DPDK_PORT_H_
