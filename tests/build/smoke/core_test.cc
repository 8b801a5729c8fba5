#include "tests/build/smoke/core.h"
#include "tests/build/smoke/kernels.h"
#include <thread>
#include "gmock/gmock.h"
#include "gtest/gtest.h"
TEST(Core, Sum) {
  EXPECT_EQ(smoke::Sum({1, 2}), 8);
  EXPECT_EQ(smoke::v2::Sum({1, 2}), 8);
  EXPECT_EQ(smoke::v3::Sum({1, 2}), 8);
  std::thread t([]{ EXPECT_THAT(smoke::Level(), testing::Not(testing::IsEmpty())); });
  t.join();
  printf("level %s\n", smoke::Level().c_str());
#ifdef BREAK
  int* p = new int[2]; printf("%d\n", p[argcx()]);
#endif
}
