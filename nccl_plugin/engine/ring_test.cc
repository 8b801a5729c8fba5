#include "nccl_plugin/engine/ring.h"

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <random>
#include <thread>

namespace taco {
namespace harp {
namespace {

TEST(Ring, IsAQueueOfSoMany) {
  Ring<int, 4> ring;
  std::deque<int> model;
  std::mt19937 random(1);
  for (int turn = 0; turn < 100000; ++turn) {
    if (random() % 2 == 0) {
      const bool room = model.size() < 4;
      ASSERT_EQ(ring.Push(turn), room);
      if (room) model.push_back(turn);
    } else {
      int value = -1;
      ASSERT_EQ(ring.empty(), model.empty());
      ASSERT_EQ(ring.Pop(&value), !model.empty());
      if (model.empty()) continue;
      ASSERT_EQ(value, model.front());
      model.pop_front();
    }
  }
}

TEST(Ring, WhatOneThreadPutsInAnotherTakesOutInOrder) {
  constexpr int kCount = 200000;
  struct Value {
    int number;
    int twice;
  };
  const auto ring = std::make_unique<Ring<Value, 64>>();
  std::thread puts([&] {
    for (int number = 0; number < kCount;) {
      if (ring->Push({number, 2 * number})) {
        ++number;
      } else {
        std::this_thread::yield();
      }
    }
  });
  for (int number = 0; number < kCount;) {
    Value value;
    if (!ring->Pop(&value)) {
      std::this_thread::yield();
      continue;
    }
    ASSERT_EQ(value.number, number);
    ASSERT_EQ(value.twice, 2 * number);
    ++number;
  }
  puts.join();
}

}  // namespace
}  // namespace harp
}  // namespace taco
