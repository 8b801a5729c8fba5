#include "nccl_plugin/tools/harp_soak/shift.h"

#include <algorithm>
#include <cstdio>

namespace taco {
namespace harp {
namespace {

constexpr size_t kMostBytes = size_t{32} << 20;  // of a plan's buffers

// One of n.
bool One(std::mt19937_64* random, uint64_t n) { return (*random)() % n == 0; }

std::string Faults(double loss, double duplicate, double corrupt, uint64_t seed) {
  char text[120];
  std::snprintf(text, sizeof(text), "loss=%.4f,duplicate=%.4f,corrupt=%.4f,seed=%llu", loss,
                duplicate, corrupt, static_cast<unsigned long long>(seed));
  return text;
}

}  // namespace

std::string Shift::ToText() const {
  std::string text = "seed " + std::to_string(seed) + " v" + std::to_string(version) +
                     (kind == Kind::kKilledPeer ? " killed peer" : " transfers");
  for (const auto& [name, value] : environment) text += " " + name + "=" + value;
  return text;
}

Shift DrawShift(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> part(0, 0.03);
  Shift shift;
  shift.seed = seed;
  shift.version =
      static_cast<int>(kOldestVersion + random() % (kNewestVersion - kOldestVersion + 1));
  shift.kind = One(&random, 4) ? Kind::kKilledPeer : Kind::kTransfers;
  static const char* const kPaths[] = {"1", "2", "3", "4", "8", "16", "64"};
  shift.environment = {{"HARP_PATHS", kPaths[random() % 7]},
                       {"HARP_SEGMENTATION", One(&random, 3) ? "0" : "1"},
                       {"HARP_DEAD_SECONDS", "3"}};
  if (One(&random, 4)) {
    shift.environment.emplace_back("HARP_ENGINES", One(&random, 2) ? "1" : "3");
  }
  if (One(&random, 3)) {
    shift.environment.emplace_back("HARP_KEY", std::string(64, '5'));
  }
  if (!One(&random, 4)) {
    const double loss = One(&random, 3) ? 0 : part(random);
    const double duplicate = One(&random, 2) ? 0 : part(random);
    const double corrupt = One(&random, 2) ? 0 : part(random);
    shift.environment.emplace_back("HARP_FAULTS", Faults(loss, duplicate, corrupt, seed));
  }
  return shift;
}

Shift LongShift(uint64_t seed) {
  return {
      seed, kNewestVersion, Kind::kTransfers, {{"HARP_FAULTS", Faults(0.002, 0.002, 0.002, seed)}}};
}

Plan DrawPlan(std::mt19937_64* random, int version, int most_receives) {
  Plan plan;
  plan.seed = (*random)();
  const bool several = most_receives > 1 && One(random, 4);
  plan.group = several ? 2 + (*random)() % static_cast<uint64_t>(most_receives - 1) : 1;
  const size_t count = plan.group * (1 + (*random)() % 40);
  plan.optional = !several && version >= 9 && One(random, 6);
  size_t bytes = 0;
  for (size_t i = 0; i < count; ++i) {
    size_t size = (*random)() % (size_t{2} << ((*random)() % 21));
    if (bytes + size > kMostBytes) size %= 4096;
    const size_t more = plan.optional || !One(random, 4) ? 0 : (*random)() % 5000;
    bytes += size + more;
    // Tags within a group are unlike the order.
    plan.messages.push_back({size, size + more, static_cast<int>(1000 - 7 * (i % plan.group))});
    plan.send_order.push_back(i);
  }
  for (size_t at = 0; several && at < count; at += plan.group) {
    const auto first = plan.send_order.begin() + static_cast<ptrdiff_t>(at);
    std::shuffle(first, first + static_cast<ptrdiff_t>(plan.group), *random);
  }
  if (!several) {
    for (Message& message : plan.messages) message.tag = 0;
  } else {
    // NCCL gives the receives of a group buffers of one size.
    size_t room = 0;
    for (const Message& message : plan.messages) room = std::max(room, message.room);
    room = std::min(room, kMostBytes / count);
    for (Message& message : plan.messages) {
      message.size = std::min(message.size, room);
      message.room = room;
    }
  }
  plan.depth = 1 + (*random)() % NCCL_NET_MAX_REQUESTS;
  plan.polling = static_cast<Polling>((*random)() % 3);
  plan.null_sizes = One(random, 6);
  plan.register_each = One(random, 3);
  plan.skew = (*random)() % 64;
  if (One(random, 4)) plan.send_after_ms = static_cast<int>((*random)() % 40);
  if (One(random, 4)) plan.receive_after_ms = static_cast<int>((*random)() % 40);
  return plan;
}

}  // namespace harp
}  // namespace taco
