// Who a process is, for the others of its machine: what they need in order to read its memory, and
// to see that they are on one machine at all.
#ifndef TORCH_EXT_CMA_CARD_H_
#define TORCH_EXT_CMA_CARD_H_

#include <array>
#include <cstdint>

#include "torch_ext/base/status.h"

namespace taco {
namespace cma {

// Plain numbers, sent as they are.
struct Card {
  uint64_t version = 0;
  uint64_t process = 0;         // its number, which means something within one pid namespace
  uint64_t file = 0;            // of its segment
  uint64_t token[2] = {0, 0};   // of its segment
  uint64_t word_address = 0;    // of a word in its memory that is the token's first half
  uint64_t boot[2] = {0, 0};    // of the kernel that runs
  uint64_t processes_seen = 0;  // the pid namespace
  uint64_t network = 0;         // the network namespace: another one counts as another machine
};

constexpr int kCardWords = sizeof(Card) / sizeof(uint64_t);
static_assert(sizeof(Card) == 10 * sizeof(uint64_t), "no gaps");

// This process's, but what its segment adds. ResourceExhausted: the system does not say.
base::Status OwnCard(Card* card);

// InvalidArgument with the reason, if two processes do not share a machine.
base::Status SameMachine(const Card& own, const Card& other);

}  // namespace cma
}  // namespace taco

#endif  // TORCH_EXT_CMA_CARD_H_
