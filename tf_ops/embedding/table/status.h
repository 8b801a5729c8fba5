// Status: how the embedding core reports failure.
//
// No function of the core throws, aborts or prints. What can fail returns a Status whose message
// is one sentence that a user can act on: what was wrong, with which value, and the remedy. The
// adapter translates it once (OP_REQUIRES in TensorFlow).
#ifndef TF_OPS_EMBEDDING_TABLE_STATUS_H_
#define TF_OPS_EMBEDDING_TABLE_STATUS_H_

#include <string>
#include <utility>

namespace taco {
namespace embedding {

enum class StatusCode {
  kOk = 0,
  kInvalidArgument,     // the caller's value is wrong: shape, range, dtype, unknown name
  kFailedPrecondition,  // right value, wrong state: e.g. another optimizer's slots are in the rows
  kResourceExhausted,   // the system refused memory or disk
  kDataLoss,            // bytes from outside are corrupt or truncated
  kUnavailable,         // I/O failed; trying again may help
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

inline Status OkStatus() { return Status(); }
inline Status InvalidArgument(std::string message) {
  return Status(StatusCode::kInvalidArgument, std::move(message));
}
inline Status FailedPrecondition(std::string message) {
  return Status(StatusCode::kFailedPrecondition, std::move(message));
}
inline Status ResourceExhausted(std::string message) {
  return Status(StatusCode::kResourceExhausted, std::move(message));
}
inline Status DataLoss(std::string message) {
  return Status(StatusCode::kDataLoss, std::move(message));
}
inline Status Unavailable(std::string message) {
  return Status(StatusCode::kUnavailable, std::move(message));
}

}  // namespace embedding
}  // namespace taco

#define TACO_EMBEDDING_RETURN_IF_ERROR(expr)         \
  do {                                               \
    ::taco::embedding::Status taco_status_ = (expr); \
    if (!taco_status_.ok()) return taco_status_;     \
  } while (0)

#endif  // TF_OPS_EMBEDDING_TABLE_STATUS_H_
