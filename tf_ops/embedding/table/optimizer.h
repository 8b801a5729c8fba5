// Fused sparse optimizers: one row, its slots and its gradient in one pass.
//
// Each computes what the stock optimizer of the same name computes for the same rows: Keras 3's
// formulas, and those of tf.compat.v1.train where they differ (flags). All arithmetic is float32,
// without contraction into fused multiply-adds, so that a result does not depend on the CPU's
// vector width. Rows that a batch does not touch are not updated: no decay of their moments
// either, except in SparseAdam, which makes up for it at the row's next update.
#ifndef TF_OPS_EMBEDDING_TABLE_OPTIMIZER_H_
#define TF_OPS_EMBEDDING_TABLE_OPTIMIZER_H_

#include <cstdint>
#include <string>

#include "tf_ops/embedding/table/row_layout.h"
#include "tf_ops/embedding/table/status.h"

namespace taco {
namespace embedding {

// The numbers are part of the file format.
enum class OptimizerKind : int32_t {
  kNone = 0,        // no slots; SGD may be applied
  kSgd = 1,         // w -= lr g
  kMomentum = 2,    // slot 0: momentum
  kAdagrad = 3,     // slot 0: accumulator
  kAdam = 4,        // slots m, v (vhat with kAmsgrad); AdamW is Adam with weight_decay
  kSparseAdam = 5,  // Adam with m, v decayed by the steps since the row's last update; 1 scalar:
                    // the step of that update (its low 32 bits as bits of a float, 0 for never)
  kRmsprop = 6,     // velocity (momentum if kHasMomentum) (average gradient if kCentered)
  kAdadelta = 7,    // accumulated gradient, accumulated update
  kFtrl = 8,        // accumulator, linear
  kLamb = 9,        // m, v; trust ratio over the rows touched by the batch
  // tf.compat.v1.train's regularised ones, with l1 and l2 inside the rule.
  kProximalGradientDescent = 10,  // no slots
  kProximalAdagrad = 11,          // accumulator
  kAdagradDa = 12,                // sums of gradients and of their squares; the weights follow from
                                  // these and the step alone, whatever they were before
};
inline constexpr OptimizerKind kLastOptimizerKind = OptimizerKind::kAdagradDa;

// Bits of OptimizerSpec::flags.
inline constexpr uint32_t kNesterov = 1u << 0;
inline constexpr uint32_t kLrOutsideMomentum = 1u << 1;  // tf.compat.v1 Momentum: a = mu a + g
inline constexpr uint32_t kAmsgrad = 1u << 2;
inline constexpr uint32_t kCentered = 1u << 3;
inline constexpr uint32_t kHasMomentum = 1u << 4;  // RMSProp with a momentum slot
// LAMB as its paper has it: weight_decay * w is part of the direction, not decoupled as in Keras.
inline constexpr uint32_t kDecayInDirection = 1u << 5;

// What decides the layout of a row. A table has at most one spec with slots at a time.
struct OptimizerSpec {
  OptimizerKind kind = OptimizerKind::kNone;
  uint32_t flags = 0;
  float slot_init[3] = {0.0f, 0.0f, 0.0f};  // first value of every element of each slot

  int num_slots() const;
  int num_scalars() const;
  bool SameSlots(const OptimizerSpec& other) const;  // kind and the flags that add slots agree
  std::string Name() const;                          // "Adam", "RMSprop(centered)", ...
  const char* SlotName(int slot) const;              // "m", "v", "accumulator", ...
};

// The values of one step. Fields that a kind does not name are ignored.
struct OptimizerStep {
  int64_t step = 1;  // 1 for the first update: Keras's iterations + 1, AdagradDA's global_step + 1
  float learning_rate = 0.001f;
  // In double, because Keras subtracts its betas from 1 before it rounds to float32: 1 - 0.999 is
  // 0.001f, while 1 - 0.999f is 0.00099998713f. TensorFlow's own kernels do the latter: for their
  // results pass the beta rounded to float32.
  double beta1 = 0.9;    // Adam family; momentum of Momentum and RMSprop
  double beta2 = 0.999;  // Adam family; rho of RMSprop and Adadelta
  float epsilon = 1e-7f;
  float weight_decay = 0.0f;  // decoupled, for every kind: w -= lr wd w before the update
  float l1 = 0.0f;            // FTRL, the proximal two, AdagradDA
  float l2 = 0.0f;            // the same (FTRL's beta / (2 lr) is added by the caller where used)
  float l2_shrinkage = 0.0f;  // FTRL
  float lr_power = -0.5f;     // FTRL
};

// InvalidArgument, naming the value and what is allowed: a hyperparameter that is not finite,
// step < 1, betas outside [0, 1) in the Adam family, a momentum or rho outside [0, 1], a negative
// l1 or l2 where they count; in FTRL and ProximalAdagrad a learning rate of 0 or less; in FTRL a
// negative l2_shrinkage, lr_power > 0.
Status ValidateStep(const OptimizerSpec& spec, const OptimizerStep& step);

// Constants of a step, computed once per batch. As in Keras the powers of the betas (rounded to
// float32) are rounded to float32 before they are subtracted from 1; the rest is float32.
struct StepConstants {
  OptimizerStep h;
  float beta1 = 0.0f;  // h.beta1, h.beta2 rounded
  float beta2 = 0.0f;
  float direction_decay = 0.0f;  // LAMB with kDecayInDirection: its weight_decay
  float one_minus_beta1 = 1.0f;  // 1 - h.beta1, 1 - h.beta2 in double, then rounded
  float one_minus_beta2 = 1.0f;
  float alpha = 0.0f;      // Adam: lr sqrt(1 - beta2^t) / (1 - beta1^t)
  float m_divisor = 1.0f;  // LAMB: 1 - beta1^t
  float v_divisor = 1.0f;  // LAMB: 1 - beta2^t
};
StepConstants PrepareStep(const OptimizerSpec& spec, const OptimizerStep& step);

// Updates one row in place.
//   vector  (dim) in the table's value type     slots   (num_slots, dim) then scalars, float32
//   grad    (dim) float32, duplicates already summed
// Thread-safe for distinct rows.
using UpdateRowFn = void (*)(void* vector, float* slots, const float* grad, int dim,
                             const StepConstants& constants);

// The fastest kernel that this CPU runs. Never null for a kind but kNone and kLamb.
UpdateRowFn GetUpdateRow(const OptimizerSpec& spec, ValueType type);

// LAMB in two passes, as its trust ratio needs a norm over all touched rows. Between them a row is
// in no state that anybody else may see.
// First pass: decays the weights (weight_decay), updates m and v, writes the direction to update
// (dim), adds the squares of the weights and of the direction to *weight_sq and *update_sq.
// The second pass is AddScaled by -lr * ratio, where ratio is sqrt(weight_sq / update_sq) over all
// rows of the batch, and 1 where either is 0.
using LambDirectionFn = void (*)(void* vector, float* slots, const float* grad, int dim,
                                 const StepConstants& constants, float* update, double* weight_sq,
                                 double* update_sq);
LambDirectionFn GetLambDirection(ValueType type);

// vector[i] += scale * delta[i], computed in float32. LAMB's second pass, and accum.
using AddScaledFn = void (*)(void* vector, const float* delta, float scale, int dim);
AddScaledFn GetAddScaled(ValueType type);

// out[i] (+)= float(in[i]): gradients of any value type summed in float32.
using LoadFn = void (*)(const void* in, float* out, int dim);
LoadFn GetLoad(ValueType type);
LoadFn GetLoadAdd(ValueType type);

// Sets the slots and scalars of a new row.
void InitializeSlots(const OptimizerSpec& spec, int dim, float* slots);

// "avx512", "avx2" or "baseline": what the kernels above were dispatched to. TACO_SIMD in the
// environment (read once) lowers it, for tests.
const char* SimdLevel();

}  // namespace embedding
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_TABLE_OPTIMIZER_H_
