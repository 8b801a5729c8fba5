#ifndef TACO_WITHOUT_DPDK

// rte_dev_dma_map, which is no promise of DPDK's yet.
#define ALLOW_EXPERIMENTAL_API
#include "nccl_plugin/io/dpdk_port.h"

#include <rte_eal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

namespace taco {
namespace harp {
namespace {

constexpr uint32_t kLeastAttached = 256;  // bytes of a body that is not copied

// Mbufs are freed by who sends, and nobody does while this is asked.
bool IsInUse(const DpdkPort& port, const AttachedMemory& memory) {
  return rte_mbuf_ext_refcnt_read(&memory.shared) > port.idle_users();
}

// Makes it known to the device. False: that cannot be.
bool MapMemory(const DpdkPort& port, AttachedMemory* memory) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(memory->begin) / page * page;
  const auto end = (reinterpret_cast<uintptr_t>(memory->begin) + memory->size + page - 1) / page;
  memory->pages = reinterpret_cast<void*>(begin);
  memory->page_bytes = end * page - begin;
  if (rte_extmem_register(memory->pages, memory->page_bytes, nullptr, 0, page) != 0) return false;
  if (rte_dev_dma_map(port.device, memory->pages, begin, memory->page_bytes) == 0) return true;
  rte_extmem_unregister(memory->pages, memory->page_bytes);
  return false;
}

void UnmapMemory(const DpdkPort& port, const AttachedMemory& memory) {
  if (memory.pages == nullptr) return;
  rte_dev_dma_unmap(port.device, memory.pages, reinterpret_cast<uintptr_t>(memory.pages),
                    memory.page_bytes);
  rte_extmem_unregister(memory.pages, memory.page_bytes);
}

// The first that begins behind an address.
auto Behind(DpdkPort* port, const uint8_t* address) {
  return std::upper_bound(
      port->memory.begin(), port->memory.end(), address,
      [](const uint8_t* bytes, const auto& each) { return bytes < each->begin; });
}

// The memory of a body, if it may be attached.
AttachedMemory* FindMemory(DpdkPort* port, DpdkQueue* queue, const FrameDevice::Pieces& pieces) {
  if (port->memory.empty() || pieces.body_bytes < kLeastAttached) return nullptr;
  if (queue->last != nullptr && queue->last->Holds(pieces.body, pieces.body_bytes)) {
    return queue->last;
  }
  const auto behind = Behind(port, pieces.body);
  if (behind == port->memory.begin()) return nullptr;
  AttachedMemory* const memory = std::prev(behind)->get();
  if (!memory->Holds(pieces.body, pieces.body_bytes)) return nullptr;
  return queue->last = memory;
}

}  // namespace

Attaching AttachingOf(const DpdkFacts& facts, const rte_eth_dev_info& info) {
  const auto is = [&](const char* driver) { return std::strcmp(facts.driver, driver) == 0; };
  if (is("net_memif")) return Attaching::kAtOnce;  // it walks chains, whatever it says
  if ((info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) == 0 || is("net_ring")) {
    return Attaching::kNone;
  }
  if (is("net_af_packet") || is("net_tap")) return Attaching::kAtOnce;
  // A device reads by itself, so an address of ours has to be one of its own.
  return rte_eal_iova_mode() == RTE_IOVA_VA ? Attaching::kMapped : Attaching::kNone;
}

void* AddMemory(void* opened, const void* bytes, size_t size) {
  auto* const port = static_cast<DpdkPort*>(opened);
  if (port->attaching == Attaching::kNone || size < kLeastAttached) return nullptr;
  const auto* const begin = static_cast<const uint8_t*>(bytes);
  for (const auto& each : port->memory) {
    if (each->begin != begin || each->size != size) continue;
    ++each->added;
    return each.get();
  }
  auto made = std::make_unique<AttachedMemory>();
  made->begin = begin;
  made->size = size;
  made->added = 1;
  made->shared.free_cb = [](void*, void*) {};
  rte_mbuf_ext_refcnt_set(&made->shared, port->idle_users());
  if (port->attaching == Attaching::kMapped && !MapMemory(*port, made.get())) return nullptr;
  return port->memory.insert(Behind(port, begin), std::move(made))->get();
}

bool RemoveMemory(void* opened, void* added) {
  auto* const port = static_cast<DpdkPort*>(opened);
  const auto take = [&](std::vector<std::unique_ptr<AttachedMemory> >* all) {
    const auto found = std::find_if(all->begin(), all->end(),
                                    [&](const auto& each) { return each.get() == added; });
    std::unique_ptr<AttachedMemory> taken;
    if (found != all->end()) {
      taken = std::move(*found);
      all->erase(found);
    }
    return taken;
  };
  auto* const memory = static_cast<AttachedMemory*>(added);
  if (memory->added > 1) {
    --memory->added;
    return true;
  }
  std::unique_ptr<AttachedMemory> mine = take(&port->memory);
  if (mine == nullptr) mine = take(&port->leaving);
  for (DpdkQueue& queue : port->queues) {
    if (queue.last == memory) queue.last = nullptr;
  }
  // What the driver has sent it may not have freed yet.
  for (uint16_t queue = 0; queue < port->queues.size() && IsInUse(*port, *memory); ++queue) {
    rte_eth_tx_done_cleanup(port->number, queue, 0);
  }
  if (IsInUse(*port, *memory)) {
    port->leaving.push_back(std::move(mine));
    return false;
  }
  UnmapMemory(*port, *memory);
  return true;
}

rte_mbuf* Attach(DpdkPort* port, DpdkQueue* queue, const FrameDevice::Pieces& pieces) {
  AttachedMemory* const memory = FindMemory(port, queue, pieces);
  if (memory == nullptr) return nullptr;
  if (queue->spare_count == 0) {
    if (rte_pktmbuf_alloc_bulk(queue->bodies, queue->spare, kBurst) != 0) return nullptr;
    queue->spare_count = kBurst;
  }
  rte_mbuf* const mbuf = queue->spare[--queue->spare_count];
  auto* const body = const_cast<uint8_t*>(pieces.body);  // it is read alone
  const auto bytes = static_cast<uint16_t>(pieces.body_bytes);
  rte_mbuf_ext_refcnt_update(&memory->shared, 1);
  rte_pktmbuf_attach_extbuf(mbuf, body, reinterpret_cast<rte_iova_t>(body), bytes, &memory->shared);
  mbuf->data_len = bytes;
  return mbuf;
}

}  // namespace harp
}  // namespace taco

#endif  // TACO_WITHOUT_DPDK
