#include "torch_ext/fusion/fuse.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "torch_ext/base/simd.h"
#include "torch_ext/fusion/kernels.h"

namespace taco {
namespace fusion {
namespace {

using base::ValueType;
using Kind = Element::Kind;

// Small enough to spread a few large tensors evenly, large enough to cost nothing.
constexpr int64_t kPiece = 1 << 16;

bool IsCastable(const Element& element) {
  return element.kind == Kind::kFloat32 || element.kind == Kind::kFloat16 ||
         element.kind == Kind::kBFloat16;
}

ValueType TypeOf(const Element& element) {
  if (element.kind == Kind::kFloat32) return ValueType::kFloat32;
  return element.kind == Kind::kFloat16 ? ValueType::kFloat16 : ValueType::kBFloat16;
}

CastFn GetCast(const Element& from, const Element& to) {
  switch (base::ActiveSimd()) {
    case base::Simd::kAvx512:
      return v4::CastKernel(TypeOf(from), TypeOf(to));
    case base::Simd::kAvx2:
      return v3::CastKernel(TypeOf(from), TypeOf(to));
    default:
      return v2::CastKernel(TypeOf(from), TypeOf(to));
  }
}

base::Status CheckPair(const Element& from, const Element& to, float scale, int64_t number) {
  if (from.id == to.id) {
    if (scale == 1.0f || from.kind != Kind::kOther) return base::OkStatus();
    return base::InvalidArgument("tensor " + std::to_string(number) +
                                 " is of an integer type, which cannot be scaled: pass scale = 1, "
                                 "or fuse it in a buffer of float32");
  }
  if (IsCastable(from) && IsCastable(to)) return base::OkStatus();
  return base::InvalidArgument(
      "tensor " + std::to_string(number) +
      " and the buffer are of different types, and only float32, float16 and bfloat16 are cast "
      "into one another: use a buffer of the tensor's type");
}

void Convert(const void* in, const Element& from, void* out, const Element& to, int64_t n,
             float scale) {
  if (from.id == to.id && scale == 1.0f) {
    std::memcpy(out, in, n * from.size);
  } else if (from.kind == Kind::kFloat64) {
    const double* source = static_cast<const double*>(in);
    double* target = static_cast<double*>(out);
    for (int64_t i = 0; i < n; ++i) target[i] = source[i] * static_cast<double>(scale);
  } else {
    GetCast(from, to)(in, out, n, scale);
  }
}

// A part of a segment, and where in the buffer it belongs.
struct Piece {
  int64_t segment, begin, count, place;
};

base::Status Transfer(const Segment* segments, int64_t num_segments, float scale, bool to_buffer,
                      base::Executor* executor, const Segment& buffer) {
  std::vector<Piece> pieces;
  int64_t place = 0;
  for (int64_t number = 0; number < num_segments; ++number) {
    const Segment& segment = segments[number];
    const Element& from = to_buffer ? segment.element : buffer.element;
    const Element& to = to_buffer ? buffer.element : segment.element;
    if (base::Status status = CheckPair(from, to, scale, number); !status.ok()) return status;
    for (int64_t begin = 0; begin < segment.count; begin += kPiece) {
      const int64_t count = std::min(kPiece, segment.count - begin);
      pieces.push_back({number, begin, count, place + begin});
    }
    place += segment.count;
  }
  if (place > buffer.count) {
    return base::InvalidArgument("the tensors hold " + std::to_string(place) +
                                 " elements and the buffer " + std::to_string(buffer.count) +
                                 ": pass a buffer that is large enough");
  }
  const int64_t num_pieces = static_cast<int64_t>(pieces.size());
  const int64_t tasks =
      place < kPiece ? 1 : std::min<int64_t>(num_pieces, 4 * executor->parallelism());
  base::RunRanges(executor, num_pieces, tasks, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const Piece& piece = pieces[i];
      const Segment& segment = segments[piece.segment];
      uint8_t* there = static_cast<uint8_t*>(segment.data) + piece.begin * segment.element.size;
      uint8_t* here = static_cast<uint8_t*>(buffer.data) + piece.place * buffer.element.size;
      if (to_buffer) {
        Convert(there, segment.element, here, buffer.element, piece.count, scale);
      } else {
        Convert(here, buffer.element, there, segment.element, piece.count, scale);
      }
    }
  });
  return base::OkStatus();
}

}  // namespace

base::Status Fuse(const Segment* segments, int64_t num_segments, float scale,
                  base::Executor* executor, const Segment& buffer) {
  return Transfer(segments, num_segments, scale, true, executor, buffer);
}

base::Status Unfuse(const Segment& buffer, float scale, base::Executor* executor,
                    const Segment* segments, int64_t num_segments) {
  return Transfer(segments, num_segments, scale, false, executor, buffer);
}

}  // namespace fusion
}  // namespace taco
