// Shape functions that several ops share. Input 0 is the table's handle, input 1 the keys.
#ifndef TF_OPS_EMBEDDING_OPS_SHAPE_FNS_H_
#define TF_OPS_EMBEDDING_OPS_SHAPE_FNS_H_

#include "tensorflow/core/framework/shape_inference.h"

namespace taco {
namespace ops {

using tensorflow::shape_inference::InferenceContext;

// The handle is a scalar.
absl::Status HandleShape(InferenceContext* c);

// As HandleShape; output 0 is a scalar.
absl::Status HandleToScalarShape(InferenceContext* c);

// Output 0 is keys.shape + [dim], dim being the attribute.
absl::Status GatherShape(InferenceContext* c);

// Input `rows` has one dimension more than input 1, the keys, and agrees with it in the others.
absl::Status CheckRowsShape(InferenceContext* c, int rows);

}  // namespace ops
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_OPS_SHAPE_FNS_H_
