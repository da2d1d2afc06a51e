#include "channel/reader_role.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "testing/channel.h"

namespace typhon::channel {
namespace {

using Word32 = std::atomic<std::uint32_t>;

TEST(ReaderRole, IsTakenByACallerAndGivenBackAsItWasFound) {
  for (const std::uint32_t rest : {kAsleep, kTimed, kPolled}) {
    Word32 word = rest;
    ReaderRole role(word);
    std::uint32_t found = 0;
    ASSERT_TRUE(role.try_take(found));
    EXPECT_EQ(found, rest);
    EXPECT_EQ(word.load(), kSpin);
    std::uint32_t other = 0;
    EXPECT_FALSE(role.try_take(other)) << "somebody reads";
    EXPECT_FALSE(role.reader_takes()) << "somebody reads";
    role.leave(found);
    EXPECT_EQ(word.load(), rest);
    EXPECT_TRUE(role.try_take(other));
  }
}

TEST(ReaderRole, IsNotForCallersWhileTheReaderHasIt) {
  Word32 word = kAwake;
  ReaderRole role(word);
  ASSERT_TRUE(role.reader_takes());
  std::uint32_t found = 0;
  EXPECT_FALSE(role.try_take(found));
  role.rest(kAsleep);
  EXPECT_TRUE(role.try_take(found));
}

TEST(ReaderRole, IsHeldWhateverTheWordSays) {
  Word32 word = kAsleep;
  ReaderRole role(word);
  std::uint32_t found = 0;
  ASSERT_TRUE(role.try_take(found));
  for (const std::uint32_t lie : {kAwake, kAsleep, kSpin, kTimed, kPolled, Word{77}}) {
    std::uint32_t other = 0;
    word = lie;
    EXPECT_FALSE(role.try_take(other)) << lie;
    word = lie;
    EXPECT_FALSE(role.reader_takes()) << lie;
    EXPECT_FALSE(role.abandoned(lie)) << lie;
  }
  role.leave(found);
  EXPECT_TRUE(role.abandoned(kSpin)) << "the word says that a caller reads, and none does";
  EXPECT_TRUE(role.abandoned(77));
  EXPECT_FALSE(role.abandoned(kAsleep));
}

// Callers, the reader thread, and a worker that writes into the word what it likes. What the role guards is a
// plain count: ThreadSanitizer and the sum tell of two who have it at once.
TEST(ReaderRole, HasOneHolderBesideAWorkerThatScribbles) {
  constexpr int kCallers = 3;
  constexpr std::uint64_t kTurns = 200'000 / testing::kStressDivisor;
  Word32 word = kAsleep;
  ReaderRole role(word);
  std::atomic<bool> stop{false};
  std::uint64_t guarded = 0;
  std::atomic<std::uint64_t> turns{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kCallers; ++i) {
    threads.emplace_back([&] {
      while (!stop.load(std::memory_order_relaxed)) {
        std::uint32_t found = 0;
        if (!role.try_take(found)) {
          std::this_thread::yield();
          continue;
        }
        ++guarded;
        role.leave(found);
        turns.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  threads.emplace_back([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      if (!role.reader_takes()) continue;
      ++guarded;
      role.rest(kTimed);
      turns.fetch_add(1, std::memory_order_relaxed);
    }
  });
  threads.emplace_back([&] {
    for (std::uint32_t n = 0; !stop.load(std::memory_order_relaxed); ++n) {
      word.store(n % 7, std::memory_order_relaxed);
      if (n % 64 == 0) std::this_thread::yield();
    }
  });
  while (turns.load(std::memory_order_relaxed) < kTurns) std::this_thread::yield();
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(guarded, turns.load());
}

}  // namespace
}  // namespace typhon::channel
