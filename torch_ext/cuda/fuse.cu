// Many tensors to and from one buffer: fusion/fuse.h's contract, a launch for kSegments tensors.

#include "torch_ext/cuda/block.cuh"

namespace taco {
namespace cuda {

constexpr int kSegments = 96;  // as many as an argument of 4 KiB holds
constexpr int kPiece = 4096;   // elements of a block

enum class Transfer : int32_t {
  kCast = 0,   // float32, float16 and bfloat16, in float32, times the scale
  kScale = 1,  // float64
  kCopy = 2,   // as it is
};

struct Segment {
  void* data;  // (count,)
  int64_t count;
  int64_t place;         // its first element in the buffer
  base::ValueType type;  // kCast: of `data`
  Transfer transfer;
};

struct FuseStep {
  void* buffer;
  base::ValueType type;  // of the buffer, where a segment is cast
  float scale;
  int32_t to_buffer;  // or from it
  int32_t unit;       // bytes of an element where it is copied: 1, 2, 4 or 8
  int32_t num_segments;
  int32_t first_block[kSegments + 1];  // of each segment, and behind the last
  Segment segments[kSegments];
};

// body(i) for each of the block's elements.
template <class Body>
inline void EachElement(int64_t begin, int64_t end, const Body& body) {
  EachThread([&](int t) {
    for (int64_t i = begin + t; i < std::min(begin + kPiece, end); i += kThreads) body(i);
  });
}

template <class T>
inline void CopyPiece(const void* in, void* out, int64_t begin, int64_t end) {
  EachElement(begin, end,
              [&](int64_t i) { static_cast<T*>(out)[i] = static_cast<const T*>(in)[i]; });
}

inline void CopyPiece(const void* in, void* out, int unit, int64_t begin, int64_t end) {
  switch (unit) {
    case 1:
      return CopyPiece<uint8_t>(in, out, begin, end);
    case 2:
      return CopyPiece<uint16_t>(in, out, begin, end);
    case 4:
      return CopyPiece<uint32_t>(in, out, begin, end);
    default:
      return CopyPiece<uint64_t>(in, out, begin, end);
  }
}

template <base::ValueType kFrom>
inline void CastPiece(const void* in, void* out, base::ValueType to, float scale, int64_t begin,
                      int64_t end) {
  const auto value = [&](int64_t i) { return Decode<kFrom>(in, i) * scale; };
  switch (to) {
    case base::ValueType::kFloat32:
      return EachElement(begin, end, [&](int64_t i) { static_cast<float*>(out)[i] = value(i); });
    case base::ValueType::kFloat16:
      return EachElement(begin, end, [&](int64_t i) {
        static_cast<uint16_t*>(out)[i] = base::ToFloat16(value(i));
      });
    case base::ValueType::kBFloat16:
      return EachElement(begin, end, [&](int64_t i) {
        static_cast<uint16_t*>(out)[i] = base::ToBFloat16(value(i));
      });
  }
}

inline void CastPiece(const void* in, base::ValueType from, void* out, base::ValueType to,
                      float scale, int64_t begin, int64_t end) {
  switch (from) {
    case base::ValueType::kFloat32:
      return CastPiece<base::ValueType::kFloat32>(in, out, to, scale, begin, end);
    case base::ValueType::kFloat16:
      return CastPiece<base::ValueType::kFloat16>(in, out, to, scale, begin, end);
    case base::ValueType::kBFloat16:
      return CastPiece<base::ValueType::kBFloat16>(in, out, to, scale, begin, end);
  }
}

}  // namespace cuda
}  // namespace taco

TACO_KERNEL fuse_transfer(const __grid_constant__ taco::cuda::FuseStep step) {
  using namespace taco::cuda;
  using taco::base::ValueType;
  const int which = RangeOf(step.first_block, step.num_segments, BlockIndex());
  const Segment& segment = step.segments[which];
  const int64_t begin = int64_t{BlockIndex() - step.first_block[which]} * kPiece;
  const int64_t end = segment.count;
  const int size = segment.transfer == Transfer::kCopy    ? step.unit
                   : segment.transfer == Transfer::kScale ? 8
                   : step.type == ValueType::kFloat32     ? 4
                                                          : 2;
  void* const here = static_cast<uint8_t*>(step.buffer) + segment.place * size;
  const void* const in = step.to_buffer ? segment.data : here;
  void* const out = step.to_buffer ? here : segment.data;
  if (segment.transfer == Transfer::kCopy) {
    CopyPiece(in, out, step.unit, begin, end);
  } else if (segment.transfer == Transfer::kScale) {
    const double scale = static_cast<double>(step.scale);
    EachElement(begin, end, [&](int64_t i) {
      static_cast<double*>(out)[i] = static_cast<const double*>(in)[i] * scale;
    });
  } else {
    const ValueType from = step.to_buffer ? segment.type : step.type;
    const ValueType to = step.to_buffer ? step.type : segment.type;
    CastPiece(in, from, out, to, step.scale, begin, end);
  }
}
