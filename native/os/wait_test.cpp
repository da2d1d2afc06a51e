#include "os/wait.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "os/clock.h"
#include "os/memory.h"
#include "os/thread.h"

namespace typhon::os {
namespace {

using Word = std::atomic<std::uint32_t>;

TEST(OsWait, DoesNotWaitForAWordThatHasChanged) {
  Word word{1};
  wait_word(word, 0, -1);
  wait_word(word, 0, 1'000'000'000'000);
}

TEST(OsWait, ALimitEndsIt) {
  Word word{1};
  wait_word(word, 1, 0);
  // It may return early, but not for ever.
  const std::uint64_t until = monotonic_ns() + 5'000'000;
  while (monotonic_ns() < until) wait_word(word, 1, static_cast<std::int64_t>(until - monotonic_ns()));
}

TEST(OsWait, WakesAllWhoWait) {
  Word word{0};
  std::atomic<int> awake{0};
  std::thread sleepers[4];
  for (std::thread& sleeper : sleepers) {
    sleeper = std::thread([&] {
      while (word.load() == 0) wait_word(word, 0, -1);
      ++awake;
    });
  }
  word.store(1);
  wake_word(word, 1);
  wake_word(word, INT32_MAX);
  for (std::thread& sleeper : sleepers) sleeper.join();
  EXPECT_EQ(awake.load(), 4);
}

TEST(OsWait, ReachesAnotherProcess) {
  const UniqueFd fd = make_shared_memory("os_test");
  ASSERT_TRUE(fd.valid() && set_size(fd.get(), page_size()));
  std::uint8_t* const at = map_shared(fd.get(), 0, page_size());
  ASSERT_TRUE(at);
  auto& word = *reinterpret_cast<Word*>(at);
  auto& asleep = *reinterpret_cast<Word*>(at + 64);
  const pid_t pid = ::fork();
  if (pid == 0) {
    asleep.store(1);
    while (word.load() == 0) wait_word(word, 0, -1);
    ::_exit(0);
  }
  while (asleep.load() == 0) yield_core();
  word.store(1);
  wake_word(word, 1);
  int status = -1;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
  unmap(at, page_size());
}

}  // namespace
}  // namespace typhon::os
