#include "torch_ext/cma/segment.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <string>

namespace taco {
namespace cma {
namespace {

constexpr uint64_t kMagic = 0x7461636f2d636d61;  // "taco-cma"

size_t SizeFor(int members) {
  return sizeof(Bell) + sizeof(Bell) * kBells + sizeof(Inbox) * static_cast<size_t>(members);
}

std::string Because() { return std::string(" (") + std::strerror(errno) + ")"; }

}  // namespace

Segment::~Segment() {
  if (memory_ != nullptr) munmap(memory_, bytes_);
  CloseFile();
}

void Segment::CloseFile() {
  if (file_ >= 0) close(file_);
  file_ = -1;
}

base::Status Segment::Map(int members) {
  bytes_ = SizeFor(members);
  void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
  if (memory == MAP_FAILED) {
    return base::ResourceExhausted("shared memory cannot be mapped" + Because());
  }
  memory_ = memory;
  return base::OkStatus();
}

base::Status Segment::Create(int members, const uint64_t token[2]) {
  file_ = memfd_create("taco-cma", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (file_ < 0 || ftruncate(file_, static_cast<off_t>(SizeFor(members))) != 0) {
    return base::ResourceExhausted("shared memory cannot be made" + Because());
  }
  // Nobody can cut it short: a mapping that reaches beyond its end would kill who reads there.
  if (fcntl(file_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return base::ResourceExhausted("shared memory cannot be sealed" + Because());
  }
  const base::Status mapped = Map(members);
  if (!mapped.ok()) return mapped;
  header().magic = kMagic;
  header().version = kVersion;
  header().members = static_cast<uint32_t>(members);
  std::memcpy(header().token, token, sizeof(header().token));
  return base::OkStatus();
}

base::Status Segment::Open(pid_t process, int file, int members, const uint64_t token[2]) {
  const std::string path = "/proc/" + std::to_string(process) + "/fd/" + std::to_string(file);
  file_ = open(path.c_str(), O_RDWR | O_CLOEXEC);
  struct stat found;
  if (file_ < 0 || fstat(file_, &found) != 0) {
    return base::InvalidArgument("its shared memory cannot be opened" + Because());
  }
  const int seals = fcntl(file_, F_GET_SEALS);
  if (static_cast<size_t>(found.st_size) != SizeFor(members) || seals < 0 ||
      (seals & F_SEAL_SHRINK) == 0) {
    return base::InvalidArgument("what it calls its shared memory is something else");
  }
  const base::Status mapped = Map(members);
  if (!mapped.ok()) return mapped;
  CloseFile();
  if (header().magic != kMagic || header().version != kVersion ||
      header().members != static_cast<uint32_t>(members) ||
      std::memcmp(header().token, token, sizeof(header().token)) != 0) {
    return base::InvalidArgument("its shared memory is another process's, or of another version");
  }
  return base::OkStatus();
}

Bell& Segment::bell(int32_t tag) const {
  auto* bells = reinterpret_cast<Bell*>(static_cast<char*>(memory_) + sizeof(Bell));
  return bells[static_cast<uint32_t>(tag) % kBells];
}

Inbox& Segment::inbox(int from) const {
  auto* bells = reinterpret_cast<Bell*>(static_cast<char*>(memory_) + sizeof(Bell));
  return reinterpret_cast<Inbox*>(bells + kBells)[from];
}

void Segment::Ring(int32_t tag) const {
  Bell& bell = this->bell(tag);
  // In this order, as the other side counts itself before it compares the value: one of the two
  // sees the other.
  bell.value.fetch_add(1, std::memory_order_seq_cst);
  if (bell.waiters.load(std::memory_order_seq_cst) != 0) {
    syscall(SYS_futex, &bell.value, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  }
}

void Segment::RingAll() const {
  for (int32_t tag = 0; tag < kBells; ++tag) Ring(tag);
}

}  // namespace cma
}  // namespace taco
