// What this library was built from and for; the build defines both macros.
#ifndef TF_OPS_EMBEDDING_OPS_BUILD_INFO_H_
#define TF_OPS_EMBEDDING_OPS_BUILD_INFO_H_

#include <string>

#ifndef TACO_VERSION
#error "define TACO_VERSION: TACO's version, as in python/taco/_version.py"
#endif
#ifndef TACO_TENSORFLOW_VERSION
#error "define TACO_TENSORFLOW_VERSION: the version of the TensorFlow whose headers are used"
#endif

namespace taco {
namespace ops {

inline constexpr char kTacoVersion[] = TACO_VERSION;
inline constexpr char kTensorFlowBuilt[] = TACO_TENSORFLOW_VERSION;

// The version of the TensorFlow in this process, or "unknown" where it does not say (a program
// that links TensorFlow's framework library alone).
std::string TensorFlowRunning();

}  // namespace ops
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_OPS_BUILD_INFO_H_
