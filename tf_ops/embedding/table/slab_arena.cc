#include "tf_ops/embedding/table/slab_arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <numeric>

namespace taco {
namespace embedding {
namespace {

constexpr size_t kExtentTarget = size_t{128} << 10;
constexpr size_t kPage = ExtentSource::kPage;

size_t RoundUp(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

// The fewest slabs that fill whole pages, as often as fit into kExtentTarget (at least once).
size_t SlabsPerExtent(size_t slab_bytes) {
  const size_t whole = kPage / std::gcd(kPage, slab_bytes);
  return std::max<size_t>(1, kExtentTarget / (whole * slab_bytes)) * whole;
}

}  // namespace

SlabArena::SlabArena(ExtentSource* source, size_t slab_bytes)
    : source_(source),
      slab_bytes_(RoundUp(std::max<size_t>(slab_bytes, 64), 64)),
      slabs_per_extent_(SlabsPerExtent(slab_bytes_)) {}

SlabArena::~SlabArena() {
  for (const auto& [address, extent] : extents_) {
    source_->Free(reinterpret_cast<uint8_t*>(address), slabs_per_extent_ * slab_bytes_);
  }
}

uint8_t* SlabArena::Allocate() {
  std::lock_guard<std::mutex> lock(mu_);
  while (!with_free_.empty()) {
    auto it = extents_.find(with_free_.back());
    if (it == extents_.end() || it->second.free_list.empty()) {
      with_free_.pop_back();
      continue;
    }
    Extent& extent = it->second;
    const uint32_t slot = extent.free_list.back();
    extent.free_list.pop_back();
    extent.is_free[slot] = false;
    ++extent.live;
    ++live_slabs_;
    return reinterpret_cast<uint8_t*>(it->first) + slot * slab_bytes_;
  }
  auto it = extents_.find(newest_);
  if (it == extents_.end() || it->second.carved == slabs_per_extent_) {
    uint8_t* fresh = source_->Allocate(slabs_per_extent_ * slab_bytes_);
    if (fresh == nullptr) return nullptr;
    newest_ = reinterpret_cast<uintptr_t>(fresh);
    it = extents_.emplace(newest_, Extent()).first;
    it->second.is_free.resize(slabs_per_extent_, false);
  }
  Extent& extent = it->second;
  uint8_t* slab = reinterpret_cast<uint8_t*>(it->first) + extent.carved * slab_bytes_;
  ++extent.carved;
  ++extent.live;
  ++live_slabs_;
  return slab;
}

SlabArena::Extents::iterator SlabArena::Retire(uint8_t* slab) {
  auto it = std::prev(extents_.upper_bound(reinterpret_cast<uintptr_t>(slab)));
  Extent& extent = it->second;
  --live_slabs_;
  if (--extent.live == 0) {
    if (newest_ == it->first) newest_ = 0;
    source_->Free(reinterpret_cast<uint8_t*>(it->first), slabs_per_extent_ * slab_bytes_);
    extents_.erase(it);
    return extents_.end();
  }
  const size_t slot = (reinterpret_cast<uintptr_t>(slab) - it->first) / slab_bytes_;
  extent.is_free[slot] = true;
  if (extent.free_list.empty()) with_free_.push_back(it->first);
  extent.free_list.push_back(static_cast<uint32_t>(slot));
  return it;
}

void SlabArena::Recycle(uint8_t* slab) {
  std::lock_guard<std::mutex> lock(mu_);
  Retire(slab);
}

void SlabArena::Free(uint8_t* slab) {
  std::lock_guard<std::mutex> lock(mu_);
  const auto it = Retire(slab);
  if (it == extents_.end()) return;
  // Whole pages only; the page shared with a neighbour goes with whichever is freed last.
  const Extent& extent = it->second;
  const uintptr_t address = reinterpret_cast<uintptr_t>(slab);
  const size_t slot = (address - it->first) / slab_bytes_;
  const bool whole = slab_bytes_ >= kPage;
  const bool before = whole && slot > 0 && extent.is_free[slot - 1];
  const bool after = whole && slot + 1 < extent.carved && extent.is_free[slot + 1];
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
