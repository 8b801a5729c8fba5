#include "tf_ops/embedding/table/manifest.h"

#include <string>

#include "gtest/gtest.h"

namespace taco {
namespace embedding {
namespace {

Manifest Example() {
  Manifest manifest;
  manifest.suffix = ".data-x7k2q-of-taco0";
  manifest.rows = 1234567;
  manifest.digest = 0x00ABCDEF;
  manifest.bytes = int64_t{1} << 60;
  manifest.table = "users";
  return manifest;
}

// Checkpoints hold these bytes.
TEST(ManifestTest, IsWrittenAsItAlwaysWas) {
  EXPECT_EQ(Example().ToJson(),
            "{\"format\": 1, \"suffix\": \".data-x7k2q-of-taco0\", \"rows\": 1234567, \"digest\": "
            "\"00abcdef\", \"bytes\": 1152921504606846976, \"table\": \"users\"}");
}

TEST(ManifestTest, ComesBackWhateverTheTablesName) {
  for (const std::string& name :
       {std::string(), std::string("a/b"), std::string("\"\\\n\t\x01\x7f"), std::string("\0x", 2),
        std::string("caf\xC3\xA9"), std::string("\xFF\xFEnot UTF-8\xC3")}) {
    Manifest written = Example();
    written.table = name;
    Manifest read;
    const Status status = Manifest::FromJson(written.ToJson(), &read);
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(read.suffix, written.suffix);
    EXPECT_EQ(read.rows, written.rows);
    EXPECT_EQ(read.digest, written.digest);
    EXPECT_EQ(read.bytes, written.bytes);
    EXPECT_EQ(read.table, written.table);
  }
}

TEST(ManifestTest, TakesFieldsInAnyOrderAndThoseItDoesNotKnow) {
  Manifest read;
  EXPECT_TRUE(Manifest::FromJson("{\"digest\":\"ff\",\"bytes\":2,\"rows\":1,\"later\":true,"
                                 "\"suffix\":\".data-00000-of-tacoz\",\"format\":1}",
                                 &read)
                  .ok());
  EXPECT_EQ(read.digest, 0xFFu);
  EXPECT_EQ(read.suffix, ".data-00000-of-tacoz");
}

TEST(ManifestTest, RefusesWhatNoSaveGivesAndSaysWhy) {
  const std::string good = Example().ToJson();
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    return text.replace(text.find(from), from.size(), to);
  };
  const struct {
    std::string json;
    const char* message;
  } cases[] = {
      {"", "not one of TacoTablesSave"},
      {"[]", "not one of TacoTablesSave"},
      {good + "x", "not one of TacoTablesSave"},
      {with("\"format\": 1", "\"format\": \"1\""), "not one of TacoTablesSave"},
      {with("\"format\": 1", "\"format\": 2"), "update TACO"},
      {with(".data-x7k2q", "/../x-x7k2q"), "wrong suffix"},
      {with(".data-x7k2q", ".data-X7k2q"), "wrong suffix"},
      {with("00abcdef", "100abcdef"), "digest"},
      {with("00abcdef", "-1"), "digest"},
      {with("00abcdef", "0x12"), "digest"},
      {with("00abcdef", ""), "digest"},
      {with("1234567", "-1"), "rows"},
      {with("1234567", "1.5"), "rows"},
      {with("1152921504606846976", "9223372036854775808"), "bytes"},
  };
  for (const auto& [json, message] : cases) {
    Manifest manifest = Example();
    const Status status = Manifest::FromJson(json, &manifest);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << json;
    EXPECT_NE(status.message().find(message), std::string::npos) << status.message();
    EXPECT_EQ(manifest.ToJson(), good) << "left alone";
  }
}

}  // namespace
}  // namespace embedding
}  // namespace taco
