// What one process shows the others of its machine: bells that they ring, and for each of them a
// ring of descriptors of messages that it has for this process. No message's bytes are in it.
//
//   header    | magic, version, members, token, ended |
//   bells     | value, waiters | x kBells, a cache line each
//   inboxes   | posted | state, tag, address, bytes | x kSlots |   x members, by who sends
//
// All of it is memory that other processes of the same user can write: who reads it trusts nothing
// but what it checks.
#ifndef TORCH_EXT_CMA_SEGMENT_H_
#define TORCH_EXT_CMA_SEGMENT_H_

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "torch_ext/base/status.h"

namespace taco {
namespace cma {

constexpr uint32_t kVersion = 1;
// Threads of a process wait by tag: as many bells as keep unlike tags apart. Two levels in two
// lanes have ten tags.
constexpr int kBells = 32;
// Messages under way from one process to another before a sender keeps the rest back. A ring of two
// has 100 pieces of 512 KiB for 100 MB.
constexpr uint32_t kSlots = 1024;

// How a process's part in the exchange ended. 0 while it goes on.
enum class End : uint32_t { kNone = 0, kClosed, kTimedOut, kFailed };

struct alignas(64) Bell {
  std::atomic<uint32_t> value;
  std::atomic<uint32_t> waiters;
};

struct Slot {
  enum State : uint32_t { kFree = 0, kPosted, kDone, kWrongLength, kUnreadable };
  std::atomic<uint32_t> state;
  int32_t tag;
  uint64_t address;  // in the sender's memory
  uint64_t bytes;
};

struct alignas(64) Inbox {
  std::atomic<uint32_t> posted;  // descriptors ever written; wraps
  Slot slots[kSlots];
};

struct Header {
  uint64_t magic;
  uint64_t token[2];  // random: a segment is not taken for another
  uint32_t version;
  uint32_t members;
  std::atomic<uint32_t> ended;
};

static_assert(std::atomic<uint32_t>::is_always_lock_free, "shared between processes");
static_assert(sizeof(Header) <= 64 && sizeof(Bell) == 64 && sizeof(Slot) == 24, "laid out alike");

// A mapping of a segment, one's own or another process's.
class Segment {
 public:
  Segment() = default;
  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  // Makes one for `members` processes: memory without a file, which nobody can shrink.
  base::Status Create(int members, const uint64_t token[2]);
  // Maps that of another process by its number of the file. InvalidArgument: it cannot be opened,
  // or is not the one that the token names.
  base::Status Open(pid_t process, int file, int members, const uint64_t token[2]);
  // Others can open it until then.
  void CloseFile();

  bool mapped() const { return memory_ != nullptr; }
  int file() const { return file_; }
  Header& header() const { return *static_cast<Header*>(memory_); }
  Bell& bell(int32_t tag) const;
  Inbox& inbox(int from) const;

  // Wakes whoever waits for this tag in the process that the segment belongs to.
  void Ring(int32_t tag) const;
  void RingAll() const;

 private:
  base::Status Map(int members);

  void* memory_ = nullptr;
  size_t bytes_ = 0;
  int file_ = -1;
};

}  // namespace cma
}  // namespace taco

#endif  // TORCH_EXT_CMA_SEGMENT_H_
