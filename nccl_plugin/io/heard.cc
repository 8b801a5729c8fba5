#include "nccl_plugin/io/heard.h"

#include <cstring>

namespace taco {
namespace harp {
namespace {

constexpr uint64_t kThere = uint64_t{1} << 48;

struct Key {
  explicit Key(const HeardTable::Address& address) {
    std::memcpy(words, address.data(), sizeof(words));
    first = ((words[0] * 0x9e3779b97f4a7c15u) ^ words[1]) * 0x9e3779b97f4a7c15u >> 54;
  }
  static_assert(HeardTable::kSlots == 1 << 10, "the hash has ten bits");
  uint64_t words[2];
  size_t first;
};

}  // namespace

bool HeardTable::Learn(const Address& address, const Mac& mac) {
  const Key key(address);
  uint64_t word = 0;
  std::memcpy(&word, mac.data(), mac.size());
  for (size_t turn = 0; turn < kSlots; ++turn) {
    Slot& slot = slots_[(key.first + turn) % kSlots];
    const bool free = slot.mac.load(std::memory_order_relaxed) == 0;
    bool same = true;
    for (int half = 0; half < 2; ++half) {
      if (free) slot.address[half].store(key.words[half], std::memory_order_relaxed);
      same = same && slot.address[half].load(std::memory_order_relaxed) == key.words[half];
    }
    if (!same) continue;
    slot.mac.store(kThere | word, std::memory_order_release);
    return true;
  }
  return false;
}

bool HeardTable::Find(const Address& address, Mac* mac) const {
  const Key key(address);
  for (size_t turn = 0; turn < kSlots; ++turn) {
    const Slot& slot = slots_[(key.first + turn) % kSlots];
    const uint64_t word = slot.mac.load(std::memory_order_acquire);
    if (word == 0) return false;
    if (slot.address[0].load(std::memory_order_relaxed) != key.words[0] ||
        slot.address[1].load(std::memory_order_relaxed) != key.words[1]) {
      continue;
    }
    std::memcpy(mac->data(), &word, mac->size());
    return true;
  }
  return false;
}

}  // namespace harp
}  // namespace taco
