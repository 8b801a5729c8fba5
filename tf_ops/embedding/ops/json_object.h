// JsonObject: writes one flat JSON object.
#ifndef TF_OPS_EMBEDDING_OPS_JSON_OBJECT_H_
#define TF_OPS_EMBEDDING_OPS_JSON_OBJECT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace taco {
namespace ops {

class JsonObject {
 public:
  JsonObject& Add(const char* key, const std::string& value);
  JsonObject& Add(const char* key, int64_t value);
  JsonObject& Add(const char* key, double value);  // must be finite
  JsonObject& Add(const char* key, const std::vector<std::string>& values);

  std::string str() const { return "{" + text_ + "}"; }

 private:
  void Key(const char* key);

  std::string text_;
};

// What TacoTablesSave says about one file and TacoTableRestore takes.
struct Manifest {
  static constexpr int64_t kFormat = 1;

  std::string suffix;
  int64_t rows = 0;
  uint32_t digest = 0;
  int64_t bytes = 0;
  std::string table;

  std::string ToJson() const;
  // InvalidArgument: not such a JSON object, a format from the future, or a suffix that no save
  // gives (so that a manifest cannot name a file anywhere else).
  static absl::Status FromJson(const std::string& json, Manifest* manifest);
};

}  // namespace ops
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_OPS_JSON_OBJECT_H_
