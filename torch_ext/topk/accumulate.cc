#include "torch_ext/topk/accumulate.h"

#include <algorithm>
#include <atomic>
#include <string>

#include "torch_ext/base/half.h"

namespace taco {
namespace topk {
namespace {

using base::ValueType;

constexpr int64_t kWorthThreads = 16384;  // entries

struct Checked {
  bool ascending = true;
  int64_t bad = -1;  // the position of an index that is out of range
};

Checked Check(const PackedList& list, int64_t n) {
  // No branch an entry: the first of the bad ones is looked for if there is one at all.
  bool in_range = true;
  bool ascending = true;
  uint32_t last = 0;
  for (int64_t i = 0; i < list.count; ++i) {
    const uint32_t index = static_cast<uint32_t>(list.indices[i]);
    in_range &= index < static_cast<uint64_t>(n);
    ascending &= index >= last;
    last = index;
  }
  Checked checked{ascending, -1};
  for (int64_t i = 0; !in_range && i < list.count; ++i) {
    if (list.indices[i] < 0 || list.indices[i] >= n) {
      checked.bad = i;
      break;
    }
  }
  return checked;
}

template <class Type, class Decode>
void AddEntries(const PackedList& list, int64_t begin, int64_t end, float scale,
                const Decode& decode, float* out) {
  const Type* values = static_cast<const Type*>(list.values);
  for (int64_t i = begin; i < end; ++i) out[list.indices[i]] += decode(values[i]) * scale;
}

void AddEntries(const PackedList& list, int64_t begin, int64_t end, float scale, float* out) {
  switch (list.value_type) {
    case ValueType::kFloat32:
      return AddEntries<float>(list, begin, end, scale, [](float v) { return v; }, out);
    case ValueType::kFloat16:
      return AddEntries<uint16_t>(list, begin, end, scale, base::FromFloat16, out);
    case ValueType::kBFloat16:
      return AddEntries<uint16_t>(list, begin, end, scale, base::FromBFloat16, out);
  }
}

}  // namespace

base::Status Accumulate(const PackedList* lists, int64_t num_lists, float scale, int64_t n,
                        base::Executor* executor, float* out) {
  bool ascending = true;
  int64_t entries = 0;
  for (int64_t rank = 0; rank < num_lists; ++rank) {
    const Checked checked = Check(lists[rank], n);
    if (checked.bad >= 0) {
      return base::DataLoss(
          "list " + std::to_string(rank) + ", position " + std::to_string(checked.bad) +
          ": index " + std::to_string(lists[rank].indices[checked.bad]) + " is not in [0, " +
          std::to_string(n) + "). The sender's tensor has another size, or the list was damaged");
    }
    ascending = ascending && checked.ascending;
    entries += lists[rank].count;
  }
  const bool alone = !ascending || entries < kWorthThreads;
  const int64_t tasks = alone ? 1 : executor->parallelism();
  base::RunRanges(executor, n, tasks, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t rank = 0; rank < num_lists; ++rank) {
      const PackedList& list = lists[rank];
      if (tasks == 1) {
        AddEntries(list, 0, list.count, scale, out);
        continue;
      }
      const int32_t* end = list.indices + list.count;
      const auto at = [&](int64_t index) {
        return std::lower_bound(list.indices, end, index) - list.indices;
      };
      AddEntries(list, at(first), at(last), scale, out);
    }
  });
  return base::OkStatus();
}

}  // namespace topk
}  // namespace taco
