#include "tf_ops/embedding/table/initializer.h"

#include <charconv>
#include <cmath>
#include <string>

#include "tf_ops/embedding/table/initializer_kernels.h"
#include "tf_ops/embedding/table/simd.h"

namespace taco {
namespace embedding {
namespace {

// A bijection of the 64-bit numbers in which every output bit depends on every input bit: the
// finaliser of SplitMix64.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// What the random numbers of one row start from. Distinct keys of a table get distinct streams.
uint64_t StreamOf(uint64_t seed, uint64_t table_id, int64_t key) {
  const uint64_t table = Mix(Mix(seed + 0x9E3779B97F4A7C15u) ^ table_id);
  return Mix(Mix(table ^ static_cast<uint64_t>(key)) + table);
}

constexpr char kAllowed[] =
    "Allowed: zeros, constant:VALUE, uniform:LOW,HIGH, normal:MEAN,STDDEV, "
    "truncated_normal:MEAN,STDDEV, glorot_uniform, glorot_normal; each may end in ;seed=NUMBER.";

Status Malformed(const std::string& text, const std::string& why) {
  return InvalidArgument("The initializer \"" + text + "\" " + why + ". " + kAllowed);
}

template <class Number>
bool ParseNumber(const std::string& text, Number* number) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, *number);
  return error == std::errc() && stop == end;
}

// Splits `text` at the first `separator`. False, and *rest empty, where there is none.
bool SplitAt(const std::string& text, char separator, std::string* first, std::string* rest) {
  const size_t at = text.find(separator);
  *first = text.substr(0, at);
  *rest = at == std::string::npos ? "" : text.substr(at + 1);
  return at != std::string::npos;
}

struct NamedKind {
  const char* name;
  InitializerKind kind;
  int parameters;
};
constexpr NamedKind kKinds[] = {
    {"zeros", InitializerKind::kZeros, 0},
    {"constant", InitializerKind::kConstant, 1},
    {"uniform", InitializerKind::kUniform, 2},
    {"normal", InitializerKind::kNormal, 2},
    {"truncated_normal", InitializerKind::kTruncatedNormal, 2},
};

// The parameters after the colon, as many as the kind has.
bool ParseParameters(const std::string& text, int count, InitializerSpec* spec) {
  if (count == 1) return ParseNumber(text, &spec->a);
  std::string a, b;
  return SplitAt(text, ',', &a, &b) && ParseNumber(a, &spec->a) && ParseNumber(b, &spec->b);
}

}  // namespace

InitializerSpec InitializerSpec::GlorotUniform(int dim, uint64_t seed) {
  InitializerSpec spec;
  spec.kind = InitializerKind::kUniform;
  spec.b = static_cast<float>(std::sqrt(6.0 / (1.0 + dim)));
  spec.a = -spec.b;
  spec.seed = seed;
  return spec;
}

InitializerSpec InitializerSpec::GlorotNormal(int dim, uint64_t seed) {
  // The standard deviation of a normal truncated at two deviations: Keras divides by it, so that
  // what comes out has the deviation asked for.
  constexpr double kTruncatedDeviation = 0.87962566103423978;
  InitializerSpec spec;
  spec.kind = InitializerKind::kTruncatedNormal;
  spec.b = static_cast<float>(std::sqrt(2.0 / (1.0 + dim)) / kTruncatedDeviation);
  spec.seed = seed;
  return spec;
}

Status InitializerSpec::Parse(const std::string& text, int dim, InitializerSpec* spec) {
  std::string body, option, name, parameters;
  uint64_t seed = 0;
  if (SplitAt(text, ';', &body, &option)) {
    constexpr char kSeed[] = "seed=";
    const size_t length = sizeof kSeed - 1;
    if (option.compare(0, length, kSeed) != 0 || !ParseNumber(option.substr(length), &seed)) {
      return Malformed(text,
                       "has \"" + option + "\" where only seed=NUMBER (0 to 2^64 - 1) may be");
    }
  }
  const bool has_parameters = SplitAt(body, ':', &name, &parameters);
  if (name == "glorot_uniform" || name == "glorot_normal") {
    if (has_parameters) return Malformed(text, "has parameters, and " + name + " takes none");
    if (dim < 1) return Malformed(text, "needs a dim of at least 1, not " + std::to_string(dim));
    *spec = name == "glorot_uniform" ? GlorotUniform(dim, seed) : GlorotNormal(dim, seed);
    return OkStatus();
  }
  for (const NamedKind& known : kKinds) {
    if (name != known.name) continue;
    InitializerSpec parsed;
    parsed.kind = known.kind;
    parsed.seed = seed;
    if (has_parameters != (known.parameters > 0) ||
        (has_parameters && !ParseParameters(parameters, known.parameters, &parsed))) {
      return Malformed(
          text, "should have " + std::to_string(known.parameters) + " number(s) after its name");
    }
    TACO_EMBEDDING_RETURN_IF_ERROR(ValidateInitializer(parsed));
    *spec = parsed;
    return OkStatus();
  }
  return Malformed(text, "is not known");
}

Status ValidateInitializer(const InitializerSpec& spec) {
  const std::string values = std::to_string(spec.a) + " and " + std::to_string(spec.b);
  const bool normal =
      spec.kind == InitializerKind::kNormal || spec.kind == InitializerKind::kTruncatedNormal;
  if (spec.kind < InitializerKind::kZeros || spec.kind > InitializerKind::kTruncatedNormal) {
    return InvalidArgument("The initializer kind " + std::to_string(static_cast<int>(spec.kind)) +
                           " is unknown. " + kAllowed);
  }
  if (!std::isfinite(spec.a) || !std::isfinite(spec.b)) {
    return InvalidArgument("The initializer's parameters are " + values +
                           "; they must be finite numbers.");
  }
  if (spec.kind == InitializerKind::kUniform &&
      (spec.b < spec.a || !std::isfinite(spec.b - spec.a))) {
    return InvalidArgument("The uniform initializer's bounds are " + values +
                           "; the lower one must come first, and their difference be finite.");
  }
  if (normal && spec.b < 0.0f) {
    return InvalidArgument("The normal initializer's mean and standard deviation are " + values +
                           "; the deviation must not be negative.");
  }
  return OkStatus();
}

void InitializeVector(const InitializerSpec& spec, uint64_t table_id, int64_t key, ValueType type,
                      int dim, void* vector) {
  const uint64_t stream = StreamOf(spec.seed, table_id, key);
  switch (ActiveSimd()) {
    case Simd::kAvx512:
      return v4::InitializeKernel(spec, stream, type, dim, vector);
    case Simd::kAvx2:
      return v3::InitializeKernel(spec, stream, type, dim, vector);
    case Simd::kBaseline:
      return v2::InitializeKernel(spec, stream, type, dim, vector);
  }
}

}  // namespace embedding
}  // namespace taco
