// Whatever text names an initialiser: no crash, no undefined behaviour. What is accepted draws
// numbers within its bounds, and the others are told what is allowed.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tf_ops/embedding/table/initializer.h"

namespace taco {
namespace embedding {
namespace {

void Check(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

void CheckDraws(const InitializerSpec& spec) {
  constexpr int kDim = 9;
  float row[kDim];
  InitializeVector(spec, /*table_id=*/1, /*key=*/-1, ValueType::kFloat32, kDim, row);
  for (const float x : row) {
    switch (spec.kind) {
      case InitializerKind::kZeros:
        Check(x == 0.0f, "zeros are 0");
        break;
      case InitializerKind::kConstant:
        Check(x == spec.a, "a constant is one");
        break;
      case InitializerKind::kUniform:
        Check(x >= spec.a && x <= spec.b, "a uniform number lies between its bounds");
        break;
      case InitializerKind::kNormal:
      case InitializerKind::kTruncatedNormal:
        Check(!std::isnan(x), "a normal number is one");
        break;
    }
  }
}

void Parse(const std::string& text, int dim) {
  InitializerSpec spec;
  const Status status = InitializerSpec::Parse(text, dim, &spec);
  if (!status.ok()) {
    Check(status.code() == StatusCode::kInvalidArgument, "refuses it as an argument");
    Check(status.message().find("initializer") != std::string::npos, "says what it is about");
    return;
  }
  Check(ValidateInitializer(spec).ok(), "accepts what is valid");
  CheckDraws(spec);
}

}  // namespace
}  // namespace embedding
}  // namespace taco

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(data, data + size);
  for (const int dim : {0, 1, 4096}) taco::embedding::Parse(text, dim);
  return 0;
}
