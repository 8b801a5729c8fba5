#include "nccl_plugin/protocol/credit.h"

#include <gtest/gtest.h>

#include <deque>

namespace taco {
namespace harp {
namespace {

TEST(Credit, WithoutAPoolThereIsNoBound) {
  CreditShare share;
  share.Set(true, true);
  EXPECT_EQ(share.bytes(), kAllCredit);
}

TEST(Credit, AFewReceiversHaveNoBound) {
  CreditPool pool(1000);
  std::deque<CreditShare> shares;
  for (int count = 1; count <= 4; ++count) {
    shares.emplace_back(&pool).Set(true, true);
    EXPECT_EQ(shares.front().bytes(), kAllCredit) << count;
  }
  shares.emplace_back(&pool).Set(true, true);
  EXPECT_EQ(shares.front().bytes(), 200u);
  shares.pop_back();
  EXPECT_EQ(shares.front().bytes(), kAllCredit);
}

TEST(Credit, TheBusyOnesShareAndTheOthersGetAFirstPart) {
  CreditPool pool(6000);
  std::deque<CreditShare> shares;
  for (int count = 0; count < 60; ++count) shares.emplace_back(&pool).Set(true, count < 6);
  EXPECT_EQ(shares.front().bytes(), 1000u);  // of six that are busy
  EXPECT_EQ(shares.back().bytes(), 100u);    // of all sixty
  shares[0].Set(true, false);
  shares[1].Set(false, false);
  EXPECT_EQ(shares[2].bytes(), kAllCredit);  // four are busy
  EXPECT_EQ(shares.back().bytes(), 6000u / 59);
}

TEST(Credit, WhatIsSetTwiceCountsOnce) {
  CreditPool pool(1000);
  std::deque<CreditShare> shares;
  for (int count = 0; count < 4; ++count) shares.emplace_back(&pool);
  for (int times = 0; times < 3; ++times) {
    for (CreditShare& share : shares) share.Set(true, true);
  }
  EXPECT_EQ(shares.front().bytes(), kAllCredit);
  for (int times = 0; times < 3; ++times) shares.front().Set(false, false);
  shares.emplace_back(&pool).Set(true, true);
  EXPECT_EQ(shares.back().bytes(), kAllCredit);
}

}  // namespace
}  // namespace harp
}  // namespace taco
