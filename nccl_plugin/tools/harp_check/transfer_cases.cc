// Cases about messages.
#include <algorithm>
#include <memory>
#include <random>

#include "nccl_plugin/tools/harp_check/board.h"
#include "nccl_plugin/tools/harp_check/case.h"

namespace taco {
namespace harp {
namespace {

constexpr size_t kKiB = 1024;
constexpr size_t kMiB = 1024 * kKiB;

// Sizes of all magnitudes up to 2^17.
Plan Random(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  Plan plan;
  plan.seed = seed;
  for (size_t i = 0; i < count; ++i) {
    const size_t size = random() % (size_t{2} << (random() % 17));
    plan.messages.push_back({size, size});
  }
  return plan;
}

void RunPlan(const Subject& subject, const Plan& plan) {
  Session session(subject);
  session.Run({plan});
  session.End();
}

void Sizes(const Subject& subject) {
  Session session(subject);
  Plan plan = OfSizes({1, 2, 7, 8, 63, 64, 65, 4095, 4096, 4097, 128 * kKiB, kMiB, kMiB + 1});
  Plan one_by_one = plan;
  one_by_one.depth = 1;
  one_by_one.seed = 2;
  session.Run({plan, one_by_one, Random(40, 3)});
  session.End();
}

void Empty(const Subject& subject) {
  Plan plan = OfSizes({0, 0, 5, 0, 0, 0, 70000, 0});
  plan.messages[1].room = 100;
  RunPlan(subject, plan);
}

void Short(const Subject& subject) {
  Plan plan;
  for (size_t sent : {size_t{1}, size_t{0}, size_t{100}, 64 * kKiB, kMiB - 1, size_t{4096}}) {
    plan.messages.push_back({sent, sent + 1});
    plan.messages.push_back({sent, kMiB});
  }
  RunPlan(subject, plan);
}

void Large(const Subject& subject) {
  Session session(subject);
  if (session.properties().max_p2p_bytes < 16 * kMiB + 3) {
    Skip("maxP2pBytes is %zu", session.properties().max_p2p_bytes);
  }
  session.Run({OfSizes({16 * kMiB + 3, 5 * kMiB})});
  session.End();
}

void BothWays(const Subject& subject) {
  Session session(subject);
  Net* net = session.net();
  const Link there = session.Pair();
  const Link back = session.Pair();
  const Plan plan = OfSizes(std::vector<size_t>(48, 128 * kKiB));
  Plan answers = plan;
  answers.seed = 2;
  Sender first_sends(net, there.send, plan, "first sends");
  Receiver second_receives(net, there.recv, plan, "second receives");
  Sender second_sends(net, back.send, answers, "second sends");
  Receiver first_receives(net, back.recv, answers, "first receives");
  RunThreads({{&first_sends, &first_receives}, {&second_sends, &second_receives}});
  Close(net, net, there);
  Close(net, net, back);
  session.End();
}

void Requests(const Subject& subject) {
  Plan plan = Random(200, 5);
  plan.depth = NCCL_NET_MAX_REQUESTS;
  RunPlan(subject, plan);
}

void Order(const Subject& subject) {
  Plan plan = OfSizes(std::vector<size_t>(256, 24));
  plan.depth = NCCL_NET_MAX_REQUESTS;
  RunPlan(subject, plan);
}

void PollLastFirst(const Subject& subject) {
  Plan plan = Random(120, 7);
  plan.polling = Polling::kLastFirst;
  RunPlan(subject, plan);
}

void PollRandom(const Subject& subject) {
  Plan plan = Random(120, 8);
  plan.polling = Polling::kRandom;
  plan.depth = NCCL_NET_MAX_REQUESTS;
  RunPlan(subject, plan);
}

void SendFirst(const Subject& subject) {
  Plan plan = OfSizes({10, kMiB, 0, 128 * kKiB, 128 * kKiB, 1, 2, 3, 4, 5});
  plan.receive_after_ms = 50;
  RunPlan(subject, plan);
}

void ReceiveFirst(const Subject& subject) {
  Plan plan = OfSizes({10, kMiB, 0, 128 * kKiB, 128 * kKiB, 1, 2, 3, 4, 5});
  plan.send_after_ms = 50;
  RunPlan(subject, plan);
}

// For each n the same number of groups; tags are unlike the order, and sends unlike the tags.
void MultiReceive(const Subject& subject) {
  Session session(subject);
  const size_t most = static_cast<size_t>(std::clamp(session.properties().max_recvs, 1, 8));
  if (most == 1) Skip("maxRecvs is 1");
  std::mt19937_64 random(9);
  for (size_t n : {size_t{2}, most / 2 + 1, most}) {
    Plan plan = Random(12 * n, 10 + n);
    plan.group = n;
    for (size_t i = 0; i < plan.messages.size(); ++i) {
      plan.messages[i].tag = static_cast<int>(1000 - 7 * (i % n));
      plan.messages[i].room = 256 * kKiB + i % 3;
      plan.send_order.push_back(i);
    }
    for (auto group = plan.send_order.begin(); group != plan.send_order.end();
         group += static_cast<ptrdiff_t>(n)) {
      std::shuffle(group, group + static_cast<ptrdiff_t>(n), random);
    }
    session.Run({plan});
  }
  session.End();
}

void Optional(const Subject& subject) {
  if (subject.version < 9) Skip("NCCL asks no plugin before v9 for it");
  Plan plan = OfSizes({8, 4096, 128 * kKiB, 1, 16, 100000, 64, 64, 64, 64});
  plan.optional = true;
  RunPlan(subject, plan);
}

void NullSizes(const Subject& subject) {
  Plan plan = Random(30, 12);
  plan.null_sizes = true;
  RunPlan(subject, plan);
}

void Flush(const Subject& subject) {
  Session session(subject);
  const Properties& properties = session.properties();
  if ((properties.ptr_support & NCCL_PTR_CUDA) == 0 && properties.force_flush == 0) {
    Skip("NCCL does not call iflush: ptrSupport lacks NCCL_PTR_CUDA");
  }
  for (const std::string& call : session.net()->Missing()) {
    if (call == "iflush") Fail("iflush is NULL, and NCCL calls it");
  }
  Plan plan = Random(30, 13);
  plan.flush = true;
  session.Run({plan});
  session.End();
}

void Registration(const Subject& subject) {
  Session session(subject);
  std::vector<Plan> plans;
  for (size_t skew : {size_t{0}, size_t{1}, size_t{3}, size_t{8}, size_t{33}}) {
    Plan plan = OfSizes({1, 4096, 100, 70001});
    plan.register_each = true;
    plan.skew = skew;
    plans.push_back(plan);
    plan.register_each = false;
    plans.push_back(plan);
  }
  session.Run(plans);
  session.End();
}

// Eight pairs; two threads send, two receive.
void ManyComms(const Subject& subject) {
  Session session(subject);
  Net* net = session.net();
  const int pairs = std::min(8, session.properties().max_comms);
  std::vector<Link> links;
  std::vector<std::unique_ptr<Endpoint>> endpoints;
  std::vector<std::vector<Endpoint*>> threads(4);
  for (int i = 0; i < pairs; ++i) {
    links.push_back(session.Pair());
    const std::string number = std::to_string(i);
    const Plan plan = Random(40, 20 + static_cast<uint64_t>(i));
    endpoints.push_back(std::make_unique<Sender>(net, links.back().send, plan, "sender " + number));
    threads[static_cast<size_t>(i % 2)].push_back(endpoints.back().get());
    endpoints.push_back(
        std::make_unique<Receiver>(net, links.back().recv, plan, "receiver " + number));
    threads[static_cast<size_t>(2 + i / 2 % 2)].push_back(endpoints.back().get());
  }
  RunThreads(threads);
  for (const Link& link : links) Close(net, net, link);
  session.End();
}

}  // namespace

std::vector<Case> TransferCases() {
  return {
      {"sizes", "messages of 1 byte to 1 MiB + 1 and of random sizes", Sizes},
      {"empty", "messages of no bytes, alone and among others", Empty},
      {"short", "messages smaller than their buffers; test gives their true sizes", Short},
      {"large", "messages of 16 MiB", Large},
      {"both-ways", "8 messages of 128 KiB under way in both directions", BothWays},
      {"requests", "32 requests under way, sizes at random", Requests},
      {"order", "256 small messages come in the order of the sends", Order},
      {"poll-last-first", "test is called for the last request first", PollLastFirst},
      {"poll-random", "test is called in random order", PollRandom},
      {"send-first", "isend long before irecv", SendFirst},
      {"receive-first", "irecv long before isend", ReceiveFirst},
      {"multi-receive", "receives of up to maxRecvs buffers, sent in another order", MultiReceive},
      {"optional", "irecv with optional completion gives a request", Optional},
      {"null-sizes", "test with no place for sizes", NullSizes},
      {"flush", "iflush after each receive", Flush},
      {"registration", "one block for all buffers and a region each, at any alignment",
       Registration},
      {"many-comms", "8 connections, 4 threads", ManyComms},
  };
}

}  // namespace harp
}  // namespace taco
