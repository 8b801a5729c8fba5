// Whatever a checkpoint gives as a manifest: no crash, no undefined behaviour, and no file named
// but a table's. What is accepted reads the same when it is written again.

#include <cstdio>
#include <cstdlib>
#include <string>

#include "tf_ops/embedding/table/manifest.h"

namespace taco {
namespace embedding {
namespace {

void Check(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

bool Same(const Manifest& a, const Manifest& b) {
  return a.suffix == b.suffix && a.rows == b.rows && a.digest == b.digest && a.bytes == b.bytes &&
         a.table == b.table;
}

void ReadAnything(const std::string& json) {
  Manifest manifest;
  const Status status = Manifest::FromJson(json, &manifest);
  if (!status.ok()) {
    Check(status.code() == StatusCode::kInvalidArgument, "refuses it as an argument");
    Check(status.message().rfind("manifest ", 0) == 0, "says what it is about");
    return;
  }
  Check(IsTableSuffix(manifest.suffix), "names a table's file");
  Check(manifest.rows >= 0 && manifest.bytes >= 0, "counts");
  Manifest again;
  Check(Manifest::FromJson(manifest.ToJson(), &again).ok() && Same(again, manifest),
        "reads what it writes");
}

void ReadNamed(const std::string& table) {
  Manifest manifest;
  manifest.suffix = ".data-x7k2q-of-taco0";
  manifest.table = table;
  Manifest read;
  Check(Manifest::FromJson(manifest.ToJson(), &read).ok() && Same(read, manifest),
        "takes any table's name");
}

}  // namespace
}  // namespace embedding
}  // namespace taco

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(data, data + size);
  taco::embedding::ReadAnything(text);
  taco::embedding::ReadNamed(text);
  return 0;
}
