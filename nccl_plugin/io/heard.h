// Whom a frame must name to reach an address, as it was heard: by ARP for IPv4, by neighbour
// discovery for IPv6.
#ifndef NCCL_PLUGIN_IO_HEARD_H_
#define NCCL_PLUGIN_IO_HEARD_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "nccl_plugin/io/frame.h"

namespace taco {
namespace harp {

// One thread writes at a time; any number read meanwhile.
class HeardTable {
 public:
  static constexpr size_t kSlots = 1024;
  using Address = std::array<uint8_t, 16>;  // as an Endpoint's; of one family in a table

  // False: there is no room. An address that is known is given its new neighbour.
  bool Learn(const Address& address, const Mac& mac);
  bool Find(const Address& address, Mac* mac) const;

 private:
  // Open addressing. An address, once there, stays where it is, and its neighbour is one word with
  // a bit that says that there is one: written last, and read first.
  struct Slot {
    std::atomic<uint64_t> address[2] = {};
    std::atomic<uint64_t> mac{0};
  };
  std::array<Slot, kSlots> slots_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_HEARD_H_
