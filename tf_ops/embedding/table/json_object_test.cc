#include "tf_ops/embedding/table/json_object.h"

#include <limits>
#include <string>

#include "gtest/gtest.h"

namespace taco {
namespace embedding {
namespace {

JsonValue ValueOf(const std::string& text) {
  const auto fields = ReadJsonObject("{\"v\": " + text + "}");
  EXPECT_TRUE(fields.has_value()) << text;
  return fields.has_value() ? fields->at("v") : JsonValue();
}

TEST(JsonObjectTest, Writes) {
  EXPECT_EQ(JsonObject().str(), "{}");
  EXPECT_EQ(JsonObject()
                .Add("text", std::string("a\"\\\n\x1f/"))
                .Add("least", std::numeric_limits<int64_t>::min())
                .Add("list", std::vector<std::string>{"x", "y"})
                .Add("none", std::vector<std::string>{})
                .str(),
            "{\"text\": \"a\\\"\\\\\\u000a\\u001f/\", \"least\": -9223372036854775808, "
            "\"list\": [\"x\", \"y\"], \"none\": []}");
  for (const auto& [number, text] : {std::pair<double, const char*>{0.0, "0"},
                                     {0.75, "0.75"},
                                     {2.0 / 3, "0.666666667"},
                                     {1e-12, "1e-12"},
                                     {-1.5e300, "-1.5e+300"}}) {
    EXPECT_EQ(JsonObject().Add("n", number).str(), std::string("{\"n\": ") + text + "}");
  }
}

TEST(JsonObjectTest, ReadsScalars) {
  EXPECT_EQ(ValueOf("0"), JsonValue(int64_t{0}));
  EXPECT_EQ(ValueOf("-0"), JsonValue(int64_t{0}));
  EXPECT_EQ(ValueOf("9223372036854775807"), JsonValue(std::numeric_limits<int64_t>::max()));
  EXPECT_EQ(ValueOf("-9223372036854775808"), JsonValue(std::numeric_limits<int64_t>::min()));
  for (const char* other :
       {"9223372036854775808", "1.5", "1.0", "1e3", "1E+3", "-2.5e-3", "true", "false", "null"}) {
    EXPECT_EQ(ValueOf(other), JsonValue()) << other;
  }
}

TEST(JsonObjectTest, ReadsStrings) {
  EXPECT_EQ(ValueOf("\"\""), JsonValue(std::string()));
  EXPECT_EQ(ValueOf(R"("\"\\\/\b\f\n\r\t")"), JsonValue(std::string("\"\\/\b\f\n\r\t")));
  EXPECT_EQ(ValueOf(R"("\u0000\u0041\u00e9\u20AC\uD83D\ude00")"),
            JsonValue(std::string("\0A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 11)));
  EXPECT_EQ(ValueOf("\"\xC3\xA9\x7f\xFF\""), JsonValue(std::string("\xC3\xA9\x7f\xFF")));
}

TEST(JsonObjectTest, ReadsObjects) {
  EXPECT_EQ(ReadJsonObject(" {\t} \n"), JsonFields());
  const JsonFields expected = {{"a", int64_t{1}}, {"b\n", std::string("x")}, {"", JsonValue()}};
  EXPECT_EQ(ReadJsonObject("{\"a\":1,\"b\\n\":\"x\" ,\r\n\"\" : null}"), expected);
}

TEST(JsonObjectTest, RefusesWhatIsNotJsonAndWhatIsNotFlat) {
  for (const char* text : {"",
                           " ",
                           "{",
                           "}",
                           "{}{}",
                           "{} x",
                           "[]",
                           "1",
                           "\"a\"",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{\"a\":1,}",
                           "{,}",
                           "{\"a\" 1}",
                           "{\"a\":1 \"b\":2}",
                           "{a:1}",
                           "{'a':1}",
                           "{\"a\":1,\"a\":1}",
                           "{\"a\":[]}",
                           "{\"a\":{}}",
                           "{\"a\":01}",
                           "{\"a\":-}",
                           "{\"a\":+1}",
                           "{\"a\":.5}",
                           "{\"a\":1.}",
                           "{\"a\":1e}",
                           "{\"a\":1e+}",
                           "{\"a\":0x1}",
                           "{\"a\":nan}",
                           "{\"a\":True}",
                           "{\"a\":nul}",
                           "{\"a\":\"}",
                           "{\"a\":\"\\\"}",
                           "{\"a\":\"\\x\"}",
                           "{\"a\":\"\\u12\"}",
                           "{\"a\":\"\\u12g4\"}",
                           "{\"a\":\"\\u-123\"}",
                           "{\"a\":\"\\ud800\"}",
                           "{\"a\":\"\\udc00\"}",
                           "{\"a\":\"\\ud800\\u0041\"}",
                           "{\"a\":\"\n\"}"}) {
    EXPECT_FALSE(ReadJsonObject(text).has_value()) << text;
  }
  EXPECT_FALSE(ReadJsonObject(std::string("{}\0", 3)).has_value());
  EXPECT_FALSE(ReadJsonObject(std::string(1 << 20, '{')).has_value());
}

}  // namespace
}  // namespace embedding
}  // namespace taco
