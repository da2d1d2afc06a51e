#include "os/thread.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <cstdint>
#include <cstring>

#include "os/clock.h"
#include "os/wait.h"

namespace typhon::os {
namespace {

// What a thread has found out about itself.
struct Told {
  std::size_t stack = 0;
  bool signals_blocked = false;
  char name[16] = {};
  std::atomic<std::uint32_t> done{0};

  void wait() {
    while (done.load() == 0) wait_word(done, 0, -1);
  }
  void finish() {
    done.store(1);
    wake_word(done, 1);
  }
};

TEST(OsThread, NoSignalLandsOnIt) {
  static Told told;
  ASSERT_EQ(start_thread(
                [](void*) -> void* {
                  sigset_t blocked;
                  ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
                  told.signals_blocked =
                      sigismember(&blocked, SIGTERM) == 1 && sigismember(&blocked, SIGUSR1) == 1;
                  name_this_thread("typhon-test");
                  ::pthread_getname_np(::pthread_self(), told.name, sizeof told.name);
                  told.finish();
                  return nullptr;
                },
                nullptr, 1 << 20),
            0);
  told.wait();
  EXPECT_TRUE(told.signals_blocked);
  EXPECT_STREQ(told.name, "typhon-test");
  sigset_t mine;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &mine);
  EXPECT_EQ(sigismember(&mine, SIGTERM), 0) << "the caller's are as they were";
}

// Uses so much of its stack, page by page, that nothing is left to chance.
TEST(OsThread, ItsStackIsAsLargeAsWasAskedFor) {
  constexpr std::size_t kStack = std::size_t{128} * 1024;
  static Told told;
  ASSERT_EQ(start_thread(
                [](void*) -> void* {
                  volatile unsigned char used[kStack / 2];
                  for (std::size_t i = 0; i < sizeof used; i += 1024) used[i] = 1;
                  told.stack = sizeof used + used[0] - 1;
                  told.finish();
                  return nullptr;
                },
                nullptr, kStack),
            0);
  told.wait();
  EXPECT_EQ(told.stack, kStack / 2);
}

TEST(OsThread, ATinyStackIsMadeLargeEnough) {
  static Told told;
  ASSERT_EQ(start_thread(
                [](void*) -> void* {
                  told.finish();
                  return nullptr;
                },
                nullptr, 1),
            0);
  told.wait();
}

TEST(OsThread, LetsOthersRun) {
  yield_core();
  cpu_relax();
}

}  // namespace
}  // namespace typhon::os
