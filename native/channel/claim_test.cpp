#include "channel/claim.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "testing/channel.h"

namespace typhon::channel {
namespace {

using testing::attach_again;
using testing::Child;
using testing::kStressDivisor;
using testing::small_region;

constexpr std::uint64_t id_of(std::uint64_t generation, std::uint64_t index) {
  return (generation << 32) | index;
}

struct ChannelClaim : ::testing::Test {
  std::unique_ptr<Region> region = small_region();
  std::unique_ptr<Region> peer = attach_again(*region);
  Claims beam = region->claims();
  Claims worker = peer->claims();
};

TEST_F(ChannelClaim, IsOpenAtFirst) {
  for (const std::uint64_t index : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{kClaims - 1}}) {
    EXPECT_EQ(beam.state(id_of(1, index)), Claim::kOpen);
    EXPECT_EQ(worker.state(id_of(1, index)), Claim::kOpen);
  }
}

TEST_F(ChannelClaim, IsTheWorkersWhenItHasBegun) {
  EXPECT_TRUE(worker.take(id_of(1, 5)));
  EXPECT_EQ(beam.state(id_of(1, 5)), Claim::kTaken);
  EXPECT_FALSE(beam.withdraw(id_of(1, 5)));
  EXPECT_EQ(worker.state(id_of(1, 5)), Claim::kTaken);
}

TEST_F(ChannelClaim, IsTheBeamsWhenItWasTakenBack) {
  EXPECT_TRUE(beam.withdraw(id_of(1, 5)));
  EXPECT_EQ(worker.state(id_of(1, 5)), Claim::kWithdrawn);
  EXPECT_FALSE(worker.take(id_of(1, 5)));
  EXPECT_EQ(beam.state(id_of(1, 5)), Claim::kWithdrawn);
}

TEST_F(ChannelClaim, OfAnEarlierGenerationOrAnotherIndexSaysNothing) {
  EXPECT_TRUE(beam.withdraw(id_of(1, 5)));
  EXPECT_EQ(worker.state(id_of(2, 5)), Claim::kOpen);
  EXPECT_EQ(worker.state(id_of(1, 6)), Claim::kOpen);
  EXPECT_TRUE(worker.take(id_of(2, 5)));
  EXPECT_TRUE(worker.take(id_of(1, 6)));
  EXPECT_FALSE(beam.withdraw(id_of(2, 5)));
  EXPECT_TRUE(beam.withdraw(id_of(3, 5)));
}

// A worker comes to a frame that was withdrawn when its index has been used again, and decided again.
TEST_F(ChannelClaim, OfALaterGenerationSaysThatItWasWithdrawn) {
  EXPECT_TRUE(beam.withdraw(id_of(1, 5)));
  EXPECT_TRUE(beam.withdraw(id_of(2, 5)));
  EXPECT_FALSE(worker.take(id_of(1, 5)));
  EXPECT_FALSE(worker.take(id_of(2, 5)));
  EXPECT_TRUE(worker.take(id_of(3, 5)));
  EXPECT_FALSE(worker.take(id_of(2, 5)));
  EXPECT_EQ(beam.state(id_of(3, 5)), Claim::kTaken);
}

TEST_F(ChannelClaim, GoesOnWhenGenerationsBeginAgain) {
  std::uint64_t generation = 1;
  // As many steps as it takes to come round, but few.
  for (int step = 0; step < 9; ++step) {
    EXPECT_TRUE(step % 2 == 0 ? worker.take(id_of(generation, 5)) : beam.withdraw(id_of(generation, 5)));
    const std::uint64_t next = (generation + 0x3f'ffff) & 0xff'ffff;
    EXPECT_EQ(worker.state(id_of(next, 5)), Claim::kOpen) << generation;
    generation = next == 0 ? 1 : next;
  }
}

TEST_F(ChannelClaim, OfAnIdThatCannotBeIsTheWorkersAlone) {
  for (const std::uint64_t index : {std::uint64_t{kClaims}, std::uint64_t{0xffff'ffff}}) {
    EXPECT_TRUE(worker.take(id_of(1, index)));
    EXPECT_FALSE(beam.withdraw(id_of(1, index)));
    EXPECT_EQ(beam.state(id_of(1, index)), Claim::kTaken);
  }
}

// Both want each call at the same moment: it is one side's, and both say whose.
TEST_F(ChannelClaim, GoesToOneSideWhenBothWantIt) {
  const std::uint64_t rounds = 300'000 / kStressDivisor;
  std::vector<std::uint8_t> taken(rounds, 0);
  std::vector<std::uint8_t> withdrawn(rounds, 0);
  std::atomic<std::uint64_t> round_of[2] = {0, 0};
  const auto run = [&](int me, std::vector<std::uint8_t>& won, auto want) {
    for (std::uint64_t round = 0; round < rounds; ++round) {
      // Four indices, so that generations of one follow each other. Nobody runs ahead: else one side would
      // have an index' next generation decided before the other has seen this one.
      won[round] = want(id_of(1 + round / 4, round % 4)) ? 1 : 0;
      round_of[me].store(round + 1, std::memory_order_release);
      while (round_of[1 - me].load(std::memory_order_acquire) <= round) std::this_thread::yield();
    }
  };
  std::thread other([&] { run(1, taken, [&](std::uint64_t id) { return worker.take(id); }); });
  run(0, withdrawn, [&](std::uint64_t id) { return beam.withdraw(id); });
  other.join();
  std::uint64_t of_the_worker = 0;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    ASSERT_EQ(taken[round] + withdrawn[round], 1) << "round " << round;
    of_the_worker += taken[round];
  }
  RecordProperty("taken", static_cast<int>(of_the_worker));
}

// A worker that scribbles over the words decides about its own calls, and touches nothing else.
TEST_F(ChannelClaim, OfAHostileWorkerIsOneOfTheThree) {
  std::uint32_t value = 1;
  for (int i = 0; i < 10'000; ++i) {
    value = value * 1'664'525U + 1'013'904'223U;
    auto* words = reinterpret_cast<std::uint8_t*>(&peer->header()) + kHeaderSize;
    reinterpret_cast<std::atomic<std::uint32_t>*>(words)[7].store(value);
    const std::uint64_t id = id_of(value >> 2 & 0xff'ffff, 7);
    const bool was_open = beam.state(id) == Claim::kOpen;
    EXPECT_EQ(beam.withdraw(id), was_open) << "what the worker says to be decided is its own";
    EXPECT_NE(beam.state(id), Claim::kOpen);
  }
}

}  // namespace
}  // namespace typhon::channel
