// Threads that do nothing but move connections on (HARP_ENGINES), for hosts with cores to spare.
//
// A connection belongs to one of them. Its user hands over what it wants through a ring, and finds
// out by a flag that it is done; the engine's thread alone touches the rest.
#ifndef NCCL_PLUGIN_ENGINE_ENGINES_H_
#define NCCL_PLUGIN_ENGINE_ENGINES_H_

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "nccl_plugin/engine/connection.h"

namespace taco {
namespace harp {

class Engines {
 public:
  Engines() = default;
  // There must be no connection left.
  ~Engines();
  Engines(const Engines&) = delete;
  Engines& operator=(const Engines&) = delete;

  // How many there are to be: they begin with their first connection. Not while there is one.
  void Resize(int count);
  bool any() const { return !engines_.empty(); }

  // Gives it to the engine that has the fewest.
  void Add(Connection* connection);
  // From its return on no engine touches it.
  void Remove(Connection* connection);
  // Ends the threads, which begin again with the next connection.
  void Stop();

 private:
  // One thread.
  struct Engine {
    std::mutex mutex;  // of all below; the thread lets go of it between two rounds
    std::condition_variable wake;
    std::vector<Connection*> connections;
    std::atomic<size_t> count{0};  // of these
    std::atomic<int> wanted{0};    // who waits for the mutex
    bool stop = false;
    std::thread thread;
  };

  static void Run(Engine* engine);
  static void Begin(Engine* engine, size_t number);
  static void Pin(std::thread* thread, size_t number);

  std::vector<std::unique_ptr<Engine>> engines_;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ENGINE_ENGINES_H_
