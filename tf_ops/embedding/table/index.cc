#include "tf_ops/embedding/table/index.h"

#include <algorithm>
#include <cstring>

namespace taco {
namespace embedding {
namespace {

// Segments start out this full on average when room is reserved.
constexpr int kReservedLoad = Segment::kSplitAt * 2 / 3;

}  // namespace

Index::~Index() { FreeSegments(); }

void Index::FreeSegments() {
  // Directory entry i is the first that names its segment when the bits of i above the segment's
  // depth are zero.
  for (size_t i = 0; i < directory_.size(); ++i) {
    Segment* segment = directory_[i];
    if (segment != nullptr && (i >> segment->depth()) == 0) {
      for (size_t j = i + (size_t{1} << segment->depth()); j < directory_.size();
           j += size_t{1} << segment->depth()) {
        directory_[j] = nullptr;
      }
      segments_->Free(reinterpret_cast<uint8_t*>(segment));
    }
  }
  directory_.clear();
  directory_mask_ = 0;
  unique_segments_ = 0;
  size_ = 0;
}

Segment* Index::NewSegment(int depth) {
  uint8_t* memory = segments_->Allocate();
  if (memory == nullptr) return nullptr;
  std::memset(memory, 0, sizeof(Segment));
  Segment* segment = reinterpret_cast<Segment*>(memory);
  segment->depth() = static_cast<uint16_t>(depth);
  ++unique_segments_;
  return segment;
}

bool Index::Reset(int64_t entries) {
  FreeSegments();
  int bits = 0;
  while (bits < kMaxDirectoryBits && (int64_t{kReservedLoad} << bits) < entries) ++bits;
  directory_.reserve(size_t{1} << bits);
  for (size_t i = 0; i < (size_t{1} << bits); ++i) {
    Segment* segment = NewSegment(bits);
    if (segment == nullptr) {
      FreeSegments();
      return false;
    }
    directory_.push_back(segment);
  }
  directory_.shrink_to_fit();
  directory_mask_ = directory_.size() - 1;
  return true;
}

void Index::Place(Segment* segment, uint64_t hash, RowHandle handle) {
  int b = HomeOf(hash);
  for (;;) {
    Bucket& bucket = segment->buckets[b];
    const uint32_t empty = bucket.Match(0);
    if (empty != 0) {
      const int slot = __builtin_ctz(empty);
      bucket.tags[slot] = TagOf(hash);
      bucket.handles[slot] = handle;
      ++segment->size();
      return;
    }
    ++bucket.overflowed;
    b = (b + 1) & (Segment::kBuckets - 1);
  }
}

bool Index::Insert(uint64_t hash, RowHandle handle) {
  Segment* segment = SegmentOf(hash);
  while (segment->size() >= Segment::kSplitAt) {
    if (!Split(hash)) {
      if (segment->size() == Segment::kSlots) return false;
      break;  // no memory to split, yet there is room
    }
    segment = SegmentOf(hash);
  }
  Place(segment, hash, handle);
  ++size_;
  return true;
}

bool Index::Split(uint64_t hash) {
  Segment* segment = SegmentOf(hash);
  const int depth = segment->depth();
  if (depth >= kMaxDirectoryBits) return false;
  Segment* sibling = NewSegment(depth + 1);
  if (sibling == nullptr) return false;
  if ((size_t{1} << depth) == directory_.size()) {
    directory_.reserve(directory_.size() * 2);
    for (size_t i = 0, n = directory_.size(); i < n; ++i) directory_.push_back(directory_[i]);
    directory_mask_ = directory_.size() - 1;
  }

  // Take all entries out, their keys' lines on their way into the cache, and place them anew. Most
  // of the cost of growth is here, so it has no branch that depends on the hash but for buckets
  // that overflow: the two halves and the buckets' fill are looked up, not searched.
  constexpr int kAhead = 24;
  RowHandle handles[Segment::kSlots];
  int n = 0;
  for (const Bucket& bucket : segment->buckets) {
    for (int slot = 0; slot < Bucket::kSlots; ++slot) {
      if (bucket.tags[slot] == 0) continue;
      handles[n++] = bucket.handles[slot];
    }
  }
  std::memset(static_cast<void*>(segment), 0, sizeof(Segment));
  Segment* const halves[2] = {segment, sibling};
  uint8_t fill[2][Segment::kBuckets] = {};
  uint16_t sizes[2] = {0, 0};
  for (int i = 0; i < std::min(n, kAhead); ++i) __builtin_prefetch(rows_->Row(handles[i]));
  for (int i = 0; i < n; ++i) {
    if (i + kAhead < n) __builtin_prefetch(rows_->Row(handles[i + kAhead]));
    const uint64_t h = HashKey(RowLayout::Header(rows_->Row(handles[i]))->key);
    const int half = static_cast<int>((h >> (kDirectoryShift + depth)) & 1);
    int b = HomeOf(h);
    while (fill[half][b] == Bucket::kSlots) {
      ++halves[half]->buckets[b].overflowed;
      b = (b + 1) & (Segment::kBuckets - 1);
    }
    Bucket& bucket = halves[half]->buckets[b];
    const int slot = fill[half][b]++;
    bucket.tags[slot] = TagOf(h);
    bucket.handles[slot] = handles[i];
    ++sizes[half];
  }
  for (int half = 0; half < 2; ++half) {
    halves[half]->size() = sizes[half];
    halves[half]->depth() = static_cast<uint16_t>(depth + 1);
  }

  const size_t step = size_t{1} << (depth + 1);
  const size_t first = ((hash >> kDirectoryShift) & ((size_t{1} << depth) - 1)) | (step >> 1);
  for (size_t i = first; i < directory_.size(); i += step) directory_[i] = sibling;
  ++growths_;
  return true;
}

std::unique_ptr<Index> Index::Rebuild(int64_t entries) const {
  auto rebuilt = std::make_unique<Index>(segments_, rows_);
  if (!rebuilt->Reset(entries > size_ ? entries : size_)) return nullptr;
  for (RowHandle handle = 0; handle < rows_->end(); ++handle) {
    const uint8_t* row = rows_->Row(handle);
    if (RowStore::IsFree(row)) continue;
    if (!rebuilt->Insert(HashKey(RowLayout::Header(row)->key), handle)) return nullptr;
  }
  return rebuilt;
}

Bucket* Index::Locate(uint64_t hash, RowHandle handle, int* slot) const {
  Segment* segment = SegmentOf(hash);
  const uint8_t tag = TagOf(hash);
  for (int b = HomeOf(hash);; b = (b + 1) & (Segment::kBuckets - 1)) {
    Bucket& bucket = segment->buckets[b];
    for (uint32_t match = bucket.Match(tag); match != 0; match &= match - 1) {
      const int s = __builtin_ctz(match);
      if (bucket.handles[s] == handle) {
        *slot = s;
        return &bucket;
      }
    }
  }
}

void Index::Erase(uint64_t hash, RowHandle handle) {
  int slot = 0;
  Bucket* bucket = Locate(hash, handle, &slot);
  bucket->tags[slot] = 0;
  Segment* segment = SegmentOf(hash);
  for (int b = HomeOf(hash); &segment->buckets[b] != bucket;
       b = (b + 1) & (Segment::kBuckets - 1)) {
    --segment->buckets[b].overflowed;
  }
  --segment->size();
  --size_;
}

void Index::Replace(uint64_t hash, RowHandle old_handle, RowHandle new_handle) {
  int slot = 0;
  Locate(hash, old_handle, &slot)->handles[slot] = new_handle;
}

}  // namespace embedding
}  // namespace taco
