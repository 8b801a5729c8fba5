#include "nccl_plugin/engine/helper.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "nccl_plugin/engine/quiet_thread.h"
#include "nccl_plugin/io/clock.h"

namespace taco {
namespace harp {
namespace {

constexpr int64_t kFirstPause = 1'000'000, kLastPause = 32'000'000;
// Where others were at it at so many looks in a row: each look may take their processor from them,
// and makes a round trip of 3 us one of 30. Not where their thread is kept from running now and
// then: there it pays to stand in for it soon.
constexpr int kSteadyLooks = 10;
constexpr int64_t kSteadyPause = 8'000'000;
constexpr int64_t kListenerPause = 2'000'000;

}  // namespace

Helper::~Helper() {
  Stop(0);
  delete &own();
}

Helper::Own& Helper::own() {
  Own* mine = own_.load(std::memory_order_acquire);
  while (mine == nullptr || mine->process != getpid()) {
    auto made = std::make_unique<Own>(getpid());
    // The parent's is not destroyed: its mutex may be locked, and its connections are the parent's.
    if (own_.compare_exchange_weak(mine, made.get())) mine = made.release();
  }
  return *mine;
}

void Helper::Own::Begin() {
  if (!thread.joinable()) {
    stop = false;
    thread = StartQuietly("harp-helper", [this] { Run(); });
  }
  wake.notify_one();
}

void Helper::Add(Connection* connection) {
  Own& mine = own();
  const std::lock_guard<std::mutex> lock(mine.mutex);
  mine.connections[connection] = Look();
  mine.Begin();
}

void Helper::Add(Listener* listener) {
  Own& mine = own();
  const std::lock_guard<std::mutex> lock(mine.mutex);
  mine.listeners[listener] = 0;
  mine.Begin();
}

void Helper::Remove(Connection* connection) {
  Own& mine = own();
  const std::lock_guard<std::mutex> lock(mine.mutex);
  mine.connections.erase(connection);
}

void Helper::Remove(Listener* listener) {
  Own& mine = own();
  const std::lock_guard<std::mutex> lock(mine.mutex);
  mine.listeners.erase(listener);
}

void Helper::TakeBack(const void* bytes, uint64_t size) {
  Own& mine = own();
  const std::lock_guard<std::mutex> lock(mine.mutex);
  for (const auto& [connection, look] : mine.connections) connection->TakeBack(bytes, size);
  // Those that linger have filled all their buffers.
}

void Helper::Linger(std::unique_ptr<Connection> connection) {
  Own& mine = own();
  const std::lock_guard<std::mutex> lock(mine.mutex);
  mine.lingering.emplace(std::move(connection), Look());
  mine.Begin();
}

void Helper::Report(std::unique_ptr<Statistics> statistics) {
  Own& mine = own();
  const std::lock_guard<std::mutex> lock(mine.mutex);
  mine.statistics = std::move(statistics);
}

void Helper::Stop(int64_t wait_ns) {
  Own& mine = own();
  std::unique_lock<std::mutex> lock(mine.mutex);
  const auto end = std::chrono::steady_clock::now() + std::chrono::nanoseconds(wait_ns);
  while (!mine.lingering.empty() && std::chrono::steady_clock::now() < end) {
    lock.unlock();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    lock.lock();
  }
  mine.lingering.clear();
  mine.stop = true;
  mine.wake.notify_one();
  lock.unlock();
  if (mine.thread.joinable()) mine.thread.join();
}

int64_t Helper::LookAt(Connection* connection, Look* look, int64_t now) {
  if (connection->moved_at() != look->moved_at) {  // somebody else is at it
    look->moved_at = connection->moved_at();
    look->pause = kFirstPause;
    look->steady = now - look->moved_at < kFirstPause ? look->steady + 1 : 0;
    look->next = look->steady > kSteadyLooks ? now + kSteadyPause : look->moved_at + look->pause;
  }
  if (now >= std::min(look->next, std::max(connection->deadline(), look->moved_at + kFirstPause))) {
    connection->Move(now);
    look->moved_at = connection->moved_at();
    look->pause = std::min(2 * look->pause, kLastPause);
    look->next = now + look->pause;
    look->steady = 0;
  }
  return look->next;
}

void Helper::Own::WriteStatistics(int64_t now) {
  const bool due = statistics->Due(now);
  for (auto& [connection, look] : connections) {
    // What one that is busy has left behind since it was asked.
    const std::string fields = due ? connection->Describe() : connection->Described();
    if (!fields.empty()) statistics->Write(fields);
  }
}

int64_t Helper::Own::LookAtAll(int64_t now) {
  if (statistics != nullptr) WriteStatistics(now);
  int64_t next = now + kLastPause;
  for (auto& [connection, look] : connections) {
    next = std::min(next, LookAt(connection, &look, now));
  }
  for (auto& [listener, at] : listeners) {
    if (now >= at) {
      listener->Move(now);
      listener->MoveWaiting(now);
      at = now + kListenerPause;
    }
    next = std::min(next, at);
  }
  for (auto each = lingering.begin(); each != lingering.end();) {
    next = std::min(next, LookAt(each->first.get(), &each->second, now));
    each = each->first->Lingers(now) ? std::next(each) : lingering.erase(each);
  }
  if (statistics != nullptr) next = std::min(next, statistics->next());
  return next;
}

void Helper::Own::Run() {
  std::unique_lock<std::mutex> lock(mutex);
  while (!stop) {
    const int64_t now = Now();
    const int64_t next = LookAtAll(now);
    const bool nothing = connections.empty() && listeners.empty() && lingering.empty();
    const int64_t pause = nothing ? 1'000'000'000 : std::max(next - now, kFirstPause);
    wake.wait_for(lock, std::chrono::nanoseconds(pause));
  }
}

}  // namespace harp
}  // namespace taco
