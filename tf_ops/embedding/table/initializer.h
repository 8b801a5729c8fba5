// Initialisers: the first value of a row, as a function of (seed, table, key) alone.
//
// Element j of the row of `key` is drawn from a counter-based generator keyed by (seed, table,
// key) at counter j. So a row is the same whatever the order of insertion, the thread, the number
// of shards, or whether it is inserted at all: a lookup that misses computes it and writes
// nothing, and the update that later inserts the row starts from the same value. The values do not
// depend on the CPU either; they are a promise to files, which hold rows that were trained and
// count on this for those that were not (initializer_test.cc pins some).
#ifndef TF_OPS_EMBEDDING_TABLE_INITIALIZER_H_
#define TF_OPS_EMBEDDING_TABLE_INITIALIZER_H_

#include <cstdint>
#include <string>

#include "tf_ops/embedding/table/row_layout.h"
#include "tf_ops/embedding/table/status.h"

namespace taco {
namespace embedding {

enum class InitializerKind : int32_t {
  kZeros = 0,
  kConstant = 1,         // a
  kUniform = 2,          // [a, b)
  kNormal = 3,           // mean a, standard deviation b
  kTruncatedNormal = 4,  // as kNormal, given that it falls within two deviations b of the mean a
};

struct InitializerSpec {
  InitializerKind kind = InitializerKind::kZeros;
  float a = 0.0f;
  float b = 0.0f;
  uint64_t seed = 0;

  // Glorot's limits for a row of `dim` seen as a (1, dim) matrix, which is what Keras computes for
  // each row of an embedding drawn alone: fan_in = 1, fan_out = dim.
  static InitializerSpec GlorotUniform(int dim, uint64_t seed);
  static InitializerSpec GlorotNormal(int dim, uint64_t seed);

  // "zeros", "constant:0.5", "uniform:-0.05,0.05", "normal:0,0.05", "truncated_normal:0,0.05",
  // "glorot_uniform", "glorot_normal"; an optional ";seed=42" at the end.
  // InvalidArgument, naming the text and what is allowed, for anything else.
  static Status Parse(const std::string& text, int dim, InitializerSpec* spec);
};

// InvalidArgument for NaN or infinite parameters, b < a or an infinite b - a (uniform), b < 0
// (normals).
Status ValidateInitializer(const InitializerSpec& spec);

// Writes the `dim` elements of the first value of `key` to `vector`, in `type`.
// `table_id`: a stable 64-bit hash of the table's name. Thread-safe; O(dim).
void InitializeVector(const InitializerSpec& spec, uint64_t table_id, int64_t key, ValueType type,
                      int dim, void* vector);

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_INITIALIZER_H_
