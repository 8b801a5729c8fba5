// What happens between isend, irecv and test: nothing is allocated, no mutex is taken, and the
// system is called by the packet I/O alone.
//
// malloc, free and pthread_mutex_lock are this file's, and count for the thread that is watched.
// Its system calls pass a seccomp filter, which it can never take off: so it is a thread of its
// own.

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

#include "nccl_plugin/abi/net.h"

namespace {

struct Seen {
  long allocations = 0, frees = 0, locks = 0;
  std::array<long, 8> calls = {};  // of the system, that the filter has caught: their numbers
  size_t call_count = 0;
};
thread_local Seen* watched = nullptr;  // null: nothing counts

}  // namespace

extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void __libc_free(void* old);

void* malloc(size_t size) {
  if (watched != nullptr) ++watched->allocations;
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  if (watched != nullptr) ++watched->allocations;
  return __libc_calloc(count, size);
}
void* realloc(void* old, size_t size) {
  if (watched != nullptr) ++watched->allocations;
  return __libc_realloc(old, size);
}
void free(void* old) {
  if (watched != nullptr) ++watched->frees;
  __libc_free(old);
}

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  using Lock = int (*)(pthread_mutex_t*);
  static const Lock lock = reinterpret_cast<Lock>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  if (watched != nullptr) ++watched->locks;
  return lock(mutex);
}
}

namespace taco {
namespace harp {

extern "C" {
extern const ncclNet_v12_t ncclNetPlugin_v12;
}

namespace {

void Log(ncclDebugLogLevel, unsigned long, const char*, int, const char*, ...) {}

// A call that the filter does not let pass: it is noted, and does nothing.
void Caught(int, siginfo_t* info, void* context) {
  if (watched != nullptr && watched->call_count < watched->calls.size()) {
    watched->calls[watched->call_count++] = info->si_syscall;
  }
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RAX] = -ENOSYS;
}

// From now on this thread makes these calls of the system, those by which a thread ends, and no
// others.
bool AllowOnly(std::vector<int> calls) {
  for (const int call : {SYS_exit, SYS_exit_group, SYS_madvise, SYS_munmap, SYS_rt_sigprocmask,
                         SYS_rt_sigreturn, SYS_clock_gettime}) {
    calls.push_back(call);
  }
  std::vector<sock_filter> code = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const int call : calls) {
    code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 1));
    code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  }
  code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
  struct sigaction action = {};
  action.sa_sigaction = Caught;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSYS, &action, nullptr);
  const sock_fprog program = {static_cast<unsigned short>(code.size()), code.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

class Pair {
 public:
  Pair() {
    char handle[NCCL_NET_HANDLE_MAXSIZE] = {};
    void* listener = nullptr;
    EXPECT_EQ(net_.listen(nullptr, 0, handle, &listener), ncclSuccess);
    ncclNetDeviceHandle_v12_t* device = nullptr;
    for (int turn = 0; turn < 10'000'000 && (send_ == nullptr || receive_ == nullptr); ++turn) {
      if (send_ == nullptr) net_.connect(nullptr, 0, handle, &send_, &device);
      if (receive_ == nullptr) net_.accept(listener, &receive_, &device);
    }
    EXPECT_NE(send_, nullptr);
    EXPECT_NE(receive_, nullptr);
    net_.closeListen(listener);
    net_.regMr(send_, out_.data(), out_.size(), NCCL_PTR_HOST, &out_handle_);
    net_.regMr(receive_, in_.data(), in_.size(), NCCL_PTR_HOST, &in_handle_);
  }
  ~Pair() {
    net_.deregMr(send_, out_handle_);
    net_.deregMr(receive_, in_handle_);
    net_.closeSend(send_);
    net_.closeRecv(receive_);
  }

  // Messages of `size`, four under way. False: it took too long.
  bool Transfer(size_t size, int messages) {
    constexpr int kDepth = 4;
    void *sends[kDepth] = {}, *receives[kDepth] = {};
    int posted = 0, sent = 0, received = 0, acknowledged = 0;
    for (long turn = 0; turn < 1'000'000'000 && acknowledged < messages; ++turn) {
      void* data = in_.data() + posted % kDepth * kMost;
      int tag = 0, done = 0;
      if (posted < messages && posted - received < kDepth) {
        void*& request = receives[posted % kDepth];
        net_.irecv(receive_, 1, &data, &size, &tag, &in_handle_, nullptr, &request);
        if (request != nullptr) ++posted;
      }
      if (sent < messages && sent - acknowledged < kDepth) {
        void*& request = sends[sent % kDepth];
        char* from = out_.data() + sent % kDepth * kMost;
        net_.isend(send_, from, size, tag, out_handle_, nullptr, &request);
        if (request != nullptr) ++sent;
      }
      if (received < posted) net_.test(receives[received % kDepth], &done, nullptr);
      if (done != 0) receives[received++ % kDepth] = nullptr;
      done = 0;
      if (acknowledged < sent) net_.test(sends[acknowledged % kDepth], &done, nullptr);
      if (done != 0) sends[acknowledged++ % kDepth] = nullptr;
    }
    return acknowledged == messages;
  }

 private:
  static constexpr size_t kMost = 1 << 20;
  const ncclNet_v12_t& net_ = ncclNetPlugin_v12;
  std::vector<char> out_ = std::vector<char>(4 * kMost, 'x'), in_ = std::vector<char>(4 * kMost);
  void *send_ = nullptr, *receive_ = nullptr, *out_handle_ = nullptr, *in_handle_ = nullptr;
};

// `calls`: those that the thread which uses the plugin may make.
Seen Watch(const char* engines, const std::vector<int>& calls) {
  setenv("HARP_IFACE", "=lo", 1);
  setenv("HARP_ENGINES", engines, 1);
  void* context = nullptr;
  ncclNetCommConfig_v12_t config = {NCCL_NET_TRAFFIC_CLASS_UNDEF};
  EXPECT_EQ(ncclNetPlugin_v12.init(&context, 1, &config, Log, nullptr), ncclSuccess);
  Seen seen;
  {
    Pair pair;
    bool filtered = false, moved = false;
    std::thread user([&] {
      moved = pair.Transfer(8, 100) && pair.Transfer(1 << 20, 10);
      filtered = AllowOnly(calls);
      watched = &seen;
      moved =
          moved && pair.Transfer(8, 3000) && pair.Transfer(5000, 500) && pair.Transfer(1 << 20, 60);
      watched = nullptr;
    });
    user.join();
    EXPECT_TRUE(filtered) << "no seccomp here";
    EXPECT_TRUE(moved);
  }
  ncclNetPlugin_v12.finalize(context);
  return seen;
}

void ExpectNothing(const Seen& seen) {
  EXPECT_EQ(seen.allocations, 0);
  EXPECT_EQ(seen.frees, 0);
  EXPECT_EQ(seen.locks, 0);
  for (size_t index = 0; index < seen.call_count; ++index) {
    ADD_FAILURE() << "system call number " << seen.calls[index];
  }
}

TEST(DataPath, WhatIsWatchedForIsSeen) {
  Seen seen;
  std::thread thread([&] {
    ASSERT_TRUE(AllowOnly({}));
    watched = &seen;
    void* volatile made = malloc(10);
    free(made);
    made = ::operator new(10);
    ::operator delete(made);
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&mutex);
    syscall(SYS_getuid);
    watched = nullptr;
  });
  thread.join();
  EXPECT_EQ(seen.allocations, 2);
  EXPECT_EQ(seen.frees, 2);
  EXPECT_EQ(seen.locks, 1);
  ASSERT_EQ(seen.call_count, 1u);
  EXPECT_EQ(seen.calls[0], SYS_getuid);
}

TEST(DataPath, OverUdpThereAreCallsOfSocketsAlone) {
  ExpectNothing(Watch("0", {SYS_sendmmsg, SYS_sendmsg, SYS_recvmmsg, SYS_recvmsg, SYS_epoll_wait}));
}

TEST(DataPath, WithAnEngineTheUsersThreadMakesNoCall) { ExpectNothing(Watch("1", {})); }

}  // namespace
}  // namespace harp
}  // namespace taco
