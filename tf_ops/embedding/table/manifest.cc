#include "tf_ops/embedding/table/manifest.h"

#include <charconv>
#include <cstdio>
#include <utility>

#include "tf_ops/embedding/table/json_object.h"

namespace taco {
namespace embedding {
namespace {

// A field of type T, or null.
template <typename T>
const T* Get(const JsonFields& fields, const char* key) {
  const auto field = fields.find(key);
  return field == fields.end() ? nullptr : std::get_if<T>(&field->second);
}

bool GetString(const JsonFields& fields, const char* key, std::string* value) {
  const std::string* found = Get<std::string>(fields, key);
  if (found != nullptr) *value = *found;
  return found != nullptr;
}

bool GetCount(const JsonFields& fields, const char* key, int64_t* value) {
  const int64_t* found = Get<int64_t>(fields, key);
  if (found == nullptr || *found < 0) return false;
  *value = *found;
  return true;
}

bool GetDigest(const JsonFields& fields, uint32_t* digest) {
  const std::string* hex = Get<std::string>(fields, "digest");
  if (hex == nullptr) return false;
  const char* end = hex->data() + hex->size();
  const auto [stop, error] = std::from_chars(hex->data(), end, *digest, 16);
  return error == std::errc() && stop == end;
}

Status Refused(const std::string& why, const std::string& json) {
  return InvalidArgument("manifest " + why + ": '" + json.substr(0, 200) +
                         "'; pass the element for this table, unchanged.");
}

}  // namespace

bool IsTableSuffix(std::string_view suffix) {
  if (suffix.size() != kTableSuffix.size()) return false;
  for (size_t i = 0; i < suffix.size(); ++i) {
    const char c = suffix[i];
    const bool any = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (kTableSuffix[i] == '*' ? !any : c != kTableSuffix[i]) return false;
  }
  return true;
}

std::string Manifest::ToJson() const {
  char hex[9];
  std::snprintf(hex, sizeof hex, "%08x", digest);
  return JsonObject()
      .Add("format", kFormat)
      .Add("suffix", suffix)
      .Add("rows", rows)
      .Add("digest", std::string(hex))
      .Add("bytes", bytes)
      .Add("table", table)
      .str();
}

Status Manifest::FromJson(const std::string& json, Manifest* manifest) {
  const auto fields = ReadJsonObject(json);
  int64_t format;
  if (!fields.has_value() || !GetCount(*fields, "format", &format)) {
    return Refused("is not one of TacoTablesSave", json);
  }
  if (format != kFormat) {
    return InvalidArgument("manifest has format " + std::to_string(format) +
                           ", but this library reads format " + std::to_string(kFormat) +
                           "; the checkpoint was written by another version: update TACO.");
  }
  Manifest read;
  if (!GetString(*fields, "suffix", &read.suffix) || !IsTableSuffix(read.suffix) ||
      !GetDigest(*fields, &read.digest) || !GetCount(*fields, "rows", &read.rows) ||
      !GetCount(*fields, "bytes", &read.bytes)) {
    return Refused("lacks or has a wrong suffix, digest, rows or bytes", json);
  }
  GetString(*fields, "table", &read.table);
  *manifest = std::move(read);
  return OkStatus();
}

}  // namespace embedding
}  // namespace taco
