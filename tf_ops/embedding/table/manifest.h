// Manifest: what a checkpoint keeps of a table beside the table's file.
#ifndef TF_OPS_EMBEDDING_TABLE_MANIFEST_H_
#define TF_OPS_EMBEDDING_TABLE_MANIFEST_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "tf_ops/embedding/table/status.h"

namespace taco {
namespace embedding {

// How the name of a table's file goes on behind the checkpoint's prefix; each '*' stands for a
// small letter or a digit.
inline constexpr std::string_view kTableSuffix = ".data-*****-of-taco*";

bool IsTableSuffix(std::string_view suffix);

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
  // gives (so that a manifest cannot name a file anywhere else). *manifest is then left alone.
  static Status FromJson(const std::string& json, Manifest* manifest);
};

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_MANIFEST_H_
