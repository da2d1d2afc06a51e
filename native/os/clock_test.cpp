#include "os/clock.h"

#include <gtest/gtest.h>

#include <csignal>
#include <thread>

namespace typhon::os {
namespace {

TEST(OsClock, GoesForwardOnly) {
  std::uint64_t last = monotonic_ns();
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t now = monotonic_ns();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(OsClock, KnowsWhetherAMomentIsPast) {
  EXPECT_TRUE(is_past(0));
  EXPECT_TRUE(is_past(monotonic_ns() - 1));
  EXPECT_FALSE(is_past(monotonic_ns() + 1'000'000'000'000));
  EXPECT_FALSE(is_past(~std::uint64_t{0} - 1));
}

TEST(OsClock, SleepsForAsLongAsItShould) {
  const std::uint64_t before = monotonic_ns();
  sleep_ns(2'000'000);
  EXPECT_GE(monotonic_ns() - before, 2'000'000U);
  sleep_ns(0);
  sleep_ns(-1);
}

TEST(OsClock, ASignalDoesNotEndASleep) {
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) {};
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  const std::uint64_t begun = monotonic_ns();
  const pthread_t sleeper = ::pthread_self();
  std::thread noise([&] {
    for (int i = 0; i < 10; ++i) {
      sleep_ns(1'000'000);
      ::pthread_kill(sleeper, SIGUSR1);
    }
  });
  sleep_ns(30'000'000);
  EXPECT_GE(monotonic_ns() - begun, 30'000'000U);
  noise.join();
  ::sigaction(SIGUSR1, &before, nullptr);
}

}  // namespace
}  // namespace typhon::os
