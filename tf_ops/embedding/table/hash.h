// Hash of a key, and how its 64 bits are shared out.
//
//   63      52 51                                    16 15        0
//   +---------+----------------------------------------+----------+
//   |  shard  |  directory, high bits first            |  bucket  |
//   +---------+----------------------------------------+----------+
//
// Shards have unequal widths: shard i takes a part of the hash space proportional to 2^(i/64).
// Every segment of one shard fills up, and grows, at about the same time; the widths spread these
// moments of the 64 shards evenly over each doubling of the table. So neither the cost of growth
// nor the load of the index comes in waves (docs/embeddings.md has the counts).
#ifndef TF_OPS_EMBEDDING_TABLE_HASH_H_
#define TF_OPS_EMBEDDING_TABLE_HASH_H_

#include <array>
#include <cmath>
#include <cstdint>

namespace taco {
namespace embedding {

inline constexpr int kNumShards = 64;
inline constexpr int kShardBits = 12;   // bits of the hash that choose the shard
inline constexpr int kBucketBits = 16;  // lowest bits, that choose the bucket in a segment
inline constexpr int kMaxDirectoryBits = 64 - kShardBits - kBucketBits;

// A bijection of 64 bits in which every input bit reaches every output bit (two rounds of
// xor-shift and odd multiplication). Being a bijection it has no 64-bit collisions.
inline uint64_t HashKey(int64_t key) {
  uint64_t x = static_cast<uint64_t>(key);
  x ^= x >> 32;
  x *= 0xD6E8FEB86659FD93ull;
  x ^= x >> 29;
  x *= 0x9FB21C651E98DF25ull;
  x ^= x >> 32;
  return x;
}

struct ShardMap {
  std::array<uint8_t, 1 << kShardBits> shard_of_prefix;  // by the top kShardBits bits of the hash
  std::array<int, kNumShards> width{};                   // how many of the prefixes it has

  ShardMap() {
    int shard = 0;
    for (int p = 0; p < (1 << kShardBits); ++p) {
      const double end = std::exp2((shard + 1) / static_cast<double>(kNumShards)) - 1.0;
      if (p >= end * (1 << kShardBits) && shard + 1 < kNumShards) ++shard;
      shard_of_prefix[p] = static_cast<uint8_t>(shard);
      ++width[shard];
    }
  }
};

inline const ShardMap& GlobalShardMap() {
  static const ShardMap* map = new ShardMap();
  return *map;
}

inline int ShardOf(const ShardMap& map, uint64_t hash) {
  return map.shard_of_prefix[hash >> (64 - kShardBits)];
}

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_HASH_H_
