// Flat JSON objects: written for people and programs that ask, and read back from checkpoints.
#ifndef TF_OPS_EMBEDDING_TABLE_JSON_OBJECT_H_
#define TF_OPS_EMBEDDING_TABLE_JSON_OBJECT_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace taco {
namespace embedding {

// Writes one. Strings are bytes: what is UTF-8 gives JSON, and ReadJsonObject takes the rest too.
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

// A string, a whole number that 64 bits hold, or (monostate) another number, true, false or null.
using JsonValue = std::variant<std::monostate, std::string, int64_t>;
using JsonFields = std::map<std::string, JsonValue>;

// Reads one, as RFC 8259 has it but that bytes need not be UTF-8. Nothing for any other text, for
// objects and arrays within the object, and for a key that is there twice. O(size), no recursion.
std::optional<JsonFields> ReadJsonObject(std::string_view text);

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_JSON_OBJECT_H_
