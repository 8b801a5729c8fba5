// Whatever indices and values come from the network: no access out of bounds, an error for an index
// out of range with nothing written, and otherwise the sum that one addition after the other gives.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "torch_ext/base/half.h"
#include "torch_ext/topk/accumulate.h"

namespace taco {
namespace topk {
namespace {

using base::ValueType;

void Check(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

float Decode(const PackedList& list, int64_t i) {
  if (list.value_type == ValueType::kFloat32) return static_cast<const float*>(list.values)[i];
  const uint16_t code = static_cast<const uint16_t*>(list.values)[i];
  return list.value_type == ValueType::kFloat16 ? base::FromFloat16(code)
                                                : base::FromBFloat16(code);
}

// Cuts `data` into lists: a byte for the type, one for the count, then indices and values. Every
// list has memory of its own size, so that the sanitizer sees a read beyond it.
void Run(const uint8_t* data, size_t size) {
  if (size < 2) return;
  const int64_t n = data[0];
  ++data, --size;
  std::vector<std::unique_ptr<int32_t[]>> indices;
  std::vector<std::unique_ptr<uint8_t[]>> values;
  std::vector<PackedList> lists;
  while (size >= 2) {
    PackedList list;
    list.value_type = static_cast<ValueType>(data[0] % base::kNumValueTypes);
    const size_t width = base::SizeOf(list.value_type);
    const bool one_byte = (data[0] & 0x80) != 0;  // indices that are likely in range
    const size_t entry = (one_byte ? 1 : 4) + width;
    const size_t count = std::min<size_t>(data[1], (size - 2) / entry);
    data += 2, size -= 2;
    indices.emplace_back(new int32_t[count]);
    values.emplace_back(new uint8_t[count * width]);
    for (size_t i = 0; i < count; ++i, data += entry, size -= entry) {
      if (one_byte) {
        indices.back()[i] = data[0];
      } else {
        std::memcpy(&indices.back()[i], data, 4);
      }
      std::memcpy(&values.back()[i * width], data + entry - width, width);
    }
    list.indices = indices.back().get();
    list.values = values.back().get();
    list.count = static_cast<int64_t>(count);
    lists.push_back(list);
  }
  std::vector<float> out(n, 1.0f), wanted(n, 1.0f);
  bool in_range = true;
  for (const PackedList& list : lists) {
    for (int64_t i = 0; i < list.count; ++i) {
      in_range = in_range && list.indices[i] >= 0 && list.indices[i] < n;
    }
  }
  for (const PackedList& list : lists) {
    for (int64_t i = 0; in_range && i < list.count; ++i) wanted[list.indices[i]] += Decode(list, i);
  }
  base::InlineExecutor executor;
  const base::Status status =
      Accumulate(lists.data(), static_cast<int64_t>(lists.size()), 1.0f, n, &executor, out.data());
  Check(status.ok() == in_range, "refuses what is out of range, and nothing else");
  for (int64_t i = 0; i < n; ++i) {
    const bool both_nan = out[i] != out[i] && wanted[i] != wanted[i];
    Check(both_nan || base::BitsOf(out[i]) == base::BitsOf(wanted[i]), "sums in order");
  }
}

}  // namespace
}  // namespace topk
}  // namespace taco

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  taco::topk::Run(data, size);
  return 0;
}
