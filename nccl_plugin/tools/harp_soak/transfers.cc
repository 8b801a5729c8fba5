#include <dirent.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <vector>

#include "nccl_plugin/tools/harp_check/board.h"
#include "nccl_plugin/tools/harp_soak/work.h"

namespace taco {
namespace harp {
namespace {

// What a process holds when it has no connection.
struct Holdings {
  int64_t heap;      // bytes in use
  int64_t resident;  // bytes
  int descriptors;
  int threads;
};

constexpr Holdings kAllowed = {1 << 20, 24 << 20, 4, 1};
// A receiving end lives on for up to 2 s after its user has closed it.
constexpr int64_t kLingerUs = 2500000;
constexpr int64_t kSettleUs = 8000000;

int CountEntries(const char* folder) {
  DIR* directory = opendir(folder);
  if (directory == nullptr) Fail("%s cannot be read", folder);
  int count = 0;
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

Holdings Look() {
  malloc_trim(0);
  const struct mallinfo2 heap = mallinfo2();
  long pages = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%*d %ld", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return {static_cast<int64_t>(heap.uordblks + heap.hblkhd),
          static_cast<int64_t>(pages) * sysconf(_SC_PAGESIZE), CountEntries("/proc/self/fd"),
          CountEntries("/proc/self/task")};
}

// Once ends that live on have gone: until two looks, a second apart, agree.
Holdings Settled() {
  const int64_t begin = NowUs();
  while (NowUs() < begin + kLingerUs) usleep(100000);
  Holdings last = Look();
  while (NowUs() < begin + kSettleUs) {
    for (int i = 0; i < 10; ++i) usleep(100000);
    const Holdings now = Look();
    if (now.descriptors >= last.descriptors && now.threads >= last.threads) return now;
    last = now;
  }
  return last;
}

void Compare(const Holdings& before, const Holdings& after, uint64_t connections) {
  const auto grown = [&](const char* what, int64_t more, int64_t allowed) {
    if (more > allowed) {
      Fail("%lld more %s after %llu connections that were closed", static_cast<long long>(more),
           what, static_cast<unsigned long long>(connections));
    }
  };
  grown("file descriptors", after.descriptors - before.descriptors, kAllowed.descriptors);
  grown("threads", after.threads - before.threads, kAllowed.threads);
  grown("bytes of heap in use", after.heap - before.heap, kAllowed.heap);
  grown("resident bytes", after.resident - before.resident, kAllowed.resident);
}

class Worker {
 public:
  Worker(Session* session, const Shift& shift, Tally* tally)
      : session_(session), version_(shift.version), tally_(tally), random_(shift.seed) {}

  void Once() {
    switch (random_() % 8) {
      case 0:
        CloseInFlight(session_, random_() % 2 == 0);
        ++tally_->connections;
        break;
      case 1:
      case 2:
        Many(2 + random_() % 5);
        break;
      default:
        OneLink(1 + random_() % 4);
    }
  }

 private:
  Plan Draw() {
    Plan plan = DrawPlan(&random_, version_, session_->properties().max_recvs);
    tally_->messages += plan.messages.size();
    for (const Message& message : plan.messages) tally_->bytes += message.size;
    return plan;
  }

  // Some plans, one after the other on one link.
  void OneLink(size_t plans) {
    Net* const net = session_->net();
    const Link link = session_->Pair();
    for (size_t i = 0; i < plans; ++i) Transfer(net, net, link, Draw());
    Close(net, net, link);
    ++tally_->connections;
  }

  // Several links at once; two threads send, two receive, as in two pairs of processes.
  void Many(size_t count) {
    Net* const net = session_->net();
    std::vector<Link> links;
    std::vector<std::unique_ptr<Endpoint>> ends;
    std::vector<std::vector<Endpoint*>> threads(4);
    for (size_t i = 0; i < count; ++i) {
      links.push_back(session_->Pair());
      const std::string number = std::to_string(i);
      const Plan plan = Draw();
      ends.push_back(std::make_unique<Sender>(net, links[i].send, plan, "sender " + number));
      threads[i % 2].push_back(ends.back().get());
      ends.push_back(std::make_unique<Receiver>(net, links[i].recv, plan, "receiver " + number));
      threads[2 + i / 2 % 2].push_back(ends.back().get());
    }
    RunThreads(threads);
    for (const Link& link : links) Close(net, net, link);
    tally_->connections += count;
  }

  Session* const session_;
  const int version_;
  Tally* const tally_;
  std::mt19937_64 random_;
};

}  // namespace

void WorkTransfers(const Subject& subject, const Shift& shift, double seconds, Tally* tally) {
  mallopt(M_ARENA_MAX, 1);  // what mallinfo2 counts is the first arena's
  int64_t end = 0;
  const auto work_for = [&](double part) {
    end = NowUs() + static_cast<int64_t>(part * seconds * 1e6);
  };
  Session session(subject);
  Worker worker(&session, shift, tally);
  work_for(0.25);
  do {
    worker.Once();
  } while (NowUs() < end);
  const Holdings before = Settled();
  const uint64_t connections = tally->connections;
  work_for(0.75);
  do {
    worker.Once();
  } while (NowUs() < end);
  const Holdings after = Settled();
  tally->heap_growth = after.heap - before.heap;
  tally->resident_growth = after.resident - before.resident;
  Compare(before, after, tally->connections - connections);
  session.End();
}

}  // namespace harp
}  // namespace taco
