// The last stage: from what was picked out, or from the whole residual, to what is sent.
#ifndef TORCH_EXT_TOPK_EMIT_H_
#define TORCH_EXT_TOPK_EMIT_H_

#include <cstdint>

#include "torch_ext/base/executor.h"
#include "torch_ext/topk/candidates.h"
#include "torch_ext/topk/compress.h"

namespace taco {
namespace topk {

// What is sent: keys above `key`, and of those equal to it the first `ties` by index.
struct Cut {
  uint32_t key = 0;
  int64_t ties = 0;
};

struct Emitted {
  int64_t count = 0;
  double rest_sq = 0.0;  // of what was put back into the residual, and of what rounding left there
};

// Sends candidates; those below the cut go back into the residual. All were packed.
Emitted EmitCandidates(const CompressInput& input, const Cut& cut, base::Executor* executor,
                       Candidates* candidates, Packed* packed);

// Sends from the residual, which is v throughout. rest_sq is that of the whole residual.
Emitted EmitFromResidual(const CompressInput& input, const Cut& cut, base::Executor* executor,
                         Candidates* workspace, Packed* packed);

}  // namespace topk
}  // namespace taco

#endif  // TORCH_EXT_TOPK_EMIT_H_
