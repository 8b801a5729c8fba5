#include "tf_ops/embedding/ops/json_object.h"

#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "google/protobuf/json/json.h"
#include "google/protobuf/struct.pb.h"
#include "tf_ops/embedding/ops/checkpoint_files.h"

namespace taco {
namespace ops {
namespace {

std::string Quoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppendFormat(&quoted, "\\u%04x", c);
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

using Fields = google::protobuf::Map<std::string, google::protobuf::Value>;

bool GetString(const Fields& fields, const char* key, std::string* value) {
  const auto field = fields.find(key);
  if (field == fields.end() || !field->second.has_string_value()) return false;
  *value = field->second.string_value();
  return true;
}

// A count: JSON numbers are doubles, exact below 2^53.
bool GetCount(const Fields& fields, const char* key, int64_t* value) {
  const auto field = fields.find(key);
  if (field == fields.end() || !field->second.has_number_value()) return false;
  const double number = field->second.number_value();
  if (!(number >= 0 && number < 9007199254740992.0 && number == std::floor(number))) return false;
  *value = static_cast<int64_t>(number);
  return true;
}

}  // namespace

void JsonObject::Key(const char* key) {
  absl::StrAppend(&text_, text_.empty() ? "" : ", ", Quoted(key), ": ");
}

JsonObject& JsonObject::Add(const char* key, const std::string& value) {
  Key(key);
  text_ += Quoted(value);
  return *this;
}

JsonObject& JsonObject::Add(const char* key, int64_t value) {
  Key(key);
  absl::StrAppend(&text_, value);
  return *this;
}

JsonObject& JsonObject::Add(const char* key, double value) {
  Key(key);
  absl::StrAppendFormat(&text_, "%.9g", value);
  return *this;
}

JsonObject& JsonObject::Add(const char* key, const std::vector<std::string>& values) {
  Key(key);
  text_ += '[';
  for (size_t i = 0; i < values.size(); ++i) {
    absl::StrAppend(&text_, i == 0 ? "" : ", ", Quoted(values[i]));
  }
  text_ += ']';
  return *this;
}

std::string Manifest::ToJson() const {
  return JsonObject()
      .Add("format", kFormat)
      .Add("suffix", suffix)
      .Add("rows", rows)
      .Add("digest", absl::StrFormat("%08x", digest))
      .Add("bytes", bytes)
      .Add("table", table)
      .str();
}

absl::Status Manifest::FromJson(const std::string& json, Manifest* manifest) {
  google::protobuf::Struct object;
  int64_t format;
  if (!google::protobuf::json::JsonStringToMessage(json, &object).ok() ||
      !GetCount(object.fields(), "format", &format)) {
    return absl::InvalidArgumentError(
        absl::StrCat("manifest is not one of TacoTablesSave: '", json.substr(0, 200),
                     "'; pass the element for this table, unchanged."));
  }
  if (format != kFormat) {
    return absl::InvalidArgumentError(
        absl::StrCat("manifest has format ", format, ", but this library reads format ", kFormat,
                     "; the checkpoint was written by another version: update TACO."));
  }
  std::string digest;
  if (!GetString(object.fields(), "suffix", &manifest->suffix) ||
      !IsTableSuffix(manifest->suffix) || !GetString(object.fields(), "digest", &digest) ||
      !absl::SimpleHexAtoi(digest, &manifest->digest) ||
      !GetCount(object.fields(), "rows", &manifest->rows) ||
      !GetCount(object.fields(), "bytes", &manifest->bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("manifest lacks or has a wrong suffix, digest, rows or bytes: '",
                     json.substr(0, 200), "'; pass the element for this table, unchanged."));
  }
  GetString(object.fields(), "table", &manifest->table);
  return absl::OkStatus();
}

}  // namespace ops
}  // namespace taco
