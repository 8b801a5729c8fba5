// One quiet thread that moves connections on when nobody else does, so that peers get answers.
//
// It looks at a connection a millisecond after it was moved last, then after 2, 4 and up to 32, and
// takes no part while somebody moves it; where that was so for 50 looks, it looks each 8 ms.
// Connections come and go under a mutex that no data path takes.
#ifndef NCCL_PLUGIN_ENGINE_HELPER_H_
#define NCCL_PLUGIN_ENGINE_HELPER_H_

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "nccl_plugin/engine/connection.h"
#include "nccl_plugin/engine/listener.h"
#include "nccl_plugin/engine/statistics.h"

namespace taco {
namespace harp {

class Helper {
 public:
  Helper() = default;
  // Ends the thread; there must be nothing left to look at but what lingers.
  ~Helper();
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  void Add(Connection* connection);
  void Add(Listener* listener);
  // From their return on the helper does not touch it.
  void Remove(Connection* connection);
  void Remove(Listener* listener);

  // Of all connections. It waits for those that others move.
  void TakeBack(const void* bytes, uint64_t size);

  // Keeps a connection whose user has closed it for as long as its peer may need it.
  void Linger(std::unique_ptr<Connection> connection);

  // From now on writes lines of all connections.
  void Report(std::unique_ptr<Statistics> statistics);

  // Waits until nothing lingers, at most so long, and ends the thread. It begins again by itself.
  void Stop(int64_t wait_ns);

 private:
  struct Look {
    int64_t moved_at = 0;  // as it was at the last look
    int64_t next = 0;
    int64_t pause = 0;
    int steady = 0;  // looks in a row at which somebody else was at it
  };

  void Begin();
  void Run();
  int64_t LookAtAll(int64_t now);
  void WriteStatistics(int64_t now);
  static int64_t LookAt(Connection* connection, Look* look, int64_t now);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<Connection*, Look> connections_;
  std::map<Listener*, int64_t> listeners_;  // and when to look next
  std::map<std::unique_ptr<Connection>, Look> lingering_;
  std::unique_ptr<Statistics> statistics_;
  std::thread thread_;
  bool stop_ = false;
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_ENGINE_HELPER_H_
