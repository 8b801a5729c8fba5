#include "tf_ops/embedding/table/extent_source.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace taco {
namespace embedding {
namespace {

constexpr size_t kMaxChunk = size_t{64} << 20;

size_t RoundUp(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

// An anonymous mapping of `bytes` (a multiple of 2 MiB) aligned to 2 MiB, or null.
uint8_t* MapAligned(size_t bytes) {
  const size_t reserve = bytes + ExtentSource::kHugePage;
  void* raw = mmap(nullptr, reserve, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  const uintptr_t start = reinterpret_cast<uintptr_t>(raw);
  const uintptr_t aligned = RoundUp(start, ExtentSource::kHugePage);
  if (aligned > start) munmap(raw, aligned - start);
  const size_t tail = start + reserve - (aligned + bytes);
  if (tail > 0) munmap(reinterpret_cast<void*>(aligned + bytes), tail);
  return reinterpret_cast<uint8_t*>(aligned);
}

}  // namespace

ExtentSource::~ExtentSource() {
  while (!chunks_.empty()) Unmap(chunks_.begin());
}

void ExtentSource::Unmap(Chunks::iterator chunk) {
  munmap(reinterpret_cast<void*>(chunk->first), chunk->second.bytes);
  mapped_bytes_ -= chunk->second.bytes;
  if (newest_ == chunk->first) newest_ = 0;
  chunks_.erase(chunk);
}

ExtentSource::Chunks::iterator ExtentSource::ChunkWithRoom(size_t bytes) {
  const auto newest = chunks_.find(newest_);
  if (newest != chunks_.end() && newest->second.carved + bytes <= newest->second.bytes) {
    return newest;
  }
  Chunk chunk;
  const size_t wanted = std::clamp(mapped_bytes_ / 8, kHugePage, kMaxChunk);
  chunk.bytes = RoundUp(std::max(wanted, bytes), kHugePage);
  uint8_t* base = MapAligned(chunk.bytes);
  if (base == nullptr) return chunks_.end();
  if (mapped_bytes_ > 0) madvise(base, chunk.bytes, MADV_HUGEPAGE);
  mapped_bytes_ += chunk.bytes;
  newest_ = reinterpret_cast<uintptr_t>(base);
  return chunks_.emplace(newest_, std::move(chunk)).first;
}

ExtentSource::Chunks::iterator ExtentSource::ChunkOf(const uint8_t* extent) {
  return std::prev(chunks_.upper_bound(reinterpret_cast<uintptr_t>(extent)));
}

uint8_t* ExtentSource::Reuse(size_t bytes) {
  std::vector<uintptr_t>& candidates = with_free_[bytes];
  for (; !candidates.empty(); candidates.pop_back()) {
    const auto it = chunks_.find(candidates.back());
    if (it == chunks_.end()) continue;
    std::vector<uint8_t*>& free = it->second.free[bytes];
    if (free.empty()) continue;
    uint8_t* extent = free.back();
    free.pop_back();
    it->second.live += bytes;
    return extent;
  }
  return nullptr;
}

uint8_t* ExtentSource::Allocate(size_t bytes) {
  std::lock_guard<std::mutex> lock(mu_);
  if (uint8_t* extent = Reuse(bytes)) return extent;
  const auto it = ChunkWithRoom(bytes);
  if (it == chunks_.end()) return nullptr;
  Chunk& chunk = it->second;
  uint8_t* extent = reinterpret_cast<uint8_t*>(it->first) + chunk.carved;
  chunk.carved += bytes;
  chunk.live += bytes;
  return extent;
}

void ExtentSource::Free(uint8_t* extent, size_t bytes) {
  std::lock_guard<std::mutex> lock(mu_);
  const auto it = ChunkOf(extent);
  it->second.live -= bytes;
  if (it->second.live == 0) {
    Unmap(it);
    return;
  }
  madvise(extent, bytes, MADV_DONTNEED);
  std::vector<uint8_t*>& free = it->second.free[bytes];
  if (free.empty()) with_free_[bytes].push_back(it->first);
  free.push_back(extent);
}

size_t ExtentSource::mapped_bytes() const {
  std::lock_guard<std::mutex> lock(mu_);
  return mapped_bytes_;
}

}  // namespace embedding
}  // namespace taco
