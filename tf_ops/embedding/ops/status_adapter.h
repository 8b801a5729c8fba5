// The one place where the core's Status becomes TensorFlow's, and back.
#ifndef TF_OPS_EMBEDDING_OPS_STATUS_ADAPTER_H_
#define TF_OPS_EMBEDDING_OPS_STATUS_ADAPTER_H_

#include <string>

#include "absl/status/status.h"
#include "tf_ops/embedding/table/status.h"

namespace taco {
namespace ops {

// Same message; the code of the same name.
absl::Status ToTensorFlow(const embedding::Status& status);

// For file operations: what the core's file code is told when TensorFlow's file system fails. The
// message gets "<what> <file_name>: " in front.
embedding::Status FromFileSystem(const absl::Status& status, const char* what,
                                 const std::string& file_name);

// The same for kernels that call the file system themselves; the code stays what it was.
absl::Status NameFile(const absl::Status& status, const char* what, const std::string& file_name);

}  // namespace ops
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_OPS_STATUS_ADAPTER_H_
