#include "nccl_plugin/engine/engines.h"

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>

#include "nccl_plugin/engine/quiet_thread.h"

namespace taco {
namespace harp {
namespace {

// The mutex, ahead of an engine that would take it again at once.
class Ahead {
 public:
  Ahead(std::mutex* mutex, std::atomic<int>* wanted) : mutex_(mutex), wanted_(wanted) {
    wanted_->fetch_add(1);
    mutex_->lock();
    wanted_->fetch_sub(1);
  }
  ~Ahead() { mutex_->unlock(); }
  Ahead(const Ahead&) = delete;
  Ahead& operator=(const Ahead&) = delete;

 private:
  std::mutex* const mutex_;
  std::atomic<int>* const wanted_;
};

}  // namespace

Engines::~Engines() { Stop(); }

void Engines::Resize(int count) {
  Stop();
  engines_.clear();
  for (int i = 0; i < count; ++i) engines_.push_back(std::make_unique<Engine>());
}

void Engines::Add(Connection* connection) {
  const auto fewest =
      std::min_element(engines_.begin(), engines_.end(), [](const auto& one, const auto& other) {
        return one->count.load(std::memory_order_relaxed) <
               other->count.load(std::memory_order_relaxed);
      });
  Engine* const engine = fewest->get();
  const Ahead lock(&engine->mutex, &engine->wanted);
  engine->connections.push_back(connection);
  engine->count.store(engine->connections.size(), std::memory_order_relaxed);
  Begin(engine, static_cast<size_t>(fewest - engines_.begin()));
  engine->wake.notify_one();
}

void Engines::Remove(Connection* connection) {
  for (const auto& engine : engines_) {
    const Ahead lock(&engine->mutex, &engine->wanted);
    auto& all = engine->connections;
    all.erase(std::remove(all.begin(), all.end(), connection), all.end());
    engine->count.store(all.size(), std::memory_order_relaxed);
  }
}

void Engines::Stop() {
  for (const auto& engine : engines_) {
    if (!engine->thread.joinable()) continue;
    {
      const Ahead lock(&engine->mutex, &engine->wanted);
      engine->stop = true;
      engine->wake.notify_one();
    }
    engine->thread.join();
  }
}

void Engines::Begin(Engine* engine, size_t number) {
  if (engine->thread.joinable()) return;
  engine->stop = false;
  engine->thread = StartQuietly("harp-engine", [engine] { Run(engine); });
  Pin(&engine->thread, number);
}

// To a processor of those that the program may use, from the last one on: programs begin with the
// first.
void Engines::Pin(std::thread* thread, size_t number) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  std::vector<int> processors;
  for (int i = CPU_SETSIZE - 1; i >= 0; --i) {
    if (CPU_ISSET(i, &allowed)) processors.push_back(i);
  }
  if (processors.empty()) return;
  cpu_set_t mine;
  CPU_ZERO(&mine);
  CPU_SET(processors[number % processors.size()], &mine);
  pthread_setaffinity_np(thread->native_handle(), sizeof(mine), &mine);
}

void Engines::Run(Engine* engine) {
  // Rounds without an event after which others may have the processor, if they want it.
  constexpr int kPatience = 1000;
  int quiet = 0;
  std::unique_lock<std::mutex> lock(engine->mutex);
  while (!engine->stop) {
    if (engine->connections.empty()) {
      engine->wake.wait(lock);
      continue;
    }
    bool any = false;
    for (Connection* connection : engine->connections) any |= connection->MoveIfFree();
    quiet = any ? 0 : quiet + 1;
    if (engine->wanted.load(std::memory_order_relaxed) != 0) {
      lock.unlock();
      while (engine->wanted.load(std::memory_order_relaxed) != 0) sched_yield();
      lock.lock();
    } else if (quiet > kPatience) {
      sched_yield();
    } else {
      _mm_pause();
    }
  }
}

}  // namespace harp
}  // namespace taco
