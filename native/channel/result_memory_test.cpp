#include "channel/result_memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

#include "channel/doorbell.h"
#include "os/clock.h"

namespace typhon::channel {
namespace {

using Refusal = ResultMemory::Refusal;

constexpr std::size_t kKiB = 1024;
constexpr std::size_t kMiB = 1024 * kKiB;
constexpr std::size_t kPlenty = std::size_t{1} << 40;

ResultMemory::Block take(ResultMemory& memory, std::size_t size,
                         std::shared_ptr<ResultAccount> account = nullptr) {
  Refusal refusal{};
  ResultMemory::Block block = memory.take(size, std::move(account), refusal);
  EXPECT_EQ(static_cast<bool>(block), refusal == Refusal::kNone);
  return block;
}

Refusal refusal_of(ResultMemory& memory, std::size_t size, std::shared_ptr<ResultAccount> account = nullptr) {
  Refusal refusal{};
  const ResultMemory::Block block = memory.take(size, std::move(account), refusal);
  return refusal;
}

TEST(ResultMemory, GivesMemoryOfAnySize) {
  ResultMemory memory(kPlenty);
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{4096}, 64 * kKiB + 1, kMiB,
                                 8 * kMiB, 9 * kMiB + 3, 40 * kMiB}) {
    ResultMemory::Block block = take(memory, size);
    ASSERT_TRUE(block);
    ASSERT_GE(block.size(), size);
    std::memset(block.data(), 0x5a, block.size());
    EXPECT_EQ(block.data()[block.size() - 1], 0x5a);
  }
  EXPECT_EQ(memory.in_use(), 0u);
}

TEST(ResultMemory, LargeBlocksLieOnHugePages) {
  ResultMemory memory(kPlenty);
  const ResultMemory::Block block = take(memory, 9 * kMiB);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.data()) % (2 * kMiB), 0u);
}

TEST(ResultMemory, ReusesWhatIsWarm) {
  ResultMemory memory(kPlenty);
  ResultMemory::Block first = take(memory, kMiB);
  std::uint8_t* const data = first.data();
  first.reset();
  EXPECT_GE(memory.cached(), kMiB);
  ResultMemory::Block second = take(memory, kMiB - 5);
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(memory.cached(), 0u);
}

TEST(ResultMemory, DoesNotKeepALargeBlockForASmallResult) {
  ResultMemory memory(kPlenty);
  take(memory, 16 * kMiB).reset();
  const std::size_t cached = memory.cached();
  const ResultMemory::Block small = take(memory, 64 * kKiB);
  EXPECT_EQ(memory.cached(), cached);
}

TEST(ResultMemory, KeepsABoundedAmount) {
  ResultMemory memory(kPlenty);
  {
    std::vector<ResultMemory::Block> blocks;
    for (std::size_t i = 0; i < 3 * ResultMemory::kKeep / (32 * kMiB); ++i)
      blocks.push_back(take(memory, 32 * kMiB));
  }
  EXPECT_LE(memory.cached(), ResultMemory::kKeep);
  EXPECT_GE(memory.cached(), ResultMemory::kKeep / 2);
  take(memory, ResultMemory::kKeep + 1).reset();
  EXPECT_LE(memory.cached(), ResultMemory::kKeep);
  {
    std::vector<ResultMemory::Block> blocks;
    for (std::size_t i = 0; i < 2 * ResultMemory::kBlocks; ++i) blocks.push_back(take(memory, 4 * kKiB));
  }
  EXPECT_LE(memory.cached(), ResultMemory::kKeep);
}

TEST(ResultMemory, GivesBackWhatIsIdle) {
  ResultMemory memory(kPlenty);
  take(memory, kMiB).reset();
  take(memory, 9 * kMiB).reset();
  const std::uint64_t now = os::monotonic_ns();
  EXPECT_NE(memory.give_to_system(now), 0u);
  EXPECT_GE(memory.cached(), 10 * kMiB);
  EXPECT_EQ(memory.give_to_system(now + 2 * ResultMemory::kIdleNs), 0u);
  EXPECT_EQ(memory.cached(), 0u);
}

TEST(ResultMemory, BoundsWhatIsInUse) {
  ResultMemory memory(10 * kMiB);
  ResultMemory::Block block = take(memory, 6 * kMiB);
  EXPECT_EQ(refusal_of(memory, 4 * kMiB + 1), Refusal::kAll);
  EXPECT_EQ(refusal_of(memory, SIZE_MAX), Refusal::kAll);
  EXPECT_EQ(memory.in_use(), 6 * kMiB);
  EXPECT_EQ(refusal_of(memory, 4 * kMiB), Refusal::kNone);
  block.reset();
  EXPECT_EQ(refusal_of(memory, 10 * kMiB), Refusal::kNone);
}

TEST(ResultMemory, BoundsEachAccount) {
  ResultMemory memory(kPlenty);
  const auto account = std::make_shared<ResultAccount>();
  account->limit = 2 * kMiB;
  ResultMemory::Block block = take(memory, kMiB, account);
  EXPECT_EQ(account->bytes.load(), kMiB);
  EXPECT_EQ(account->count.load(), 1u);
  EXPECT_EQ(refusal_of(memory, kMiB + 1, account), Refusal::kAccount);
  EXPECT_EQ(memory.in_use(), kMiB);
  EXPECT_EQ(refusal_of(memory, kMiB + 1), Refusal::kNone);
  ResultMemory::Block moved = std::move(block);
  EXPECT_EQ(account->count.load(), 1u);
  moved.reset();
  EXPECT_EQ(account->bytes.load(), 0u);
  EXPECT_EQ(account->count.load(), 0u);
}

TEST(ResultMemory, TheKeeperEndsWhenItIsTold) {
  ResultMemory memory(kPlenty);
  for (int round = 0; round < 3; ++round) {
    memory.restart();
    std::thread keeper([&] { memory.keep(); });
    for (int i = 0; i < 20; ++i) take(memory, ResultMemory::kKeep + 1).reset();
    take(memory, kMiB).reset();
    memory.stop();
    keeper.join();
  }
}

TEST(ResultMemory, ManyThreadsShareIt) {
  ResultMemory memory(kPlenty);
  std::thread keeper([&] { memory.keep(); });
  std::vector<std::thread> threads;
  for (std::uint8_t mark = 1; mark <= 4; ++mark) {
    threads.emplace_back([&memory, mark] {
      const auto account = std::make_shared<ResultAccount>();
      for (std::size_t i = 0; i < 300; ++i) {
        ResultMemory::Block block = take(memory, 4 * kKiB + i * 700, account);
        std::memset(block.data(), mark, block.size());
        std::this_thread::yield();
        for (std::size_t at = 0; at < block.size(); at += 4 * kKiB) ASSERT_EQ(block.data()[at], mark);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  memory.stop();
  keeper.join();
  EXPECT_EQ(memory.in_use(), 0u);
}

}  // namespace
}  // namespace typhon::channel
