#include "nccl_plugin/engine/helper.h"

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

Helper::~Helper() { Stop(0); }

void Helper::Begin() {
  if (!thread_.joinable()) {
    stop_ = false;
    thread_ = StartQuietly("harp-helper", [this] { Run(); });
  }
  wake_.notify_one();
}

void Helper::Add(Connection* connection) {
  const std::lock_guard<std::mutex> lock(mutex_);
  connections_[connection] = Look();
  Begin();
}

void Helper::Add(Listener* listener) {
  const std::lock_guard<std::mutex> lock(mutex_);
  listeners_[listener] = 0;
  Begin();
}

void Helper::Remove(Connection* connection) {
  const std::lock_guard<std::mutex> lock(mutex_);
  connections_.erase(connection);
}

void Helper::Remove(Listener* listener) {
  const std::lock_guard<std::mutex> lock(mutex_);
  listeners_.erase(listener);
}

void Helper::TakeBack(const void* bytes, uint64_t size) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [connection, look] : connections_) connection->TakeBack(bytes, size);
  // Those that linger have filled all their buffers.
}

void Helper::Linger(std::unique_ptr<Connection> connection) {
  const std::lock_guard<std::mutex> lock(mutex_);
  lingering_.emplace(std::move(connection), Look());
  Begin();
}

void Helper::Report(std::unique_ptr<Statistics> statistics) {
  const std::lock_guard<std::mutex> lock(mutex_);
  statistics_ = std::move(statistics);
}

void Helper::Stop(int64_t wait_ns) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto end = std::chrono::steady_clock::now() + std::chrono::nanoseconds(wait_ns);
  while (!lingering_.empty() && std::chrono::steady_clock::now() < end) {
    lock.unlock();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    lock.lock();
  }
  lingering_.clear();
  stop_ = true;
  wake_.notify_one();
  lock.unlock();
  if (thread_.joinable()) thread_.join();
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

void Helper::WriteStatistics(int64_t now) {
  const bool due = statistics_->Due(now);
  for (auto& [connection, look] : connections_) {
    // What one that is busy has left behind since it was asked.
    const std::string fields = due ? connection->Describe() : connection->Described();
    if (!fields.empty()) statistics_->Write(fields);
  }
}

int64_t Helper::LookAtAll(int64_t now) {
  if (statistics_ != nullptr) WriteStatistics(now);
  int64_t next = now + kLastPause;
  for (auto& [connection, look] : connections_) {
    next = std::min(next, LookAt(connection, &look, now));
  }
  for (auto& [listener, at] : listeners_) {
    if (now >= at) {
      listener->Move(now);
      listener->MoveWaiting(now);
      at = now + kListenerPause;
    }
    next = std::min(next, at);
  }
  for (auto each = lingering_.begin(); each != lingering_.end();) {
    next = std::min(next, LookAt(each->first.get(), &each->second, now));
    each = each->first->Lingers(now) ? std::next(each) : lingering_.erase(each);
  }
  if (statistics_ != nullptr) next = std::min(next, statistics_->next());
  return next;
}

void Helper::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stop_) {
    const int64_t now = Now();
    const int64_t next = LookAtAll(now);
    const bool nothing = connections_.empty() && listeners_.empty() && lingering_.empty();
    const int64_t pause = nothing ? 1'000'000'000 : std::max(next - now, kFirstPause);
    wake_.wait_for(lock, std::chrono::nanoseconds(pause));
  }
}

}  // namespace harp
}  // namespace taco
