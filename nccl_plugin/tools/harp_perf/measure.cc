#include "nccl_plugin/tools/harp_perf/measure.h"

#include <time.h>
#include <x86intrin.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace taco {
namespace harp {
namespace {

int64_t Clock(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

// What stands at both ends of a message, as far as there is room.
void Mark(std::vector<uint8_t>* bytes, uint64_t number) {
  if (bytes->size() < sizeof(number)) return;
  std::memcpy(bytes->data(), &number, sizeof(number));
  std::memcpy(bytes->data() + bytes->size() - sizeof(number), &number, sizeof(number));
}

void CheckMark(const std::vector<uint8_t>& bytes, uint64_t number) {
  if (bytes.size() < sizeof(number)) return;
  const uint8_t* end = bytes.data() + bytes.size() - sizeof(number);
  if (std::memcmp(bytes.data(), &number, sizeof(number)) != 0 ||
      std::memcmp(end, &number, sizeof(number)) != 0) {
    Die("message " + std::to_string(number) + " has other bytes than were sent");
  }
}

// Both clocks, the time stamp counter, and what the line has cost.
struct Reading {
  explicit Reading(const Line& line)
      : costs(line.costs()),
        cycles(__rdtsc()),
        time(Clock(CLOCK_MONOTONIC)),
        busy(Clock(CLOCK_PROCESS_CPUTIME_ID)) {}

  std::optional<Costs> costs;
  uint64_t cycles;
  int64_t time, busy;
};

Throughput Between(const Reading& from, const Reading& to, uint64_t messages) {
  Throughput seen;
  seen.messages = messages;
  seen.seconds = 1e-9 * static_cast<double>(to.time - from.time);
  seen.processor_seconds = 1e-9 * static_cast<double>(to.busy - from.busy);
  const double cycles_a_second = static_cast<double>(to.cycles - from.cycles) / seen.seconds;
  seen.processor_cycles = seen.processor_seconds * cycles_a_second;
  if (from.costs && to.costs) {
    seen.costs = {to.costs->system_calls - from.costs->system_calls,
                  to.costs->user_copied_bytes - from.costs->user_copied_bytes,
                  to.costs->kernel_copied_bytes - from.costs->kernel_copied_bytes};
  }
  return seen;
}

void* Begin(Line* line, bool sends, std::vector<uint8_t>* bytes) {
  return sends ? line->Send(bytes->data(), bytes->size())
               : line->Receive(bytes->data(), bytes->size());
}

}  // namespace

Throughput& Throughput::operator+=(const Throughput& next) {
  // What one part does not know, the sum does not; but for the first.
  if (messages == 0) {
    costs = next.costs;
  } else if (costs && next.costs) {
    costs->system_calls += next.costs->system_calls;
    costs->user_copied_bytes += next.costs->user_copied_bytes;
    costs->kernel_copied_bytes += next.costs->kernel_copied_bytes;
  } else {
    costs.reset();
  }
  messages += next.messages;
  seconds += next.seconds;
  processor_seconds += next.processor_seconds;
  processor_cycles += next.processor_cycles;
  return *this;
}

Throughput Stream(Line* line, bool sends, size_t size, uint64_t messages, int depth) {
  struct Slot {
    std::vector<uint8_t> bytes;
    void* request = nullptr;
    uint64_t number = 0;
  };
  std::vector<Slot> slots(depth);
  for (Slot& slot : slots) {
    slot.bytes.assign(std::max<size_t>(size, 1), 1);  // of none the address would be null
    slot.bytes.resize(size);
    line->Prepare(slot.bytes.data(), size);
  }
  uint64_t begun = 0, done = 0;
  const Reading from(*line);
  while (done < messages) {
    while (begun < messages && begun - done < static_cast<uint64_t>(depth)) {
      Slot& slot = slots[begun % depth];
      if (sends) Mark(&slot.bytes, begun);
      slot.number = begun;
      slot.request = Begin(line, sends, &slot.bytes);
      if (slot.request == nullptr) break;
      ++begun;
    }
    while (done < begun && line->Done(slots[done % depth].request)) {
      if (!sends) CheckMark(slots[done % depth].bytes, done);
      ++done;
    }
  }
  const Throughput seen = Between(from, Reading(*line), messages);
  line->Forget();
  return seen;
}

std::vector<int64_t> PingPong(Line* out, Line* in, bool begins, size_t size, uint64_t rounds) {
  std::vector<uint8_t> sent(size, 1), received(size);
  sent.reserve(1);
  received.reserve(1);
  out->Prepare(sent.data(), size);
  in->Prepare(received.data(), size);
  std::vector<int64_t> times;
  if (begins) times.reserve(rounds);
  const auto run = [](Line* line, bool sends, std::vector<uint8_t>* bytes) {
    void* request = nullptr;
    while (request == nullptr) request = Begin(line, sends, bytes);
    return request;
  };
  void* receive = run(in, false, &received);
  for (uint64_t round = 0; round < rounds; ++round) {
    const int64_t from = Clock(CLOCK_MONOTONIC);
    if (begins) {
      void* send = run(out, true, &sent);
      // As NCCL's proxy does, which has both under way.
      bool is_sent = false;
      while (!in->Done(receive)) is_sent = is_sent || out->Done(send);
      times.push_back(Clock(CLOCK_MONOTONIC) - from);
      if (round + 1 < rounds) receive = run(in, false, &received);
      while (!is_sent) is_sent = out->Done(send);
    } else {
      while (!in->Done(receive)) {
      }
      void* send = run(out, true, &sent);
      if (round + 1 < rounds) receive = run(in, false, &received);
      while (!out->Done(send)) {
      }
    }
  }
  out->Forget();
  in->Forget();
  return times;
}

std::vector<int64_t> ClockLoops(int64_t ns, uint64_t rounds) {
  std::vector<int64_t> times(rounds);
  int64_t from = Clock(CLOCK_MONOTONIC);
  for (int64_t& time : times) {
    int64_t now = from;
    while (now - from < ns) now = Clock(CLOCK_MONOTONIC);
    time = now - from;
    from = now;
  }
  return times;
}

}  // namespace harp
}  // namespace taco
