#include "torch_ext/cma/endpoint.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>
#include <thread>

namespace taco {
namespace cma {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLong(20000);

// Endpoints of one process, joined; each can be used by a thread of its own.
std::vector<std::unique_ptr<Endpoint>> Join(int size) {
  std::vector<std::unique_ptr<Endpoint>> all(static_cast<size_t>(size));
  std::vector<Card> cards;
  for (int rank = 0; rank < size; ++rank) {
    EXPECT_TRUE(Endpoint::Create(rank, size, &all[static_cast<size_t>(rank)]).ok());
    cards.push_back(all[static_cast<size_t>(rank)]->card());
  }
  for (auto& each : all) {
    const base::Status status = each->Connect(cards);
    EXPECT_TRUE(status.ok()) << status.message();
  }
  for (auto& each : all) each->OpenNoMore();
  return all;
}

void Together(int size, const std::function<void(int)>& function) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) threads.emplace_back(function, rank);
  for (std::thread& thread : threads) thread.join();
}

std::string WaitFor(Endpoint* endpoint, Endpoint::Ticket ticket, milliseconds timeout = kLong) {
  const base::Status status = endpoint->Wait(ticket, timeout);
  return status.ok() ? "" : status.message();
}

Endpoint::Ticket Send(Endpoint* from, const std::vector<int>& data, int to, int tag) {
  Endpoint::Ticket ticket = 0;
  EXPECT_TRUE(from->Send(data.data(), data.size() * 4, to, tag, nullptr, &ticket).ok());
  return ticket;
}

Endpoint::Ticket Receive(Endpoint* at, std::vector<int>* data, int from, int tag) {
  Endpoint::Ticket ticket = 0;
  EXPECT_TRUE(at->Receive(data->data(), data->size() * 4, from, tag, nullptr, &ticket).ok());
  return ticket;
}

TEST(EndpointTest, WhatOneSendsTheOtherReceives) {
  auto all = Join(2);
  std::vector<int> sent(100000), got(100000), none;
  std::iota(sent.begin(), sent.end(), 5);
  Together(2, [&](int rank) {
    Endpoint* own = all[static_cast<size_t>(rank)].get();
    const auto ticket = rank == 0 ? Send(own, sent, 1, 7) : Receive(own, &got, 0, 7);
    const auto empty = rank == 0 ? Send(own, none, 1, 7) : Receive(own, &none, 0, 7);
    EXPECT_EQ(WaitFor(own, ticket), "");
    EXPECT_EQ(WaitFor(own, empty), "");
  });
  EXPECT_EQ(sent, got);
}

TEST(EndpointTest, TagsKeepTheirOrderAndOvertakeEachOther) {
  auto all = Join(2);
  const std::vector<int> first = {1}, second = {2}, other = {3};
  std::vector<int> a(1), b(1), c(1);
  const auto s1 = Send(all[0].get(), first, 1, -4), s2 = Send(all[0].get(), second, 1, -4),
             s3 = Send(all[0].get(), other, 1, 9);
  const auto r3 = Receive(all[1].get(), &c, 0, 9), r1 = Receive(all[1].get(), &a, 0, -4),
             r2 = Receive(all[1].get(), &b, 0, -4);
  EXPECT_EQ(WaitFor(all[1].get(), r3), "");
  EXPECT_EQ(WaitFor(all[1].get(), r2), "");  // whoever comes first, the order is that of the calls
  EXPECT_EQ(WaitFor(all[1].get(), r1), "");
  for (const auto ticket : {s3, s2, s1}) EXPECT_EQ(WaitFor(all[0].get(), ticket), "");
  EXPECT_EQ(a, first);
  EXPECT_EQ(b, second);
  EXPECT_EQ(c, other);
}

// Every pair of ranks exchanges messages of random lengths under several tags, a thread a tag.
TEST(EndpointTest, ManyRanksThreadsAndTags) {
  constexpr int kRanks = 4, kTags = 3, kMessages = 150;
  auto all = Join(kRanks);
  const auto content = [](int from, int to, int tag, int number) {
    std::mt19937 random(static_cast<uint32_t>(((from * 8 + to) * 8 + tag) * 1000 + number));
    std::vector<int> data(random() % 3000);
    for (int& each : data) each = static_cast<int>(random());
    return data;
  };
  Together(kRanks * kTags, [&](int thread) {
    const int rank = thread / kTags, tag = thread % kTags;
    Endpoint* own = all[static_cast<size_t>(rank)].get();
    for (int number = 0; number < kMessages; number += 10) {
      std::vector<std::vector<int>> sent, got, wanted;
      std::vector<Endpoint::Ticket> tickets;
      sent.reserve(100);
      got.reserve(100);
      for (int more = 0; more < 10; ++more) {
        for (int peer = 0; peer < kRanks; ++peer) {
          if (peer == rank) continue;
          sent.push_back(content(rank, peer, tag, number + more));
          tickets.push_back(Send(own, sent.back(), peer, tag));
          wanted.push_back(content(peer, rank, tag, number + more));
          got.emplace_back(wanted.back().size());
          tickets.push_back(Receive(own, &got.back(), peer, tag));
        }
      }
      std::shuffle(tickets.begin(), tickets.end(), std::mt19937(static_cast<uint32_t>(number)));
      for (const auto ticket : tickets) ASSERT_EQ(WaitFor(own, ticket), "");
      ASSERT_EQ(got, wanted);
    }
  });
}

TEST(EndpointTest, MoreMessagesThanSlots) {
  constexpr int kMessages = 3 * static_cast<int>(kSlots) + 5;
  auto all = Join(2);
  Together(2, [&](int rank) {
    Endpoint* own = all[static_cast<size_t>(rank)].get();
    std::vector<std::vector<int>> sent, got(kMessages, std::vector<int>(1));
    std::vector<Endpoint::Ticket> tickets;
    for (int i = 0; i < kMessages; ++i) sent.push_back({i + rank});
    // All sends are waited for before the first receive: the receives have to go on meanwhile.
    for (auto& each : sent) tickets.push_back(Send(own, each, 1 - rank, 1));
    for (auto& each : got) tickets.push_back(Receive(own, &each, 1 - rank, 2 - 1));
    for (const auto ticket : tickets) ASSERT_EQ(WaitFor(own, ticket), "");
    for (int i = 0; i < kMessages; ++i) ASSERT_EQ(got[static_cast<size_t>(i)][0], i + 1 - rank);
  });
}

TEST(EndpointTest, AWaitForASendReceivesUnderOtherTags) {
  auto all = Join(2);
  Together(2, [&](int rank) {
    Endpoint* own = all[static_cast<size_t>(rank)].get();
    const std::vector<int> sent = {rank};
    std::vector<int> got(1);
    const auto receive = Receive(own, &got, 1 - rank, 2 - rank);
    const auto send = Send(own, sent, 1 - rank, rank + 1);
    EXPECT_EQ(WaitFor(own, send), "");
    EXPECT_EQ(WaitFor(own, receive), "");
    EXPECT_EQ(got[0], 1 - rank);
  });
}

TEST(EndpointTest, AWrongLengthIsAnErrorAtBothEnds) {
  auto all = Join(2);
  const std::vector<int> sent(5);
  std::vector<int> got(6);
  const auto send = Send(all[0].get(), sent, 1, 0), receive = Receive(all[1].get(), &got, 0, 0);
  EXPECT_NE(WaitFor(all[1].get(), receive).find("sent 20 bytes where 24"), std::string::npos);
  EXPECT_NE(WaitFor(all[0].get(), send).find("another length than the 20"), std::string::npos);
  Endpoint::Ticket ticket;
  EXPECT_FALSE(all[0]->Send(nullptr, 0, 1, 0, nullptr, &ticket).ok());
}

TEST(EndpointTest, ATimeoutIsAnErrorThatSpreads) {
  auto all = Join(3);
  std::vector<int> got(1), more(1);
  const auto first = Receive(all[0].get(), &got, 1, 0);
  const auto second = Receive(all[2].get(), &more, 0, 0);
  std::thread other([&] {
    EXPECT_NE(WaitFor(all[2].get(), second).find("rank 0 of this machine has waited too long"),
              std::string::npos);
  });
  EXPECT_NE(WaitFor(all[0].get(), first, milliseconds(50)).find("has not sent a message for 0.05"),
            std::string::npos);
  other.join();
}

TEST(EndpointTest, CloseEndsWaitsHereAndThere) {
  auto all = Join(2);
  std::vector<int> got(1), more(1);
  const auto here = Receive(all[0].get(), &got, 1, 0), there = Receive(all[1].get(), &more, 0, 3);
  std::thread own([&] { EXPECT_NE(WaitFor(all[0].get(), here), ""); });
  std::thread other([&] {
    EXPECT_NE(WaitFor(all[1].get(), there).find("rank 0 of this machine has closed"),
              std::string::npos);
  });
  std::this_thread::sleep_for(milliseconds(20));
  all[0]->Close();
  own.join();
  other.join();
}

TEST(EndpointTest, WhatWasSentBeforeTheEndIsReceived) {
  auto all = Join(2);
  const std::vector<int> sent = {42};
  std::vector<int> got(1);
  Send(all[0].get(), sent, 1, 0);
  const auto receive = Receive(all[1].get(), &got, 0, 0);
  all[0]->Close();
  EXPECT_EQ(WaitFor(all[1].get(), receive), "");
  EXPECT_EQ(got, sent);
}

TEST(EndpointTest, TicketsAreGoodOnceAndPeersHaveToExist) {
  auto all = Join(2);
  std::vector<int> data(1);
  Endpoint::Ticket ticket = 0;
  EXPECT_FALSE(all[0]->Send(data.data(), 4, 2, 0, nullptr, &ticket).ok());
  EXPECT_FALSE(all[0]->Send(data.data(), 4, 0, 0, nullptr, &ticket).ok());
  EXPECT_FALSE(all[0]->Receive(data.data(), 4, -1, 0, nullptr, &ticket).ok());
  EXPECT_FALSE(all[0]->Wait(77, milliseconds(1)).ok());
  std::unique_ptr<Endpoint> endpoint;
  EXPECT_FALSE(Endpoint::Create(2, 2, &endpoint).ok());
  EXPECT_FALSE(Endpoint::Create(-1, 2, &endpoint).ok());
  ASSERT_TRUE(Endpoint::Create(0, 2, &endpoint).ok());
  EXPECT_FALSE(endpoint->Send(data.data(), 4, 1, 0, nullptr, &ticket).ok());  // not connected
}

TEST(EndpointTest, CardsOfOthersAreRefused) {
  const auto refused = [](const std::function<void(Card*)>& change) {
    std::unique_ptr<Endpoint> own, other;
    EXPECT_TRUE(Endpoint::Create(0, 2, &own).ok() && Endpoint::Create(1, 2, &other).ok());
    Card card = other->card();
    change(&card);
    const base::Status status = own->Connect({own->card(), card});
    return status.ok() ? "" : status.message();
  };
  EXPECT_EQ(refused([](Card*) {}), "");
  EXPECT_NE(refused([](Card* card) { card->version = 9; }).find("version"), std::string::npos);
  EXPECT_NE(refused([](Card* card) { ++card->boot[0]; }).find("machine:"), std::string::npos);
  EXPECT_NE(refused([](Card* card) { ++card->network; }).find("network"), std::string::npos);
  EXPECT_NE(refused([](Card* card) { ++card->processes_seen; }).find("pid"), std::string::npos);
  EXPECT_NE(refused([](Card* card) { ++card->token[1]; }).find("another process's"),
            std::string::npos);
  EXPECT_NE(refused([](Card* card) { card->file = 0; }), "");
  EXPECT_NE(refused([](Card* card) { card->file = 1000000; }).find("opened"), std::string::npos);
  EXPECT_NE(refused([](Card* card) { card->word_address = 8; }).find("cannot be read"),
            std::string::npos);
  EXPECT_NE(refused([](Card* card) { card->word_address += 8; }).find("not what it says"),
            std::string::npos);
  EXPECT_NE(refused([](Card* card) { card->process = 0x7ffffff0; }), "");
}

TEST(EndpointTest, AForkedChildDoesNoHarm) {
  auto all = Join(2);
  const pid_t child = fork();
  if (child == 0) {
    Endpoint::Ticket ticket;
    const bool refused = !all[0]->Send(nullptr, 0, 1, 0, nullptr, &ticket).ok();
    all.clear();
    _exit(refused ? 0 : 1);
  }
  int how = -1;
  waitpid(child, &how, 0);
  EXPECT_EQ(how, 0);
  const std::vector<int> sent = {7};
  std::vector<int> got(1);
  const auto send = Send(all[0].get(), sent, 1, 0), receive = Receive(all[1].get(), &got, 0, 0);
  EXPECT_EQ(WaitFor(all[1].get(), receive), "");
  EXPECT_EQ(WaitFor(all[0].get(), send), "");
  EXPECT_EQ(got, sent);
}

// A process that is killed while another waits for it.
TEST(EndpointTest, APeerThatEndsIsNamed) {
  int to_child[2], to_parent[2];
  ASSERT_EQ(pipe(to_child) + pipe(to_parent), 0);
  const auto exchange = [](Endpoint* own, int rank, int out, int in) {
    Card theirs;
    EXPECT_EQ(write(out, &own->card(), sizeof(Card)), static_cast<ssize_t>(sizeof(Card)));
    EXPECT_EQ(read(in, &theirs, sizeof(Card)), static_cast<ssize_t>(sizeof(Card)));
    return own->Connect(rank == 0 ? std::vector<Card>{own->card(), theirs}
                                  : std::vector<Card>{theirs, own->card()});
  };
  const pid_t child = fork();
  if (child == 0) {
    std::unique_ptr<Endpoint> own;
    std::vector<int> sent(1000, 6);
    if (!Endpoint::Create(1, 2, &own).ok()) _exit(1);
    if (!exchange(own.get(), 1, to_parent[1], to_child[0]).ok()) _exit(2);
    const auto ticket = Send(own.get(), sent, 0, 0);
    if (WaitFor(own.get(), ticket) != "") _exit(3);
    for (;;) pause();
  }
  std::unique_ptr<Endpoint> own;
  ASSERT_TRUE(Endpoint::Create(0, 2, &own).ok());
  const base::Status status = exchange(own.get(), 0, to_child[1], to_parent[0]);
  ASSERT_TRUE(status.ok()) << status.message();
  std::vector<int> got(1000), more(1);
  EXPECT_EQ(WaitFor(own.get(), Receive(own.get(), &got, 1, 0)), "");
  EXPECT_EQ(got, std::vector<int>(1000, 6));
  const auto receive = Receive(own.get(), &more, 1, 0);
  std::thread killer([child] {
    std::this_thread::sleep_for(milliseconds(50));
    kill(child, SIGKILL);
  });
  EXPECT_EQ(WaitFor(own.get(), receive), "rank 1 of this machine has ended");
  killer.join();
  int how = 0;
  waitpid(child, &how, 0);
  EXPECT_TRUE(WIFSIGNALED(how));
  for (const int file : {to_child[0], to_child[1], to_parent[0], to_parent[1]}) close(file);
}

}  // namespace
}  // namespace cma
}  // namespace taco
