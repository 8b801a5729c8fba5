// Threads of ours in somebody else's process: they have a name, and take none of its signals.
#ifndef NCCL_PLUGIN_ENGINE_QUIET_THREAD_H_
#define NCCL_PLUGIN_ENGINE_QUIET_THREAD_H_

#include <pthread.h>
#include <signal.h>

#include <thread>
#include <utility>

namespace taco {
namespace harp {

// `name` of up to 15 letters.
template <typename Run>
std::thread StartQuietly(const char* name, Run run) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // a new thread has its maker's mask
  std::thread thread(std::move(run));
  pthread_setname_np(thread.native_handle(), name);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ENGINE_QUIET_THREAD_H_
