#include "tf_ops/embedding/table/slab_arena.h"

#include <sys/mman.h>

#include <algorithm>

namespace taco {
namespace embedding {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kMaxChunk = size_t{64} << 20;

size_t RoundUp(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

// An anonymous mapping of `bytes` (a multiple of 2 MiB) aligned to 2 MiB, or null.
uint8_t* MapAligned(size_t bytes) {
  const size_t reserve = bytes + SlabArena::kHugePage;
  void* raw = mmap(nullptr, reserve, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  const uintptr_t start = reinterpret_cast<uintptr_t>(raw);
  const uintptr_t aligned = RoundUp(start, SlabArena::kHugePage);
  if (aligned > start) munmap(raw, aligned - start);
  const size_t tail = start + reserve - (aligned + bytes);
  if (tail > 0) munmap(reinterpret_cast<void*>(aligned + bytes), tail);
  return reinterpret_cast<uint8_t*>(aligned);
}

}  // namespace

SlabArena::SlabArena(size_t slab_bytes)
    : slab_bytes_(RoundUp(std::max<size_t>(slab_bytes, 64), 64)) {}

SlabArena::~SlabArena() {
  for (const auto& [address, chunk] : chunks_)
    munmap(reinterpret_cast<void*>(address), chunk.bytes);
}

uint8_t* SlabArena::MapChunk() {
  const size_t wanted = std::clamp(mapped_bytes_ / 8, kHugePage, kMaxChunk);
  const size_t bytes = RoundUp(std::max(wanted, slab_bytes_), kHugePage);
  uint8_t* base = MapAligned(bytes);
  if (base == nullptr) return nullptr;
  if (mapped_bytes_ + bytes > kHugePageThreshold) madvise(base, bytes, MADV_HUGEPAGE);
  Chunk chunk;
  chunk.bytes = bytes;
  chunk.slabs = bytes / slab_bytes_;
  chunk.is_free.resize(chunk.slabs, false);
  newest_ = reinterpret_cast<uintptr_t>(base);
  chunks_.emplace(newest_, std::move(chunk));
  mapped_bytes_ += bytes;
  return base;
}

uint8_t* SlabArena::Allocate() {
  std::lock_guard<std::mutex> lock(mu_);
  while (!with_free_.empty()) {
    auto it = chunks_.find(with_free_.back());
    if (it == chunks_.end() || it->second.free_list.empty()) {
      with_free_.pop_back();
      continue;
    }
    Chunk& chunk = it->second;
    const uint32_t slot = chunk.free_list.back();
    chunk.free_list.pop_back();
    chunk.is_free[slot] = false;
    ++chunk.live;
    ++live_slabs_;
    return reinterpret_cast<uint8_t*>(it->first) + slot * slab_bytes_;
  }
  auto it = chunks_.find(newest_);
  if (it == chunks_.end() || it->second.carved == it->second.slabs) {
    if (MapChunk() == nullptr) return nullptr;
    it = chunks_.find(newest_);
  }
  Chunk& chunk = it->second;
  uint8_t* slab = reinterpret_cast<uint8_t*>(it->first) + chunk.carved * slab_bytes_;
  ++chunk.carved;
  ++chunk.live;
  ++live_slabs_;
  return slab;
}

SlabArena::Chunks::iterator SlabArena::Retire(uint8_t* slab) {
  auto it = std::prev(chunks_.upper_bound(reinterpret_cast<uintptr_t>(slab)));
  Chunk& chunk = it->second;
  --live_slabs_;
  if (--chunk.live == 0) {
    mapped_bytes_ -= chunk.bytes;
    if (newest_ == it->first) newest_ = 0;
    munmap(reinterpret_cast<void*>(it->first), chunk.bytes);
    chunks_.erase(it);
    return chunks_.end();
  }
  const size_t slot = (reinterpret_cast<uintptr_t>(slab) - it->first) / slab_bytes_;
  chunk.is_free[slot] = true;
  if (chunk.free_list.empty()) with_free_.push_back(it->first);
  chunk.free_list.push_back(static_cast<uint32_t>(slot));
  return it;
}

void SlabArena::Recycle(uint8_t* slab) {
  std::lock_guard<std::mutex> lock(mu_);
  Retire(slab);
}

void SlabArena::Free(uint8_t* slab) {
  std::lock_guard<std::mutex> lock(mu_);
  const auto it = Retire(slab);
  if (it == chunks_.end()) return;
  // Whole pages only; the page shared with a neighbour goes with whichever is freed last.
  const Chunk& chunk = it->second;
  const uintptr_t address = reinterpret_cast<uintptr_t>(slab);
  const size_t slot = (address - it->first) / slab_bytes_;
  const bool whole = slab_bytes_ >= kPage;
  const bool before = whole && slot > 0 && chunk.is_free[slot - 1];
  const bool after = whole && slot + 1 < chunk.carved && chunk.is_free[slot + 1];
  const uintptr_t end = address + slab_bytes_;
  const uintptr_t first_page = before ? address / kPage * kPage : RoundUp(address, kPage);
  const uintptr_t end_page = after ? RoundUp(end, kPage) : end / kPage * kPage;
  if (end_page > first_page) {
    madvise(reinterpret_cast<void*>(first_page), end_page - first_page, MADV_DONTNEED);
  }
}

size_t SlabArena::bytes() const {
  std::lock_guard<std::mutex> lock(mu_);
  return live_slabs_ * slab_bytes_;
}

}  // namespace embedding
}  // namespace taco
