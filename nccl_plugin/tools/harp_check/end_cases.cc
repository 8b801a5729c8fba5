// Cases about closing, unloading, and what is left behind.
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>

#include "nccl_plugin/tools/harp_check/board.h"
#include "nccl_plugin/tools/harp_check/case.h"

namespace taco {
namespace harp {
namespace {

constexpr size_t kInFlight = 8;
constexpr size_t kBytes = 1 << 20;
constexpr int64_t kGraceUs = 200000;  // in which the other end may notice

// Tests the requests until they have ended, one has failed, or the time is over. All of that is
// right: what counts is that it comes back.
void PollForAWhile(Net* net, std::vector<void*> requests) {
  const int64_t end = NowUs() + kGraceUs;
  while (!requests.empty() && NowUs() < end) {
    for (size_t i = 0; i < requests.size();) {
      int done = 0;
      std::array<int, 8> sizes = {};
      if (net->Test(requests[i], &done, sizes.data()) != ncclSuccess) return;
      if (done != 0) {
        requests.erase(requests.begin() + static_cast<ptrdiff_t>(i));
      } else {
        ++i;
      }
    }
    sched_yield();
  }
}

// The first request; it may be done already.
void TestOnce(Net* net, std::vector<void*>* requests) {
  if (requests->empty()) return;
  int done = 0;
  std::array<int, 8> sizes = {};
  Expect(net->Test(requests->front(), &done, sizes.data()), "test");
  if (done != 0) requests->erase(requests->begin());
}

}  // namespace

void CloseInFlight(Session* session, bool sender_first) {
  Net* net = session->net();
  const Link link = session->Pair();
  std::vector<unsigned char> out(kBytes, 1), in(kInFlight * kBytes, 2);
  void* out_handle = nullptr;
  void* in_handle = nullptr;
  Expect(net->RegMr(link.send, out.data(), out.size(), &out_handle), "regMr");
  Expect(net->RegMr(link.recv, in.data(), in.size(), &in_handle), "regMr");
  std::vector<void*> sends, receives;
  for (size_t i = 0; i < kInFlight; ++i) {
    void* data = in.data() + i * kBytes;
    size_t size = kBytes;
    int tag = 0;
    void* request = nullptr;
    Expect(net->Irecv(link.recv, 1, &data, &size, &tag, &in_handle, &request), "irecv");
    if (request != nullptr) receives.push_back(request);
    request = nullptr;
    Expect(net->Isend(link.send, out.data(), out.size(), 0, out_handle, &request), "isend");
    if (request != nullptr) sends.push_back(request);
  }
  TestOnce(net, &sends);
  TestOnce(net, &receives);
  if (sender_first) {
    Expect(net->DeregMr(link.send, out_handle), "deregMr");
    Expect(net->CloseSend(link.send), "closeSend");
    PollForAWhile(net, receives);
    Expect(net->DeregMr(link.recv, in_handle), "deregMr");
    Expect(net->CloseRecv(link.recv), "closeRecv");
  } else {
    Expect(net->DeregMr(link.recv, in_handle), "deregMr");
    Expect(net->CloseRecv(link.recv), "closeRecv");
    PollForAWhile(net, sends);
    Expect(net->DeregMr(link.send, out_handle), "deregMr");
    Expect(net->CloseSend(link.send), "closeSend");
  }
}

namespace {

void CloseFirst(const Subject& subject, bool sender) {
  Session session(subject);
  CloseInFlight(&session, sender);
  session.Run({OfSizes({1000})});
  session.End();
}

void CloseSender(const Subject& subject) { CloseFirst(subject, true); }
void CloseReceiver(const Subject& subject) { CloseFirst(subject, false); }

// What test has called done arrives, though the sender closes at once and the receiver is late.
void SendThenClose(const Subject& subject) {
  Session session(subject);
  Net* net = session.net();
  const Link link = session.Pair();
  Plan plan = OfSizes({4096, 1, 0, 4096, 4096, 100, 4096, 8});
  plan.receive_after_ms = 50;
  Sender sends(net, link.send, plan, "sender");
  Receiver receives(net, link.recv, plan, "receiver");
  Side* closing = NewSide("closing", 0);
  std::thread thread([&] {
    while (!sends.Step()) sched_yield();
    sends.Finish();
    Enter(closing);
    Expect(net->CloseSend(link.send), "closeSend");
    Enter(nullptr);
  });
  RunThreads({{&receives}});
  thread.join();
  Expect(net->CloseRecv(link.recv), "closeRecv");
  session.End();
}

void Reload(const Subject& subject) {
  for (int i = 0; i < 4; ++i) {
    Session session(subject);
    session.Run({OfSizes({1000, 1 << 20})});
    session.End();
    usleep(5000);  // a thread that was left behind meets unmapped code
  }
}

int CountEntries(const char* folder) {
  DIR* directory = opendir(folder);
  if (directory == nullptr) Skip("%s cannot be read", folder);
  int count = 0;
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

// How many there are, once those that are about to end have ended.
int Settled(const char* folder, int expected) {
  const int64_t end = NowUs() + 2000000;
  int count;
  while ((count = CountEntries(folder)) > expected && NowUs() < end) usleep(2000);
  return count;
}

void Leaks(const Subject& subject) {
  constexpr int kWarmUp = 5, kRounds = 50, kAllowed = 8;
  static const char* const kFolders[] = {"/proc/self/fd", "/proc/self/task"};
  Session session(subject);
  int before[2] = {};
  for (int round = 0; round < kWarmUp + kRounds; ++round) {
    if (round == kWarmUp) {
      usleep(20000);
      for (int i = 0; i < 2; ++i) before[i] = CountEntries(kFolders[i]);
    }
    session.Run({OfSizes({1000})});
  }
  for (int i = 0; i < 2; ++i) {
    const int after = Settled(kFolders[i], before[i] + kAllowed);
    if (after > before[i] + kAllowed) {
      Fail("%d more %s after %d connections that were closed", after - before[i],
           i == 0 ? "file descriptors" : "threads", kRounds);
    }
  }
  session.End();
}

// Of every signal: its handler and flags; and whether this thread lets it through.
struct Signals {
  std::array<struct sigaction, 65> actions;
  sigset_t mask;
};

Signals ReadSignals() {
  Signals signals;
  std::memset(static_cast<void*>(&signals), 0, sizeof(signals));
  for (int i = 1; i < 65; ++i) {
    struct sigaction& action = signals.actions[static_cast<size_t>(i)];
    sigaction(i, nullptr, &action);
    // glibc's own mark, on all that was ever set: what is put back as it was has it too.
    constexpr int kRestorer = 0x04000000;
    action.sa_flags &= ~kRestorer;
  }
  pthread_sigmask(SIG_SETMASK, nullptr, &signals.mask);
  return signals;
}

void SignalsStay(const Subject& subject) {
  const Signals before = ReadSignals();
  const auto compare = [&before](const char* when) {
    const Signals now = ReadSignals();
    for (int i = 1; i < 65; ++i) {
      const auto at = static_cast<size_t>(i);
      if (now.actions[at].sa_handler != before.actions[at].sa_handler ||
          now.actions[at].sa_flags != before.actions[at].sa_flags) {
        Fail("the handler of signal %d (%s) is another one %s", i, strsignal(i), when);
      }
      if (sigismember(&now.mask, i) != sigismember(&before.mask, i)) {
        Fail("signal %d (%s) is masked otherwise %s", i, strsignal(i), when);
      }
    }
  };
  Session session(subject);
  compare("after init");
  session.Run({OfSizes({1000})});
  compare("after a transfer");
  session.End();
  compare("after the end");
}

}  // namespace

std::vector<Case> EndCases() {
  return {
      {"close-sender", "closeSend with 8 MiB under way; the receiver comes to an end", CloseSender},
      {"close-receiver", "the same, closeRecv first", CloseReceiver},
      {"send-then-close", "what was sent arrives, though the sender closes at once", SendThenClose},
      {"reload", "it works again after dlclose and dlopen", Reload},
      {"leaks", "50 connections leave no file descriptors and no threads", Leaks},
      {"signals", "no signal's handler or mask changes", SignalsStay},
  };
}

}  // namespace harp
}  // namespace taco
