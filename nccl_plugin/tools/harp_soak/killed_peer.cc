#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "nccl_plugin/tools/harp_check/board.h"
#include "nccl_plugin/tools/harp_soak/work.h"

namespace taco {
namespace harp {
namespace {

constexpr size_t kDepth = 8;
constexpr double kNoticeSeconds = 6;  // beyond dead_seconds, on a busy machine
using Handle = std::array<unsigned char, NCCL_NET_HANDLE_MAXSIZE>;

// One side of a connection that carries messages without end.
class Talker {
 public:
  Talker(Session* session, bool sends, size_t bytes)
      : net_(session->net()), sends_(sends), memory_(kDepth * bytes, 1), bytes_(bytes) {}

  void Listen(int dev, Handle* handle) {
    Expect(net_->Listen(dev, handle->data(), &listen_), "listen");
  }
  void Accept() {
    while (comm_ == nullptr) Expect(net_->Accept(listen_, &comm_), "accept");
    Expect(net_->CloseListen(listen_), "closeListen");
    Register();
  }
  void Connect(int dev, Handle handle) {
    while (comm_ == nullptr) Expect(net_->Connect(dev, handle.data(), &comm_), "connect");
    Register();
  }

  // Posts what it may and tests what is under way. The first result that is no success.
  ncclResult_t Step() {
    for (size_t i = 0; i < kDepth; ++i) {
      void*& request = requests_[i];
      if (request == nullptr) {
        const ncclResult_t result = Post(i, &request);
        if (result != ncclSuccess || request == nullptr) return result;
        continue;
      }
      int done = 0;
      std::array<int, 8> sizes = {};
      const ncclResult_t result = net_->Test(request, &done, sizes.data());
      if (result != ncclSuccess) return result;
      if (done != 0) {
        request = nullptr;
        ++messages_;
      }
    }
    return ncclSuccess;
  }

  void Close() {
    Expect(net_->DeregMr(comm_, registered_), "deregMr");
    Expect(sends_ ? net_->CloseSend(comm_) : net_->CloseRecv(comm_), "close");
  }

  uint64_t messages() const { return messages_; }

 private:
  void Register() {
    Expect(net_->RegMr(comm_, memory_.data(), memory_.size(), &registered_), "regMr");
  }

  ncclResult_t Post(size_t i, void** request) {
    void* data = memory_.data() + i * bytes_;
    if (sends_) return net_->Isend(comm_, data, bytes_, 0, registered_, request);
    size_t size = bytes_;
    int tag = 0;
    return net_->Irecv(comm_, 1, &data, &size, &tag, &registered_, request);
  }

  Net* const net_;
  const bool sends_;
  std::vector<unsigned char> memory_;
  const size_t bytes_;
  void* listen_ = nullptr;
  void* comm_ = nullptr;
  void* registered_ = nullptr;
  std::array<void*, kDepth> requests_ = {};
  uint64_t messages_ = 0;
};

// All of a handle through a pipe; a peer that is gone fails the shift.
void Put(int to, const Handle& handle) {
  if (write(to, handle.data(), handle.size()) != static_cast<ssize_t>(handle.size())) {
    Fail("the handle could not be given to the other process");
  }
}
Handle Get(int from) {
  Handle handle;
  if (read(from, handle.data(), handle.size()) != static_cast<ssize_t>(handle.size())) {
    Fail("the other process ended before it gave its handle");
  }
  return handle;
}

// The process that will be killed. It never returns.
[[noreturn]] void Victim(const Subject& subject, bool sends, size_t bytes, int from, int to) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  Session session(subject);
  Talker side(&session, sends, bytes);
  if (sends) {
    side.Connect(subject.dev, Get(from));
  } else {
    Handle handle = {};
    side.Listen(subject.dev, &handle);
    Put(to, handle);
    side.Accept();
  }
  while (side.Step() == ncclSuccess) sched_yield();
  Fail("the peer that was to be killed got an error first: %s", CurrentBoard()->log);
}

}  // namespace

void WorkKilledPeer(const Subject& subject, const Shift& shift, double seconds, double dead_seconds,
                    Tally* tally) {
  std::mt19937_64 random(shift.seed);
  const double patience = dead_seconds + kNoticeSeconds;
  const int64_t end = NowUs() + static_cast<int64_t>(seconds * 1e6);
  do {
    const bool victim_sends = random() % 2 == 0;
    const size_t bytes = size_t{1} << (3 + random() % 18);
    int down[2], up[2];
    if (pipe(down) != 0 || pipe(up) != 0) Fail("no pipe: %s", std::strerror(errno));
    // From the second round on this process has used the plugin: a child must do without its
    // threads.
    const pid_t victim = fork();
    if (victim < 0) Fail("no fork: %s", std::strerror(errno));
    if (victim == 0) Victim(subject, victim_sends, bytes, down[0], up[1]);
    Session session(subject);
    Talker side(&session, !victim_sends, bytes);
    if (victim_sends) {
      Handle handle = {};
      side.Listen(subject.dev, &handle);
      Put(down[1], handle);
      side.Accept();
    } else {
      side.Connect(subject.dev, Get(up[0]));
    }
    const int64_t kill_at = NowUs() + static_cast<int64_t>(random() % 1000000);
    CurrentBoard()->log[0] = 0;
    // A peer that has connected and then hangs would die unnoticed.
    const int64_t hung_at = kill_at + static_cast<int64_t>(patience * 1e6);
    while (NowUs() < kill_at || side.messages() == 0) {
      if (NowUs() > hung_at) Fail("no message in %g s: the peer hangs", patience);
      if (side.Step() != ncclSuccess) {
        Fail("an error while the peer was alive: %s", CurrentBoard()->log);
      }
      sched_yield();
    }
    kill(victim, SIGKILL);
    waitpid(victim, nullptr, 0);
    const int64_t killed = NowUs();
    ncclResult_t result;
    while ((result = side.Step()) == ncclSuccess) {
      if (static_cast<double>(NowUs() - killed) > patience * 1e6) {
        Fail("%g s after the peer was killed nothing has failed", patience);
      }
      sched_yield();
    }
    if (result != ncclRemoteError) {
      Fail("a killed peer gave %s, not a remote error", ToText(result));
    }
    if (CurrentBoard()->log[0] == 0) Fail("a killed peer is not named in the log");
    tally->messages += side.messages();
    tally->bytes += side.messages() * bytes;
    side.Close();
    session.End();
    for (const int descriptor : {down[0], down[1], up[0], up[1]}) close(descriptor);
    ++tally->connections;
    ++tally->kills;
  } while (NowUs() < end);
}

}  // namespace harp
}  // namespace taco
