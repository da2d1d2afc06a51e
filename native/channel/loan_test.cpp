#include "channel/loan.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <deque>
#include <thread>
#include <vector>

#include "channel/doorbell.h"
#include "os/thread.h"
#include "testing/channel.h"

namespace typhon::channel {
namespace {

using testing::kStressDivisor;
using testing::small_region;

// A lender as both sides have one: loans of some bytes, freed when they have come back.
class TestLender {
 public:
  Loan* lend(std::size_t size = 100) {
    auto* loan = new Loan{};
    loan->holders.store(1);
    loan->home = &box;
    loan->size = size;
    box.out.add(size);
    return loan;
  }
  // How many came back.
  std::size_t collect() {
    std::size_t count = 0;
    for (Loan* loan = box.collect(); loan != nullptr; ++count) {
      box.out.remove(loan->size);
      delete std::exchange(loan, loan->next);
    }
    return count;
  }
  LoanBox box;
};

// A frame whose body is `text`, with the loans.
std::vector<std::uint8_t> frame_with(const char* text, Loan* loans) {
  FrameHeader header{};
  header.kind = Kind::kCall;
  header.flags = kLends;
  header.size = static_cast<std::uint32_t>(sizeof header + std::strlen(text) + sizeof loans);
  std::vector<std::uint8_t> frame(header.size);
  std::memcpy(frame.data(), &header, sizeof header);
  std::memcpy(frame.data() + sizeof header, text, std::strlen(text));
  std::memcpy(frame.data() + header.size - sizeof loans, static_cast<void*>(&loans), sizeof loans);
  return frame;
}

void push(RingProducer& ring, const std::vector<std::uint8_t>& frame) {
  std::uint8_t* at = ring.reserve(align8(frame.size()));
  ASSERT_NE(at, nullptr);
  std::memcpy(at, frame.data(), frame.size());
  ring.commit(frame.size());
}

LeftBehind requests_of(const Region& region) {
  Header& header = region.header();
  return {header.request_leavings.value, header.request_swept.value,
          region.request_ring(),         region.ring_size(),
          header.request_tail.value,     header.request_head.value};
}

TEST(Loan, ComesBackWithItsLastHolder) {
  TestLender lender;
  Loan* loan = lender.lend(64);
  hold(*loan);
  let_go(*loan);
  EXPECT_FALSE(lender.box.has_returned());
  EXPECT_EQ(lender.box.out.bytes.load(), 64U);
  let_go(*loan);
  EXPECT_TRUE(lender.box.has_returned());
  EXPECT_EQ(lender.collect(), 1U);
  EXPECT_EQ(lender.box.out.count.load(), 0U);
  EXPECT_EQ(lender.box.out.bytes.load(), 0U);
}

TEST(Loan, OfAFrameAreFoundByIndexInAnyOrderAndReturnedTogether) {
  TestLender lender;
  LoanChain chain;
  std::vector<Loan*> loans;
  for (std::uint32_t i = 0; i < 50; ++i) {
    loans.push_back(lender.lend(i));
    EXPECT_EQ(chain.add(*loans.back()), i);
  }
  const std::vector<std::uint8_t> bytes = frame_with("term", chain.take());
  EXPECT_EQ(chain.count(), 0U);
  FrameHeader header{};
  std::memcpy(&header, bytes.data(), sizeof header);
  std::span<const std::uint8_t> body = std::span(bytes).subspan(sizeof header);
  {
    FrameLoans taken = FrameLoans::of(header, body);
    EXPECT_EQ(body.size(), 4U);
    EXPECT_EQ(taken.count(), 50U);
    for (const std::uint32_t index : {0U, 1U, 49U, 7U, 7U, 8U, 0U}) EXPECT_EQ(taken.at(index), loans[index]);
    EXPECT_EQ(taken.at(50), nullptr);
    EXPECT_EQ(taken.at(3), loans[3]);
    hold(*loans[3]);
    FrameLoans moved = std::move(taken);
    EXPECT_EQ(moved.at(4), loans[4]);
    EXPECT_EQ(lender.collect(), 0U);
  }
  EXPECT_EQ(lender.collect(), 49U);
  let_go(*loans[3]);
  EXPECT_EQ(lender.collect(), 1U);
}

TEST(Loan, AFrameWithoutTheFlagOrTheRoomHasNone) {
  FrameHeader header{};
  const std::array<std::uint8_t, 7> bytes{};
  std::span<const std::uint8_t> body(bytes);
  EXPECT_TRUE(FrameLoans::of(header, body).empty());
  header.flags = kLends;
  EXPECT_TRUE(FrameLoans::of(header, body).empty());
  EXPECT_EQ(body.size(), 7U);
}

TEST(Loan, LenderSleepsUntilSomethingComesBackAndEndsWhenItIsTold) {
  TestLender lender;
  std::atomic<std::size_t> freed{0};
  std::thread own([&] {
    while (lender.box.wait()) freed.fetch_add(lender.collect());
    freed.fetch_add(lender.collect());
  });
  for (int i = 0; i < 3; ++i) let_go(*lender.lend());
  while (freed.load() < 3) std::this_thread::yield();
  let_go(*lender.lend());
  while (freed.load() < 4) std::this_thread::yield();
  lender.box.stop();
  own.join();
  EXPECT_EQ(freed.load(), 4U);
  EXPECT_EQ(lender.box.out.count.load(), 0U);
}

TEST(Loan, ManyThreadsGiveBackWhatOneLends) {
  constexpr std::size_t kThreads = 4;
  const std::size_t each = 200'000 / kStressDivisor;
  TestLender lender;
  std::size_t freed = 0;
  std::thread own([&] {
    while (lender.box.wait()) freed += lender.collect();
    freed += lender.collect();
  });
  std::vector<std::thread> borrowers;
  for (std::size_t i = 0; i < kThreads; ++i) {
    borrowers.emplace_back([&] {
      for (std::size_t n = 0; n < each; ++n) {
        Loan* loan = lender.lend();
        hold(*loan);
        let_go(*loan);
        let_go(*loan);
      }
    });
  }
  for (std::thread& borrower : borrowers) borrower.join();
  lender.box.stop();
  own.join();
  EXPECT_EQ(freed, kThreads * each);
  EXPECT_EQ(lender.box.out.bytes.load(), 0U);
}

TEST(LeftBehind, GivesBackWhatWasNotTakenAndLeavesTheHead) {
  TestLender lender;
  const auto region = small_region();
  RingProducer ring = testing::request_producer(*region);
  RingConsumer reader = testing::request_consumer(*region);
  push(ring, frame_with("taken", nullptr));
  FrameHeader header{};
  std::span<const std::uint8_t> body;
  ASSERT_EQ(reader.peek(header, body), RingConsumer::State::kFrame);
  reader.pop();
  const std::uint64_t taken = region->header().request_head.value.load();
  push(ring, frame_with("not taken", lender.lend()));
  push(ring, frame_with("nor this", lender.lend()));
  LeftBehind left = requests_of(*region);
  left.look_after();  // the reader may come yet
  EXPECT_EQ(lender.collect(), 0U);
  left.leave();
  EXPECT_EQ(lender.collect(), 2U);
  EXPECT_EQ(region->header().request_head.value.load(), taken);
  // Whoever sends now sees to it himself, and nothing is given back twice.
  push(ring, frame_with("too late", lender.lend()));
  left.look_after();
  left.look_after();
  EXPECT_EQ(lender.collect(), 1U);
}

TEST(LeftBehind, StopsAtGarbage) {
  const auto region = small_region();
  region->header().request_tail.value.store(7);
  LeftBehind left = requests_of(*region);
  left.leave();
  left.look_after();
  EXPECT_EQ(region->header().request_leavings.value.load(), kLeft);
}

// A sender that publishes while the receiver stops: each frame is given back once, by the one or the other.
TEST(LeftBehind, LosesNothingWhenTheReceiverStopsMeanwhile) {
  for (std::uint64_t round = 0; round < 3'000 / kStressDivisor; ++round) {
    TestLender lender;
    const auto region = small_region();
    std::atomic<bool> go{false};
    std::thread receiver([&] {
      while (!go.load()) os::cpu_relax();
      requests_of(*region).leave();
    });
    RingProducer ring = testing::request_producer(*region);
    go.store(true);
    for (int i = 0; i < 20; ++i) {
      push(ring, frame_with("a request", lender.lend()));
      requests_of(*region).look_after();
    }
    receiver.join();
    ASSERT_EQ(lender.collect(), 20U) << "round " << round;
  }
}

}  // namespace
}  // namespace typhon::channel
