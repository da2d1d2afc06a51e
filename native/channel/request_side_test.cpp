#include "channel/request_side.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "testing/channel.h"

namespace typhon::channel {
namespace {

using testing::request_consumer;
using testing::small_region;

Outgoing cast(std::span<const std::uint8_t> body) {
  Outgoing frame;
  frame.kind = Kind::kCast;
  frame.body = body;
  return frame;
}

std::span<const std::uint8_t> bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

class RequestSideTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(region_, nullptr); }

  // Fills the ring; how many frames it took.
  int fill() {
    int count = 0;
    while (side_.push(cast(std::vector<std::uint8_t>(1000)))) ++count;
    return count;
  }
  // The worker takes some frames.
  int take(int most) {
    FrameHeader header{};
    std::span<const std::uint8_t> body;
    int count = 0;
    while (count < most && worker_.peek(header, body) == RingConsumer::State::kFrame) {
      worker_.pop();
      ++count;
    }
    return count;
  }
  bool room_was_asked_for() { return region_->header().request_room.value.exchange(0) != 0; }

  std::unique_ptr<Region> region_ = small_region();
  RequestSide side_{*region_};
  RingConsumer worker_ = request_consumer(*region_);
};

TEST_F(RequestSideTest, AFrameSaysWhatItWasMadeWith) {
  Outgoing frame;
  frame.id = 7;
  frame.parent = 8;
  frame.now = 9;
  frame.deadline = 10;
  frame.captures = true;
  frame.body = bytes("body");
  ASSERT_TRUE(side_.push(frame));
  FrameHeader header{};
  std::span<const std::uint8_t> body;
  ASSERT_EQ(worker_.peek(header, body), RingConsumer::State::kFrame);
  EXPECT_EQ(header.kind, Kind::kCall);
  EXPECT_EQ(header.flags, 0);
  EXPECT_EQ(header.id, 7U);
  EXPECT_EQ(header.times[0], 9U);
  EXPECT_EQ(header.times[1], 10U);
  EXPECT_EQ(header.times[2], 8U);
  EXPECT_EQ(header.times[3], 1U);
  EXPECT_TRUE(std::ranges::equal(body, bytes("body")));
}

TEST_F(RequestSideTest, ABodyInASegmentIsNamed) {
  auto segment = side_.allocate(100'000);
  ASSERT_TRUE(segment);
  Outgoing frame;
  frame.segment = segment;
  frame.segment_length = 99'000;
  ASSERT_TRUE(side_.push(frame));
  FrameHeader header{};
  std::span<const std::uint8_t> body;
  ASSERT_EQ(worker_.peek(header, body), RingConsumer::State::kFrame);
  EXPECT_EQ(header.flags, kInSegment);
  SegmentRef ref{};
  ASSERT_EQ(body.size(), sizeof ref);
  std::memcpy(&ref, body.data(), sizeof ref);
  EXPECT_EQ(ref.offset, segment->offset);
  EXPECT_EQ(ref.length, 99'000U);
}

TEST_F(RequestSideTest, AFullRingAsksForRoom) {
  ASSERT_GT(fill(), 10);
  EXPECT_FALSE(room_was_asked_for());
  EXPECT_FALSE(side_.push_or_ask(cast(std::vector<std::uint8_t>(1000))));
  EXPECT_TRUE(room_was_asked_for());
  EXPECT_FALSE(side_.has_room_or_ask());
  EXPECT_TRUE(room_was_asked_for());
}

TEST_F(RequestSideTest, ThereIsRoomOnceHalfOfTheRingIsFree) {
  const int frames = fill();
  take(frames / 4);
  EXPECT_FALSE(side_.has_room_or_ask());
  take(frames / 2);
  EXPECT_TRUE(side_.has_room_or_ask());
}

TEST_F(RequestSideTest, ACounterThatGoesBackIsFoundOut) {
  ASSERT_TRUE(side_.push(cast(bytes("x"))));
  region_->header().request_head.value.store(1 << 20);
  while (!side_.broken() && side_.push(cast(std::vector<std::uint8_t>(1000)))) {
  }
  EXPECT_TRUE(side_.broken());
  room_was_asked_for();
  EXPECT_FALSE(side_.push_or_ask(cast(bytes("x"))));
  EXPECT_FALSE(room_was_asked_for()) << "nobody is to wait for a worker that writes such things";
}

TEST_F(RequestSideTest, WhatACastHoldsIsFreeWhenTheWorkerHasTakenIt) {
  ASSERT_TRUE(side_.push(cast(bytes("x"))));
  side_.hold_until_taken(RequestSide::kBudget);
  EXPECT_FALSE(side_.may_lend(1));
  EXPECT_FALSE(side_.allocate(1));
  EXPECT_FALSE(side_.asks_in_vain());
  take(1);
  EXPECT_TRUE(side_.may_lend(1));
  EXPECT_TRUE(side_.asks_in_vain());
}

TEST_F(RequestSideTest, WhatACallHoldsIsFreeWhenItIsGivenBack) {
  side_.hold(RequestSide::kBudget);
  EXPECT_FALSE(side_.allocate(1));
  EXPECT_FALSE(side_.has_room_or_ask());
  side_.give_back(RequestSide::kBudget);
  EXPECT_TRUE(side_.has_room_or_ask());
  EXPECT_TRUE(side_.allocate(1));
}

TEST_F(RequestSideTest, OneLargeRequestMayExceedTheBudgetAlone) {
  EXPECT_TRUE(side_.may_lend(2 * RequestSide::kBudget));
  side_.hold(1);
  EXPECT_FALSE(side_.may_lend(RequestSide::kBudget));
}

TEST_F(RequestSideTest, ReleasesThatFindNoRoomWaitForIt) {
  for (std::uint64_t id = 1; id <= 2'000; ++id) side_.add_release(id);
  fill();
  bool room_wanted = false;
  EXPECT_FALSE(side_.push_all_releases(room_wanted));
  EXPECT_TRUE(room_wanted);
  EXPECT_TRUE(room_was_asked_for());
  take(1'000'000);
  std::vector<std::uint64_t> seen;
  for (bool wanted = true; wanted;) {
    wanted = false;
    side_.push_all_releases(wanted);
    FrameHeader header{};
    std::span<const std::uint8_t> body;
    while (worker_.peek(header, body) == RingConsumer::State::kFrame) {
      ASSERT_EQ(header.kind, Kind::kRelease);
      const std::size_t count = body.size() / sizeof(std::uint64_t);
      seen.resize(seen.size() + count);
      std::memcpy(seen.data() + seen.size() - count, body.data(), body.size());
      worker_.pop();
    }
  }
  std::sort(seen.begin(), seen.end());
  ASSERT_EQ(seen.size(), 2'000U);
  for (std::uint64_t id = 1; id <= 2'000; ++id) EXPECT_EQ(seen[id - 1], id);
}

TEST_F(RequestSideTest, IdlePagesAreCountedByTheSegmentsSent) {
  EXPECT_EQ(side_.idle_pages_since(), std::nullopt);
  const auto segment = side_.allocate(100'000);
  ASSERT_TRUE(segment);
  side_.discard(*segment);
  EXPECT_EQ(side_.idle_pages_since(), 0U);
  while (side_.trim(1 << 20)) {
  }
  EXPECT_EQ(side_.idle_pages_since(), std::nullopt);
}

}  // namespace
}  // namespace typhon::channel
