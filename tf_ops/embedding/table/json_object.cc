#include "tf_ops/embedding/table/json_object.h"

#include <charconv>
#include <utility>

namespace taco {
namespace embedding {
namespace {

std::string Quoted(const std::string& text) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string quoted = "\"";
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20) {
      quoted += "\\u00";
      quoted += kDigits[c >> 4];
      quoted += kDigits[c & 15];
      continue;
    }
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

void AppendUtf8(uint32_t code, std::string* text) {
  const auto tail = [&](int shift) { *text += static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
  if (code < 0x80) {
    *text += static_cast<char>(code);
  } else if (code < 0x800) {
    *text += static_cast<char>(0xC0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    *text += static_cast<char>(0xE0 | code >> 12);
    tail(6);
    tail(0);
  } else {
    *text += static_cast<char>(0xF0 | code >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

// Reads from the front of a text. What gives false leaves it anywhere.
class Reader {
 public:
  explicit Reader(std::string_view text) : left_(text) {}

  bool Object(JsonFields* fields) {
    Space();
    if (!Take('{')) return false;
    Space();
    bool more = !Take('}');
    while (more) {
      std::string key;
      JsonValue value;
      Space();
      if (!String(&key)) return false;
      Space();
      if (!Take(':')) return false;
      Space();
      if (!Value(&value)) return false;
      if (!fields->emplace(std::move(key), std::move(value)).second) return false;
      Space();
      more = Take(',');
      if (!more && !Take('}')) return false;
    }
    Space();
    return left_.empty();
  }

 private:
  bool Take(char c) {
    if (left_.empty() || left_[0] != c) return false;
    left_.remove_prefix(1);
    return true;
  }

  bool TakeWord(std::string_view word) {
    if (left_.substr(0, word.size()) != word) return false;
    left_.remove_prefix(word.size());
    return true;
  }

  void Space() {
    const size_t end = left_.find_first_not_of(" \t\r\n");
    left_.remove_prefix(end == std::string_view::npos ? left_.size() : end);
  }

  bool Value(JsonValue* value) {
    if (left_.empty()) return false;
    if (left_[0] == '"') return String(&value->emplace<std::string>());
    if (TakeWord("true") || TakeWord("false") || TakeWord("null")) return true;
    return Number(value);
  }

  bool String(std::string* text) {
    if (!Take('"')) return false;
    while (!left_.empty()) {
      const char c = left_[0];
      left_.remove_prefix(1);
      if (c == '"') return true;
      if (static_cast<unsigned char>(c) < 0x20) return false;
      if (c != '\\') {
        *text += c;
      } else if (!Escape(text)) {
        return false;
      }
    }
    return false;
  }

  // What stands behind a backslash.
  bool Escape(std::string* text) {
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    if (left_.empty()) return false;
    const size_t simple = kNames.find(left_[0]);
    if (simple != std::string_view::npos) {
      *text += kMeanings[simple];
      left_.remove_prefix(1);
      return true;
    }
    uint32_t code;
    if (!Unit(&code)) return false;
    if (code >= 0xD800 && code < 0xE000) {  // the first of two UTF-16 surrogates, or an error
      uint32_t second;
      if (code >= 0xDC00 || !Take('\\') || !Unit(&second)) return false;
      if (second < 0xDC00 || second >= 0xE000) return false;
      code = 0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00);
    }
    AppendUtf8(code, text);
    return true;
  }

  // uXXXX: one unit of UTF-16.
  bool Unit(uint32_t* unit) {
    if (left_.size() < 5 || !Take('u')) return false;
    const char* end = left_.data() + 4;
    if (std::from_chars(left_.data(), end, *unit, 16).ptr != end) return false;
    left_.remove_prefix(4);
    return true;
  }

  size_t Digits() {
    const size_t end = left_.find_first_not_of("0123456789");
    const size_t count = end == std::string_view::npos ? left_.size() : end;
    left_.remove_prefix(count);
    return count;
  }

  bool Number(JsonValue* value) {
    const char* const begin = left_.data();
    Take('-');
    if (!Take('0') && Digits() == 0) return false;
    const char* const end = left_.data();
    bool whole = true;
    if (Take('.')) {
      whole = false;
      if (Digits() == 0) return false;
    }
    if (Take('e') || Take('E')) {
      whole = false;
      if (!Take('+')) Take('-');
      if (Digits() == 0) return false;
    }
    int64_t number;
    if (whole && std::from_chars(begin, end, number).ec == std::errc()) *value = number;
    return true;
  }

  std::string_view left_;
};

}  // namespace

void JsonObject::Key(const char* key) {
  if (!text_.empty()) text_ += ", ";
  text_ += Quoted(key) + ": ";
}

JsonObject& JsonObject::Add(const char* key, const std::string& value) {
  Key(key);
  text_ += Quoted(value);
  return *this;
}

JsonObject& JsonObject::Add(const char* key, int64_t value) {
  Key(key);
  text_ += std::to_string(value);
  return *this;
}

JsonObject& JsonObject::Add(const char* key, double value) {
  Key(key);
  char digits[32];  // 9 of them, sign, point and exponent, whatever the process's locale
  const auto end = std::to_chars(digits, digits + sizeof digits, value, std::chars_format::general,
                                 /*precision=*/9);
  text_.append(digits, end.ptr);
  return *this;
}

JsonObject& JsonObject::Add(const char* key, const std::vector<std::string>& values) {
  Key(key);
  text_ += '[';
  for (size_t i = 0; i < values.size(); ++i) text_ += (i == 0 ? "" : ", ") + Quoted(values[i]);
  text_ += ']';
  return *this;
}

std::optional<JsonFields> ReadJsonObject(std::string_view text) {
  JsonFields fields;
  if (!Reader(text).Object(&fields)) return std::nullopt;
  return fields;
}

}  // namespace embedding
}  // namespace taco
