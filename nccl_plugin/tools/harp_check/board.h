// What a case's process shows to the process that watches it: a page of shared memory, which
// outlives a crash and can be read while the other hangs. It holds the cause of a failure, and for
// each side of each connection how far it is and in which call of the plugin.
//
// Pointers to string literals mean the same in both processes: the one is a fork of the other.
#ifndef NCCL_PLUGIN_TOOLS_HARP_CHECK_BOARD_H_
#define NCCL_PLUGIN_TOOLS_HARP_CHECK_BOARD_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "nccl_plugin/abi/net.h"

namespace taco {
namespace harp {

// One side of a connection, or the case itself.
struct Side {
  char label[48];
  std::atomic<const char*> call;  // of the plugin, in which it is; NULL: in none
  std::atomic<int64_t> since_us;  // when that began
  std::atomic<int> posted, done, total;
};

struct Board {
  static constexpr int kMaxSides = 256;  // the last one is shared by those that come later

  std::atomic<int> ended;  // whether `cause` is taken
  char cause[1024];
  char log[512];             // the plugin's last warning
  std::atomic<int> found;    // what the survey of a version finds: whether it is there,
  std::atomic<int> devices;  // how many devices it has,
  char name[128];            // the plugin's name,
  char missing[256];         // the calls that are NULL
  std::atomic<int> sides;
  Side side[kMaxSides];
};

// How a case's process exits.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 41;
inline constexpr int kExitSkipped = 42;

// Makes the board, or wipes it for the next case. Before the fork.
Board* NewBoard();
Board* CurrentBoard();

// The lines that tell where every side is.
std::string Describe(const Board& board);

// The next free side. Threads say on behalf of which side they call the plugin.
Side* NewSide(const std::string& label, int total);
void Enter(Side* side);

// End the case's process, with a cause in printf's format, from any thread.
[[noreturn]] void Fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
[[noreturn]] void Skip(const char* format, ...) __attribute__((format(printf, 1, 2)));

const char* ToText(ncclResult_t result);

// Fails the case unless `result` is ncclSuccess.
void Expect(ncclResult_t result, const char* call);

int64_t NowUs();

// While one lives the thread is in a call of the plugin.
class ScopedCall {
 public:
  explicit ScopedCall(const char* name);
  ~ScopedCall();
  ScopedCall(const ScopedCall&) = delete;
  ScopedCall& operator=(const ScopedCall&) = delete;

 private:
  Side* const side_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_TOOLS_HARP_CHECK_BOARD_H_
