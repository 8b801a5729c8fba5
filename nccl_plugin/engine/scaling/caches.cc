#include "nccl_plugin/engine/scaling/caches.h"

#include <algorithm>
#include <array>
#include <memory>
#include <unordered_map>
#include <vector>

namespace taco {
namespace harp {
namespace {

constexpr uint64_t kLine = 64;

template <size_t kSets, size_t kWays>
class Cache {
 public:
  // Whether it is there; then it is the one used last.
  bool Touch(uint64_t line, uint64_t time) {
    for (Way& way : sets_[line % kSets]) {
      if (way.line != line) continue;
      way.used = time;
      return true;
    }
    return false;
  }
  // Returns the line that had to go, or 0.
  uint64_t Put(uint64_t line, uint64_t time) {
    auto& set = sets_[line % kSets];
    Way& oldest = *std::min_element(set.begin(), set.end(), [](const Way& one, const Way& other) {
      return one.used < other.used;
    });
    const uint64_t gone = oldest.line;
    oldest = {line, time};
    return gone;
  }
  void Drop(uint64_t line) {
    for (Way& way : sets_[line % kSets]) {
      if (way.line == line) way = Way();
    }
  }

 private:
  struct Way {
    uint64_t line = 0;  // none
    uint64_t used = 0;
  };
  std::array<std::array<Way, kWays>, kSets> sets_ = {};
};

struct Processor {
  Cache<64, 12> first;
  Cache<1024, 16> second;
  CacheCounts counts;
};

// Bits: processors.
struct Line {
  uint64_t has = 0;
  uint64_t lost = 0;  // because another one wrote it
};

struct Machine {
  std::vector<std::unique_ptr<Processor>> processors =
      std::vector<std::unique_ptr<Processor>>(kMostProcessors);
  std::unordered_map<uint64_t, Line> lines;
  uint64_t time = 0;

  Processor& At(int processor) {
    auto& mine = processors[processor];
    if (mine == nullptr) mine = std::make_unique<Processor>();
    return *mine;
  }

  void Take(uint64_t number, Line* line, uint64_t from, bool written) {
    for (int other = 0; other < kMostProcessors; ++other) {
      if ((from >> other & 1) == 0) continue;
      At(other).first.Drop(number);
      At(other).second.Drop(number);
    }
    line->has &= ~from;
    if (written) line->lost |= from;
  }

  void Access(int processor, uint64_t number, bool writes) {
    Processor& mine = At(processor);
    const uint64_t bit = uint64_t{1} << processor;
    ++time;
    ++mine.counts.accesses;
    if (mine.first.Touch(number, time)) {
      mine.second.Touch(number, time);
      if (!writes) return;
    }
    Line& line = lines[number];
    if ((line.has & bit) == 0) {
      ++mine.counts.first_misses;
      ++mine.counts.second_misses;
      if ((line.lost & bit) != 0) ++mine.counts.taken;
      line.lost &= ~bit;
      Fill(&mine, number, bit, &line);
    } else if (!mine.first.Touch(number, time)) {
      ++mine.counts.first_misses;
      mine.second.Touch(number, time);
      mine.first.Put(number, time);
    }
    if (writes && (line.has & ~bit) != 0) {
      ++mine.counts.upgrades;
      Take(number, &line, line.has & ~bit, true);
    }
  }

  void Fill(Processor* mine, uint64_t number, uint64_t bit, Line* line) {
    line->has |= bit;
    mine->first.Put(number, time);
    // What leaves the second level leaves the first.
    const uint64_t gone = mine->second.Put(number, time);
    if (gone == 0) return;
    mine->first.Drop(gone);
    lines[gone].has &= ~bit;
  }
};

Machine* machine = new Machine;
int playing = -1;

void Access(const void* address, size_t size, bool writes) {
  if (playing < 0 || size == 0) return;
  const int processor = playing;
  playing = -1;  // what the model does is not watched
  const auto begin = reinterpret_cast<uint64_t>(address);
  for (uint64_t line = begin / kLine; line <= (begin + size - 1) / kLine; ++line) {
    machine->Access(processor, line, writes);
  }
  playing = processor;
}

}  // namespace

void PlayProcessor(int processor) { playing = processor; }

void WrittenByDevice(const void* bytes, size_t size) {
  const Unwatched unwatched;
  const auto begin = reinterpret_cast<uint64_t>(bytes);
  for (uint64_t line = begin / kLine; size != 0 && line <= (begin + size - 1) / kLine; ++line) {
    const auto known = machine->lines.find(line);
    if (known == machine->lines.end()) continue;
    machine->Take(line, &known->second, known->second.has, false);
    known->second.lost = 0;
  }
}

CacheCounts CountsOf(int processor) { return machine->At(processor).counts; }

void ForgetCaches() {
  delete machine;
  machine = new Machine;
}

Unwatched::Unwatched() : before_(playing) { playing = -1; }
Unwatched::~Unwatched() { playing = before_; }

}  // namespace harp
}  // namespace taco

using taco::harp::Access;

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void** at, void*) { Access(at, sizeof(*at), true); }
void __tsan_vptr_read(void** at) { Access(at, sizeof(*at), false); }
void __tsan_read_range(void* at, unsigned long size) { Access(at, size, false); }
void __tsan_write_range(void* at, unsigned long size) { Access(at, size, true); }

#define TACO_ACCESS(size)                                                \
  void __tsan_read##size(void* at) { Access(at, size, false); }          \
  void __tsan_write##size(void* at) { Access(at, size, true); }          \
  void __tsan_volatile_read##size(void* at) { Access(at, size, false); } \
  void __tsan_volatile_write##size(void* at) { Access(at, size, true); }
TACO_ACCESS(1)
TACO_ACCESS(2)
TACO_ACCESS(4)
TACO_ACCESS(8)
TACO_ACCESS(16)
#undef TACO_ACCESS

#define TACO_UNALIGNED(size)                                              \
  void __tsan_unaligned_read##size(void* at) { Access(at, size, false); } \
  void __tsan_unaligned_write##size(void* at) { Access(at, size, true); }
TACO_UNALIGNED(2)
TACO_UNALIGNED(4)
TACO_UNALIGNED(8)
TACO_UNALIGNED(16)
#undef TACO_UNALIGNED

// Of atomics those that the code has: the linker names what is missing.
#define TACO_ATOMIC(bits, type)                                                                    \
  type __tsan_atomic##bits##_load(const volatile type* at, int) {                                  \
    Access(const_cast<type*>(at), sizeof(type), false);                                            \
    return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                                  \
  }                                                                                                \
  void __tsan_atomic##bits##_store(volatile type* at, type value, int) {                           \
    Access(const_cast<type*>(at), sizeof(type), true);                                             \
    __atomic_store_n(at, value, __ATOMIC_SEQ_CST);                                                 \
  }                                                                                                \
  type __tsan_atomic##bits##_exchange(volatile type* at, type value, int) {                        \
    Access(const_cast<type*>(at), sizeof(type), true);                                             \
    return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);                                       \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_add(volatile type* at, type value, int) {                       \
    Access(const_cast<type*>(at), sizeof(type), true);                                             \
    return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);                                        \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_sub(volatile type* at, type value, int) {                       \
    Access(const_cast<type*>(at), sizeof(type), true);                                             \
    return __atomic_fetch_sub(at, value, __ATOMIC_SEQ_CST);                                        \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile type* at, type* expected, type value, \
                                                    int, int) {                                    \
    Access(const_cast<type*>(at), sizeof(type), true);                                             \
    return __atomic_compare_exchange_n(at, expected, value, false, __ATOMIC_SEQ_CST,               \
                                       __ATOMIC_SEQ_CST);                                          \
  }
TACO_ATOMIC(8, unsigned char)
TACO_ATOMIC(32, unsigned int)
TACO_ATOMIC(64, unsigned long)
#undef TACO_ATOMIC

void* __real_memcpy(void* to, const void* from, size_t size);
void* __wrap_memcpy(void* to, const void* from, size_t size) {
  Access(from, size, false);
  Access(to, size, true);
  return __real_memcpy(to, from, size);
}
void* __real_memmove(void* to, const void* from, size_t size);
void* __wrap_memmove(void* to, const void* from, size_t size) {
  Access(from, size, false);
  Access(to, size, true);
  return __real_memmove(to, from, size);
}
void* __real_memset(void* to, int value, size_t size);
void* __wrap_memset(void* to, int value, size_t size) {
  Access(to, size, true);
  return __real_memset(to, value, size);
}

}  // extern "C"
