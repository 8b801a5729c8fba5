// What libtaco_tf.so adds to TensorFlow's registries.
//
// Registrations are functions, not static objects, so that registration.cc can first compare
// TensorFlow's version with the one built for, and register nothing when they differ.
#ifndef TF_OPS_EMBEDDING_OPS_REGISTRATION_H_
#define TF_OPS_EMBEDDING_OPS_REGISTRATION_H_

namespace taco {
namespace ops {

// Signatures, shape functions, documentation (x_op_defs.cc).
void DefineTableOps();
void DefineRowOps();
void DefineOptimizerOps();
void DefineFileOps();

// CPU kernels (x_kernels.cc).
void RegisterTableKernels();
void RegisterLookupKernels();
void RegisterUpdateKernels();
void RegisterOptimizerKernels();
void RegisterExportKernels();
void RegisterSaveKernels();
void RegisterRestoreKernels();

}  // namespace ops
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_OPS_REGISTRATION_H_
