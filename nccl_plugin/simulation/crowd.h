// Several transfers in one network: paths of equal links, and many senders whose packets share one.
#ifndef NCCL_PLUGIN_SIMULATION_CROWD_H_
#define NCCL_PLUGIN_SIMULATION_CROWD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "nccl_plugin/simulation/network.h"
#include "nccl_plugin/simulation/transfer.h"

namespace taco {
namespace harp {

// Paths of equal links, each with its own, there and back.
inline std::vector<Route> Paths(Network* network, int count, const LinkOptions& link) {
  std::vector<Route> routes;
  for (int path = 0; path < count; ++path) {
    routes.push_back({{network->AddLink(link)}, {network->AddLink(link)}});
  }
  return routes;
}

// Until all are done, one has failed, or it is `limit`. Each begins at some time up to `spread_ns`.
inline void RunAll(Network* network, const std::vector<Transfer*>& transfers, int64_t limit,
                   int64_t spread_ns = 0) {
  for (Transfer* transfer : transfers) {
    std::uniform_int_distribution<int64_t> late(0, spread_ns);
    network->At(spread_ns == 0 ? 0 : late(network->random()), [transfer] { transfer->Start(); });
  }
  const auto finished = [&] {
    for (const Transfer* transfer : transfers) {
      if (!transfer->failure().empty()) return true;
    }
    for (const Transfer* transfer : transfers) {
      if (!transfer->done()) return false;
    }
    return true;
  };
  while (!finished() && network->now() < limit && network->Step()) {
  }
}

// Senders of one link that all of them share, to receivers of one machine, which share its credit,
// or of a machine each, where nothing is shared but the link.
struct Crowd {
  Crowd(
      Network* network, int senders, int paths, const LinkOptions& shared,
      const std::vector<uint64_t>& messages,
      const std::function<bool(int)>& by_cubic = [](int) { return false; },
      bool one_machine = true) {
    LinkOptions own;
    own.bits_per_ns = shared.bits_per_ns;
    const int link = network->AddLink(shared), back = network->AddLink(LinkOptions());
    for (int sender = 0; sender < senders; ++sender) {
      Transfer::Options options;
      const int mine = network->AddLink(own), mine_back = network->AddLink(own);
      options.routes.assign(paths, Route{{mine, link}, {back, mine_back}});
      options.messages = messages;
      options.sender.congestion.cubic = by_cubic(sender);
      if (one_machine) options.credit = &credit;
      made.push_back(std::make_unique<Transfer>(network, options));
      all.push_back(made.back().get());
    }
  }

  CreditPool credit{kCredit};
  std::vector<std::unique_ptr<Transfer>> made;
  std::vector<Transfer*> all;

  static constexpr uint64_t kCredit = 500'000;  // HARP's default at 10 Gb/s
};

}  // namespace harp
}  // namespace taco

#endif  // NCCL_PLUGIN_SIMULATION_CROWD_H_
