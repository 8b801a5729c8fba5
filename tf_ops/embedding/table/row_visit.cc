#include "tf_ops/embedding/table/row_visit.h"

#include "tf_ops/embedding/table/simd.h"

namespace taco {
namespace embedding {

LocateFn RowVisitor::GetLocate() {
  switch (ActiveSimd()) {
    case Simd::kAvx512:
      return v4::LocateKernel();
    case Simd::kAvx2:
      return v3::LocateKernel();
    default:
      return v2::LocateKernel();
  }
}

void RowVisitor::ViewShards(const LockSet& held) {
  // Views anew for each block: an insertion may have moved a directory.
  in_snapshot_ = false;
  held.ForEachShard([&](int s) {
    const Shard& shard = impl_->shards[s];
    views_[s] = ShardView(*shard.index, *shard.rows);
    in_snapshot_ |= shard.side != nullptr;
  });
}

void RowVisitor::Locate(const int64_t* keys, int64_t n, const LockSet& held) {
  ViewShards(held);
  LocateRun run;
  run.keys = keys;
  run.n = n;
  run.views = views_;
  run.map = &GlobalShardMap();
  run.places = places_;
  locate_(run);
}

void RowVisitor::Preserve(const int64_t* keys, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    if (places_[i].body == nullptr) continue;
    const uint64_t hash = HashKey(keys[i]);
    Shard* shard = impl_->ShardOfHash(hash);
    shard->Preserve(keys[i], shard->index->Find(hash, keys[i]));
  }
}

}  // namespace embedding
}  // namespace taco
