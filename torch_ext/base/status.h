// Status: how the cores of torch_ext report failure.
//
// No function of a core throws, aborts or prints. What can fail returns a Status whose message is
// one sentence that a user can act on. The bindings translate it once (TORCH_CHECK).
#ifndef TORCH_EXT_BASE_STATUS_H_
#define TORCH_EXT_BASE_STATUS_H_

#include <string>
#include <utility>

namespace taco {
namespace base {

enum class StatusCode {
  kOk = 0,
  kInvalidArgument,    // the caller's value is wrong: range, dtype, size
  kResourceExhausted,  // the system refused memory
  kDataLoss,           // what came from outside is not what it claims to be
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
inline Status ResourceExhausted(std::string message) {
  return Status(StatusCode::kResourceExhausted, std::move(message));
}
inline Status DataLoss(std::string message) {
  return Status(StatusCode::kDataLoss, std::move(message));
}

}  // namespace base
}  // namespace taco

#endif  // TORCH_EXT_BASE_STATUS_H_
