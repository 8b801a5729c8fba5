// Random rows, element by element, without state: Bits(stream, j) -> a number -> the distribution.
//
// Everything is written so that the compiler vectorises it and so that all instruction sets agree:
// 32-bit integer arithmetic for the bits, and for the normals double arithmetic on our own
// approximations (libm's results differ from one machine to the next).
#include "tf_ops/embedding/table/initializer_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tf_ops/embedding/table/value_types.h"

namespace taco {
namespace embedding {
namespace TACO_SIMD_NAMESPACE {
namespace {

// Element `j` of a row's stream: a 32-bit mixer of multiply and xor-shift rounds, run twice, with
// one half of the row's 64 random bits added before each run. One run of such a mixer leaves a bias
// of a fraction of a per mill in its output bits; two leave none that initializer_test.cc can see.
// The multipliers are known good ones: of MurmurHash3's finaliser, and of Wellons's search.
inline uint32_t Bits(uint32_t low, uint32_t high, uint32_t j) {
  uint32_t x = j * 0x9E3779B9u + low;
  x ^= x >> 16;
  x *= 0x85EBCA6Bu;
  x ^= x >> 13;
  x *= 0xC2B2AE35u;
  x ^= x >> 16;
  x += high;
  x *= 0x21F0AAADu;
  x ^= x >> 15;
  x *= 0xD35A2D97u;
  x ^= x >> 15;
  return x;
}

// The natural logarithm of x in (0, 1], x not denormal; absolute error below 1e-11.
// x = 2^e m with m in [0.707, 1.414); log m = 2 atanh(s), s = (m - 1) / (m + 1), by its series.
inline double Log(double x) {
  constexpr uint64_t kRootHalf = 0x3FE6A09E667F3BCDu;  // bits of sqrt(0.5)
  constexpr uint64_t kOne = 0x3FF0000000000000u;
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits += kOne - kRootHalf;
  // An integer below 2^52 in the mantissa of 2^52 gives that integer as a double.
  uint64_t biased = (bits >> 52) | 0x4330000000000000u;
  uint64_t mantissa = (bits & 0x000FFFFFFFFFFFFFu) + kRootHalf;
  double e, m;
  std::memcpy(&e, &biased, sizeof e);
  std::memcpy(&m, &mantissa, sizeof m);
  e -= 4503599627370496.0 + 1023.0;
  const double s = (m - 1.0) / (m + 1.0);
  const double z = s * s;
  double series = 2.0 / 13.0;
  series = series * z + 2.0 / 11.0;
  series = series * z + 2.0 / 9.0;
  series = series * z + 2.0 / 7.0;
  series = series * z + 2.0 / 5.0;
  series = series * z + 2.0 / 3.0;
  series = series * z + 2.0;
  return e * 0.69314718055994530942 + series * s;
}

// The z >= 0 whose upper tail has the probability p, for p in [2^-33, 0.5]; absolute error below
// 1e-9. A rational function of r = sqrt(-log p), fitted over that range (equal ripples).
inline double NormalUpperTail(double p) {
  const double r = std::sqrt(-Log(p));
  double above = 2.1681452218157795;
  above = above * r + 18.52096907732946;
  above = above * r + 28.05706941033642;
  above = above * r - 7.630193502455053;
  above = above * r - 20.771131424785416;
  above = above * r - 3.3750268874042586;
  double below = 1.532590223585077;
  below = below * r + 13.131544198390229;
  below = below * r + 23.24362129365289;
  below = below * r + 11.37695776918907;
  below = below * r + 1.0;
  return above / below;
}

struct Constant {
  explicit Constant(const InitializerSpec& spec) : value(spec.a) {}
  float operator()(uint32_t) const { return value; }
  float value;
};

struct Uniform {
  explicit Uniform(const InitializerSpec& spec)
      : low(spec.a),
        width(spec.b - spec.a),
        // low + width * u may round up to b, which is not in the range.
        last(spec.a < spec.b ? std::nextafter(spec.b, spec.a) : spec.a) {}
  float operator()(uint32_t bits) const {
    const float u = static_cast<float>(static_cast<int32_t>(bits >> 8)) * (1.0f / 16777216.0f);
    const float value = low + width * u;
    return value < last ? value : last;
  }
  float low, width, last;
};

// The top bit gives the sign, the others where in the tail.
struct Normal {
  // Tail probabilities lie in [least, 0.5]: all of them, or those within two deviations.
  Normal(const InitializerSpec& spec, double least)
      : mean(spec.a), deviation(spec.b), start(least), step((0.5 - least) / 2147483648.0) {}
  float operator()(uint32_t bits) const {
    const double n = static_cast<int32_t>(bits & 0x7FFFFFFFu);
    const double sign = 1.0 - 2.0 * static_cast<int32_t>(bits >> 31);
    const double z = NormalUpperTail(start + (n + 0.5) * step);
    return static_cast<float>(mean + deviation * (sign * z));
  }
  double mean, deviation, start, step;
};

constexpr double kTailBeyondTwo = 0.022750131948179207200;  // P(Z > 2)

template <class Value, class Draw>
void Fill(const Draw& draw, uint64_t stream, int dim, void* vector) {
  const uint32_t low = static_cast<uint32_t>(stream);
  const uint32_t high = static_cast<uint32_t>(stream >> 32);
  if constexpr (std::is_same_v<Value, Float32>) {
    float* out = static_cast<float*>(vector);
    for (int j = 0; j < dim; ++j) out[j] = draw(Bits(low, high, static_cast<uint32_t>(j)));
  } else {
    alignas(64) float block[kBlock];
    for (int at = 0; at < dim; at += kBlock) {
      const int n = std::min(kBlock, dim - at);
      for (int j = 0; j < n; ++j) block[j] = draw(Bits(low, high, static_cast<uint32_t>(at + j)));
      Value::Store(block, static_cast<uint16_t*>(vector) + at, n);
    }
  }
}

template <class Value>
void Initialize(const InitializerSpec& spec, uint64_t stream, int dim, void* vector) {
  switch (spec.kind) {
    case InitializerKind::kZeros:
      std::memset(vector, 0, static_cast<size_t>(dim) * (std::is_same_v<Value, Float32> ? 4 : 2));
      break;
    case InitializerKind::kConstant:
      Fill<Value>(Constant(spec), stream, dim, vector);
      break;
    case InitializerKind::kUniform:
      Fill<Value>(Uniform(spec), stream, dim, vector);
      break;
    case InitializerKind::kNormal:
      Fill<Value>(Normal(spec, 0.0), stream, dim, vector);
      break;
    case InitializerKind::kTruncatedNormal:
      Fill<Value>(Normal(spec, kTailBeyondTwo), stream, dim, vector);
      break;
  }
}

}  // namespace

void InitializeKernel(const InitializerSpec& spec, uint64_t stream, ValueType type, int dim,
                      void* vector) {
  switch (type) {
    case ValueType::kFloat32:
      return Initialize<Float32>(spec, stream, dim, vector);
    case ValueType::kBFloat16:
      return Initialize<BFloat16>(spec, stream, dim, vector);
    case ValueType::kFloat16:
      return Initialize<Float16>(spec, stream, dim, vector);
  }
}

}  // namespace TACO_SIMD_NAMESPACE
}  // namespace embedding
}  // namespace taco
