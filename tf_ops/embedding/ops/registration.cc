// The library's only static object: runs when TensorFlow loads libtaco_tf.so.
//
// Ops and kernels use TensorFlow's C++ ABI, which holds for one version. A library loaded into
// another version that still resolves all symbols would corrupt memory later; so it registers
// nothing, but for one registration that fails and by which tf.load_op_library gets the reason.
#include "tf_ops/embedding/ops/registration.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_def_builder.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/platform/logging.h"
#include "tf_ops/embedding/ops/build_info.h"

namespace taco {
namespace ops {
namespace {

#ifdef TACO_PRETEND_TENSORFLOW_VERSION  // a build for the test of what follows
constexpr char kNeeded[] = TACO_PRETEND_TENSORFLOW_VERSION;
#else
constexpr const char* kNeeded = kTensorFlowBuilt;
#endif

// Empty if all is well.
std::string ReasonNotToRegister() {
  const std::string running = TensorFlowRunning();
  if (running != kNeeded && running != "unknown") {
    return absl::StrCat("libtaco_tf.so was built for TensorFlow ", kNeeded, ", this is ", running,
                        ". Remedy: pip install tensorflow-cpu==", kNeeded,
                        " (or tensorflow==", kNeeded,
                        "), or build TACO against the TensorFlow you have: make build.");
  }
  if (tensorflow::GetRegisteredKernelsForOp("TacoTable").kernel_size() > 0) {
    return "another copy of libtaco_tf.so is loaded in this process, and its ops are registered. "
           "Remedy: load one file, by one path, everywhere.";
  }
  return "";
}

// tf.load_op_library holds registrations back until the library is loaded, and then returns the
// first one's error. Where a library is loaded without it, TensorFlow calls the factory at once
// and ends the process if that fails: then it is a warning in the log and a harmless op.
void RegisterFailure(const std::string& reason) {
  auto registering = std::make_shared<bool>(true);
  tensorflow::OpRegistry::Global()->Register(
      [reason, registering](tensorflow::OpRegistrationData* data) -> absl::Status {
        if (!*registering) return absl::FailedPreconditionError(reason);
        LOG(ERROR) << reason;
        return tensorflow::OpDefBuilder("TacoNotLoaded").Doc(reason).Finalize(data);
      });
  *registering = false;
}

bool RegisterAll() {
  const std::string reason = ReasonNotToRegister();
  if (!reason.empty()) {
    RegisterFailure(reason);
    return false;
  }
  DefineTableOps();
  DefineRowOps();
  DefineOptimizerOps();
  DefineFileOps();
  RegisterTableKernels();
  RegisterLookupKernels();
  RegisterUpdateKernels();
  RegisterOptimizerKernels();
  RegisterExportKernels();
  RegisterSaveKernels();
  RegisterRestoreKernels();
  return true;
}

const bool registered [[maybe_unused]] = RegisterAll();

}  // namespace
}  // namespace ops
}  // namespace taco
