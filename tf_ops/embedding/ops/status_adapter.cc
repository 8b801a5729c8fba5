#include "tf_ops/embedding/ops/status_adapter.h"

#include "absl/strings/str_cat.h"

namespace taco {
namespace ops {

absl::Status ToTensorFlow(const embedding::Status& status) {
  switch (status.code()) {
    case embedding::StatusCode::kOk:
      return absl::OkStatus();
    case embedding::StatusCode::kInvalidArgument:
      return absl::InvalidArgumentError(status.message());
    case embedding::StatusCode::kFailedPrecondition:
      return absl::FailedPreconditionError(status.message());
    case embedding::StatusCode::kResourceExhausted:
      return absl::ResourceExhaustedError(status.message());
    case embedding::StatusCode::kDataLoss:
      return absl::DataLossError(status.message());
    case embedding::StatusCode::kUnavailable:
      return absl::UnavailableError(status.message());
  }
  return absl::InternalError(status.message());
}

embedding::Status FromFileSystem(const absl::Status& status, const char* what,
                                 const std::string& file_name) {
  if (status.ok()) return embedding::OkStatus();
  std::string message = absl::StrCat(what, " ", file_name, ": ", status.message());
  if (status.code() == absl::StatusCode::kResourceExhausted) {
    return embedding::ResourceExhausted(std::move(message));
  }
  return embedding::Unavailable(std::move(message));
}

absl::Status NameFile(const absl::Status& status, const char* what, const std::string& file_name) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(what, " ", file_name, ": ", status.message()));
}

}  // namespace ops
}  // namespace taco
