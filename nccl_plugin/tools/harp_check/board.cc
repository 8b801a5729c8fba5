#include "nccl_plugin/tools/harp_check/board.h"

#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace taco {
namespace harp {
namespace {

Board* g_board = nullptr;
thread_local Side* t_side = nullptr;

[[noreturn]] void End(int status, const char* format, va_list arguments) {
  if (g_board->ended.exchange(1) == 0) {
    char text[sizeof(g_board->cause) - 64];
    std::vsnprintf(text, sizeof(text), format, arguments);
    const char* side = t_side == nullptr || t_side->total == 0 ? nullptr : t_side->label;
    std::snprintf(g_board->cause, sizeof(g_board->cause), "%s%s%s", side == nullptr ? "" : side,
                  side == nullptr ? "" : ": ", text);
    _exit(status);
  }
  for (;;) pause();  // another thread is ending the process
}

}  // namespace

Board* NewBoard() {
  if (g_board == nullptr) {
    void* memory =
        mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      std::perror("harp-check: mmap");
      std::exit(2);
    }
    g_board = static_cast<Board*>(memory);
  }
  std::memset(static_cast<void*>(g_board), 0, sizeof(Board));
  return g_board;
}

Board* CurrentBoard() { return g_board; }

std::string Describe(const Board& board) {
  std::string text;
  const int sides = std::min(board.sides.load(), Board::kMaxSides);
  for (int i = 0; i < sides; ++i) {
    const Side& side = board.side[i];
    const char* call = side.call.load();
    if (side.done >= side.total && call == nullptr) continue;
    char line[256];
    std::snprintf(line, sizeof(line), "    %s: ", side.label);
    text += line;
    if (side.total != 0) {
      std::snprintf(line, sizeof(line), "%d of %d posted, %d done; ", side.posted.load(),
                    side.total.load(), side.done.load());
      text += line;
    }
    if (call == nullptr) {
      text += "in no call\n";
    } else {
      std::snprintf(line, sizeof(line), "in %s for %.3f s\n", call,
                    static_cast<double>(NowUs() - side.since_us) / 1e6);
      text += line;
    }
  }
  return text;
}

Side* NewSide(const std::string& label, int total) {
  const int index = std::min(g_board->sides.fetch_add(1), Board::kMaxSides - 1);
  Side* side = &g_board->side[index];
  std::snprintf(side->label, sizeof(side->label), "%s", label.c_str());
  side->total = total;
  return side;
}

void Enter(Side* side) { t_side = side; }

void Fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  End(kExitFailed, format, arguments);
}

void Skip(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  End(kExitSkipped, format, arguments);
}

const char* ToText(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "ncclSuccess";
    case ncclUnhandledCudaError:
      return "ncclUnhandledCudaError";
    case ncclSystemError:
      return "ncclSystemError";
    case ncclInternalError:
      return "ncclInternalError";
    case ncclInvalidArgument:
      return "ncclInvalidArgument";
    case ncclInvalidUsage:
      return "ncclInvalidUsage";
    case ncclRemoteError:
      return "ncclRemoteError";
  }
  return "a result that NCCL does not know";
}

void Expect(ncclResult_t result, const char* call) {
  if (result == ncclSuccess) return;
  const char* log = g_board->log;
  Fail("%s gave %s%s%s", call, ToText(result), *log != 0 ? "; the plugin's last warning: " : "",
       log);
}

int64_t NowUs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000000 + now.tv_nsec / 1000;
}

ScopedCall::ScopedCall(const char* name) : side_(t_side) {
  if (side_ == nullptr) return;
  side_->since_us = NowUs();
  side_->call = name;
}

ScopedCall::~ScopedCall() {
  if (side_ != nullptr) side_->call = nullptr;
}

}  // namespace harp
}  // namespace taco
