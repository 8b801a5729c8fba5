// RowLayout: where the parts of one row lie.
//
// In the table, a row's key stands in the index, its vector and slots (the body) in a slab, and
// its counters (RowMeta) at the end of the same slab (row_store.h):
//
//   offset 0            vector_bytes (padded to 4)        body_bytes
//   +-------------------+------------------------------+-----------+
//   | vector[dim]       | slot 0 [dim] ... slot k [dim]| scalars   |
//   | f32 | bf16 | f16  | f32, always                  | f32       |
//   +-------------------+------------------------------+-----------+
//
// A body is a multiple of 8 bytes and slabs are aligned to cache lines, so that the vector of a
// dim-16 float row is exactly one line and that of a dim-64 row four. Outside the table, in
// snapshots, imports and files, a row is packed: a header of 16 bytes (key, freq, step), then the
// body. Slots are float32 for every value type: a bfloat16 second moment would stop growing after
// a few hundred steps.
#ifndef TF_OPS_EMBEDDING_TABLE_ROW_LAYOUT_H_
#define TF_OPS_EMBEDDING_TABLE_ROW_LAYOUT_H_

#include <cstddef>
#include <cstdint>

namespace taco {
namespace embedding {

enum class ValueType : int32_t { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2 };

inline constexpr size_t ValueBytes(ValueType type) { return type == ValueType::kFloat32 ? 4 : 2; }

struct RowHeader {
  int64_t key;
  uint32_t freq;  // updates this row has seen, saturating at kMaxFreq
  uint32_t step;  // the step of the last update (low 32 bits)
};
static_assert(sizeof(RowHeader) == 16, "part of the file format");

inline constexpr uint32_t kMaxFreq = 0xFFFFFFFEu;
inline constexpr uint32_t kFreeRow = 0xFFFFFFFFu;  // no freq: a file that holds it is damaged

// What the table keeps of a row beside its body: the header without the key.
struct RowMeta {
  uint32_t freq;
  uint32_t step;
};

struct RowLayout {
  RowLayout() = default;
  RowLayout(int dim_in, ValueType type, int slots, int scalars)
      : dim(dim_in), value_type(type), num_slots(slots), num_scalars(scalars) {
    vector_bytes = static_cast<size_t>(dim) * ValueBytes(type);
    slots_offset = sizeof(RowHeader) + (vector_bytes + 3) / 4 * 4;
    const size_t floats = static_cast<size_t>(dim) * slots + scalars;
    stride = (slots_offset + 4 * floats + 7) / 8 * 8;
    body_bytes = stride - sizeof(RowHeader);
  }

  int dim = 0;
  ValueType value_type = ValueType::kFloat32;
  int num_slots = 0;    // vectors of dim floats
  int num_scalars = 0;  // single floats behind the slots
  size_t vector_bytes = 0;
  size_t slots_offset = 0;  // in a packed row
  size_t stride = 0;        // of packed rows
  size_t body_bytes = 0;    // of rows in the table

  // Of a packed row:
  static RowHeader* Header(uint8_t* row) { return reinterpret_cast<RowHeader*>(row); }
  static const RowHeader* Header(const uint8_t* row) {
    return reinterpret_cast<const RowHeader*>(row);
  }
  static uint8_t* Vector(uint8_t* row) { return row + sizeof(RowHeader); }
  static const uint8_t* Vector(const uint8_t* row) { return row + sizeof(RowHeader); }
  float* Slots(uint8_t* row) const { return reinterpret_cast<float*>(row + slots_offset); }
  const float* Slots(const uint8_t* row) const {
    return reinterpret_cast<const float*>(row + slots_offset);
  }

  // Of a body, whose vector lies at its start:
  float* BodySlots(uint8_t* body) const {
    return reinterpret_cast<float*>(body + slots_offset - sizeof(RowHeader));
  }

  bool operator==(const RowLayout& o) const {
    return dim == o.dim && value_type == o.value_type && num_slots == o.num_slots &&
           num_scalars == o.num_scalars;
  }
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_ROW_LAYOUT_H_
