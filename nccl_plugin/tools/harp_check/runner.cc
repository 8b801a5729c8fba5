#include "nccl_plugin/tools/harp_check/runner.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "nccl_plugin/tools/harp_check/board.h"

namespace taco {
namespace harp {
namespace {

[[noreturn]] void RunInChild(const std::function<void()>& body) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  dup2(STDERR_FILENO, STDOUT_FILENO);  // what the plugin prints is no result of ours
  Enter(NewSide("case", 0));
  body();
  _exit(kExitOk);
}

}  // namespace

Outcome RunApart(const std::function<void()>& body, double seconds) {
  Board* board = NewBoard();
  Outcome outcome;
  std::fflush(nullptr);
  const int64_t begin = NowUs();
  const pid_t child = fork();
  if (child < 0) {
    std::perror("harp-check: fork");
    std::exit(2);
  }
  if (child == 0) RunInChild(body);
  int status = 0;
  pid_t ended = 0;
  while ((ended = waitpid(child, &status, WNOHANG)) == 0 || (ended < 0 && errno == EINTR)) {
    if (static_cast<double>(NowUs() - begin) > seconds * 1e6) {
      outcome.verdict = Verdict::kHung;
      char text[64];
      std::snprintf(text, sizeof(text), "it has not ended after %g s", seconds);
      outcome.cause = text;
      outcome.state = Describe(*board);
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      break;
    }
    usleep(500);
  }
  outcome.ms = static_cast<double>(NowUs() - begin) / 1000;
  if (outcome.verdict == Verdict::kHung) return outcome;
  board->cause[sizeof(board->cause) - 1] = 0;
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    outcome.verdict = Verdict::kCrashed;
    outcome.cause = "signal " + std::to_string(number) + " (" + strsignal(number) + ")";
    outcome.state = Describe(*board);
  } else if (WEXITSTATUS(status) == kExitSkipped) {
    outcome.verdict = Verdict::kSkipped;
    outcome.cause = board->cause;
  } else if (WEXITSTATUS(status) == kExitFailed) {
    outcome.verdict = Verdict::kFailed;
    outcome.cause = board->cause;
  } else if (WEXITSTATUS(status) != kExitOk) {
    outcome.verdict = Verdict::kCrashed;
    outcome.cause =
        "the plugin ended the process with status " + std::to_string(WEXITSTATUS(status));
    outcome.state = Describe(*board);
  }
  return outcome;
}

const char* ToText(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk:
      return "ok";
    case Verdict::kSkipped:
      return "skipped";
    case Verdict::kFailed:
      return "FAILED";
    case Verdict::kCrashed:
      return "CRASHED";
    case Verdict::kHung:
      return "HUNG";
  }
  return "";
}

Survey SurveyVersion(const std::string& path, int version, double seconds) {
  Survey survey;
  survey.outcome = RunApart(
      [&] {
        Plugin plugin(path);
        std::unique_ptr<Net> net = plugin.Find(version);
        if (net == nullptr) Fail("ncclNetPlugin_v%d is not exported", version);
        Board* board = CurrentBoard();
        board->found = 1;
        std::string missing;
        for (const std::string& call : net->Missing()) missing += " " + call;
        std::snprintf(board->missing, sizeof(board->missing), "%s", missing.c_str());
        if (net->name() != nullptr) {
          std::snprintf(board->name, sizeof(board->name), "%s", net->name());
        }
        Expect(net->Init(), "init");
        int devices = 0;
        Expect(net->Devices(&devices), "devices");
        if (devices < 1) Fail("devices gave %d: there is nothing to check", devices);
        board->devices = devices;
        Expect(net->Finalize(), "finalize");
      },
      seconds);
  survey.outcome.version = version;
  survey.outcome.name = "init";
  const Board& board = *CurrentBoard();
  survey.found = board.found != 0;
  survey.devices = board.devices;
  survey.name = board.name;
  survey.missing = board.missing;
  return survey;
}

Outcome RunCase(const Case& each, const Subject& subject, double seconds) {
  Outcome outcome = RunApart([&] { each.run(subject); }, seconds);
  outcome.version = subject.version;
  outcome.dev = subject.dev;
  outcome.name = each.name;
  return outcome;
}

}  // namespace harp
}  // namespace taco
