#include "tf_ops/embedding/table/index.h"

#include <algorithm>
#include <cstring>

namespace taco {
namespace embedding {
namespace {

// How full reserved segments are when they hold what they were reserved for.
constexpr double kReservedLoad = 0.7;

// A segment's entries, taken out to be placed anew. Most of the cost of growth is here, so that
// nothing branches on what the hash made random but for buckets that overflow.
struct Entries {
  int n = 0;
  uint64_t hashes[Segment::kWide * Bucket::kSlots];
  int64_t keys[Segment::kWide * Bucket::kSlots + 1];  // and one place to write in vain
  RowHandle handles[Segment::kWide * Bucket::kSlots + 1];

  explicit Entries(Segment segment) {
    for (const Bucket* bucket = segment.buckets(); bucket != segment.buckets() + segment.size();
         ++bucket) {
      if (bucket->occupied == Bucket::kFull) {
        std::memcpy(keys + n, bucket->keys, sizeof(bucket->keys));
        std::memcpy(handles + n, bucket->handles, sizeof(bucket->handles));
        n += Bucket::kSlots;
        continue;
      }
      for (int slot = 0; slot < Bucket::kSlots; ++slot) {
        keys[n] = bucket->keys[slot];
        handles[n] = bucket->handles[slot];
        n += bucket->occupied >> slot & 1;
      }
    }
    for (int i = 0; i < n; ++i) hashes[i] = HashKey(keys[i]);
  }
};

}  // namespace

Index::~Index() { FreeSegments(); }

void Index::FreeSegments() {
  for (size_t place = 0; place < directory_.size();) {
    const Segment segment = directory_[place];
    place += Span(segment);
    arenas_->Of(segment.wide())->Free(reinterpret_cast<uint8_t*>(segment.buckets()));
  }
  directory_.clear();
  shift_ = 63;
  segments_ = 0;
  capacity_ = 0;
  size_ = 0;
}

Segment Index::NewSegment(bool wide, int depth) {
  uint8_t* memory = arenas_->Of(wide)->Allocate();
  if (memory == nullptr) return Segment();
  const Segment segment(memory, wide, depth);
  std::memset(memory, 0, segment.size() * sizeof(Bucket));
  ++segments_;
  capacity_ += segment.slots();
  return segment;
}

void Index::RecycleSegment(Segment segment) {
  --segments_;
  capacity_ -= segment.slots();
  arenas_->Of(segment.wide())->Recycle(reinterpret_cast<uint8_t*>(segment.buckets()));
}

bool Index::Reset(int64_t entries) {
  FreeSegments();
  int bits = 0;
  bool wide = false;
  const auto room = [&] {
    const int slots = (wide ? Segment::kWide : Segment::kNarrow) * Bucket::kSlots;
    return kReservedLoad * slots * static_cast<double>(int64_t{1} << bits);
  };
  while (room() < static_cast<double>(entries) && bits < kMaxDirectoryBits) {
    if (wide) ++bits;
    wide = !wide;
  }
  directory_.reserve(size_t{1} << bits);
  for (size_t i = 0; i < (size_t{1} << bits); ++i) {
    const Segment segment = NewSegment(wide, bits);
    if (!segment) {
      for (const Segment made : directory_) RecycleSegment(made);
      directory_.clear();
      return false;
    }
    directory_.push_back(segment);
  }
  shift_ = 63 - bits;
  return true;
}

bool Index::Grow(uint64_t hash) {
  const size_t place = DirectoryPlace(hash, shift_);
  const Segment old = directory_[place];
  const size_t span = Span(old);
  const Entries entries(old);
  // Keys that crowd in one place of a segment that is half empty would crowd in a larger one too:
  // growing for their sake could go on until memory is gone.
  if (2 * entries.n < old.slots()) return false;

  const int depth = old.depth();
  const bool splits = old.wide();
  if (splits && span == 1 && (depth >= kMaxDirectoryBits || directory_.size() > DirectoryLimit())) {
    return false;
  }
  // Which half a hash goes to; all to the first where there is one only.
  const uint64_t half_mask = splits ? 1 : 0;
  const auto half_of = [&](uint64_t h) { return (h << kShardBits) >> (63 - depth) & half_mask; };
  Segment fresh[2];
  if (splits) {
    int size[2] = {0, 0};
    for (int i = 0; i < entries.n; ++i) ++size[half_of(entries.hashes[i])];
    for (const int half : {0, 1}) {
      // Wide only where nearly all go to one side.
      const bool wide = size[half] > Segment::kNarrow * Bucket::kSlots * 7 / 8;
      fresh[half] = NewSegment(wide, depth + 1);
    }
  } else {
    fresh[0] = fresh[1] = NewSegment(/*wide=*/true, depth);
  }
  if (!fresh[0] || !fresh[1]) {
    for (const int half : {0, 1}) {
      if (fresh[half]) RecycleSegment(fresh[half]);
    }
    return false;
  }
  for (int i = 0; i < entries.n; ++i) {
    const uint64_t h = entries.hashes[i];
    Place(fresh[half_of(h)], h, entries.keys[i], entries.handles[i]);
  }
  if (splits && span == 1) DoubleDirectory();
  const size_t places = Span(old);
  const auto first = directory_.begin() + DirectoryPlace(hash, shift_) / places * places;
  std::fill_n(first, (places + 1) / 2, fresh[0]);
  std::fill_n(first + (places + 1) / 2, places / 2, fresh[1]);
  RecycleSegment(old);
  ++growths_;
  return true;
}

void Index::DoubleDirectory() {
  std::vector<Segment> twice(directory_.size() * 2);
  for (size_t i = 0; i < twice.size(); ++i) twice[i] = directory_[i / 2];
  directory_.swap(twice);
  --shift_;
}

std::unique_ptr<Index> Index::Rebuild(int64_t entries) const {
  auto rebuilt = std::make_unique<Index>(arenas_, max_displacement_);
  if (!rebuilt->Reset(std::max(entries, size_))) return nullptr;
  bool complete = true;
  ForEachSegment([&](Segment segment) {
    segment.ForEach([&](int64_t key, RowHandle handle) {
      complete =
          complete && rebuilt->FindOrInsert(HashKey(key), key, [&] { return handle; }) != kNoRow;
    });
  });
  return complete ? std::move(rebuilt) : nullptr;
}

void Index::Erase(uint64_t hash, int64_t key) {
  const Segment segment = SegmentOf(hash);
  Bucket* const home = segment.Home(hash);
  Bucket* bucket = home;
  uint32_t match;
  while ((match = bucket->Match(key)) == 0) bucket = segment.After(bucket);
  bucket->occupied &= ~match;
  for (Bucket* passed = home; passed != bucket; passed = segment.After(passed)) {
    passed->RemovePasser();
  }
  --size_;
}

}  // namespace embedding
}  // namespace taco
