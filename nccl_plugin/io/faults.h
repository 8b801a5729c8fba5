// Packets that are lost, doubled and changed on purpose, before they are sent: so that a whole
// stack can be tested, and measured, on a bad network that this machine does not have.
#ifndef NCCL_PLUGIN_IO_FAULTS_H_
#define NCCL_PLUGIN_IO_FAULTS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "nccl_plugin/io/packet_io.h"

namespace taco {
namespace harp {

// Parts of all packets; their sum is at most 1.
struct Faults {
  double loss = 0;
  double duplicate = 0;
  double corrupt = 0;  // one bit
  uint64_t seed = 1;

  bool any() const { return loss + duplicate + corrupt > 0; }
};

// Reads "loss=0.01,duplicate=0.001,corrupt=0.001,seed=7", in any order. False, and a sentence: it
// is no such text.
bool ParseFaults(const std::string& text, Faults* faults, std::string* error);

// `io`, behind such faults.
std::unique_ptr<PacketIo> WithFaults(std::unique_ptr<PacketIo> io, const Faults& faults);

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_IO_FAULTS_H_
