#include "channel/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <thread>
#include <vector>

#include "testing/channel.h"

namespace typhon::channel {
namespace {

using testing::attach_again;
using testing::Child;
using testing::kPageSize;
using testing::kStressDivisor;
using testing::Random;
using testing::run_in_child;
using testing::small_region;

constexpr std::size_t kPages = 64;
constexpr std::size_t kMiB = 1024 * 1024;

struct Arena : ::testing::Test {
  std::unique_ptr<Region> region = small_region(kMinRing, kPages* kPageSize);
  std::atomic<std::uint32_t>* slots = region->header().request_slots;
  ArenaOwner owner{region->request_arena(), region->arena_size(), slots};
  ArenaPeer peer{region->request_arena(), region->arena_size(), slots};

  Segment take(std::size_t bytes) {
    const auto segment = owner.allocate(bytes);
    EXPECT_TRUE(segment) << bytes;
    return segment.value_or(Segment{});
  }
  std::span<const std::uint8_t> view(const Segment& segment) {
    return peer.view({segment.slot, segment.offset, segment.capacity}).value();
  }
};
using ChannelArena = Arena;

bool overlap(const Segment& a, const Segment& b) {
  return a.offset < b.offset + b.capacity && b.offset < a.offset + a.capacity;
}

std::size_t bytes_behind(const Region& region) {
  return static_cast<std::size_t>(os::memory_behind(region.fd()));
}

TEST_F(ChannelArena, GivesWholePages) {
  EXPECT_EQ(take(0).capacity, kPageSize);
  EXPECT_EQ(take(1).capacity, kPageSize);
  EXPECT_EQ(take(kPageSize).capacity, kPageSize);
  const Segment segment = take(kPageSize + 1);
  EXPECT_EQ(segment.capacity, 2 * kPageSize);
  EXPECT_EQ(segment.offset % kPageSize, 0U);
  EXPECT_EQ(owner.data(segment), region->request_arena() + segment.offset);
  EXPECT_EQ(owner.bytes_in_use(), 5 * kPageSize);
}

TEST_F(ChannelArena, ReusesTheLowestAddressFirst) {
  const Segment first = take(kPageSize);
  take(kPageSize);
  owner.discard(first);
  EXPECT_EQ(take(kPageSize).offset, first.offset) << "warm pages before fresh ones";
}

TEST_F(ChannelArena, SegmentsDoNotOverlap) {
  std::vector<Segment> segments;
  for (std::size_t i = 0; i < 20; ++i) segments.push_back(take(1 + i * 300));
  for (const Segment& a : segments) {
    for (const Segment& b : segments) EXPECT_EQ(overlap(a, b), a.slot == b.slot);
  }
}

TEST_F(ChannelArena, IsExhaustedAndThenServesAgain) {
  const Segment all = take(kPages * kPageSize);
  EXPECT_FALSE(owner.allocate(1));
  owner.discard(all);
  EXPECT_EQ(owner.bytes_in_use(), 0U);
  EXPECT_TRUE(owner.allocate(kPages * kPageSize));
}

TEST_F(ChannelArena, RefusesSizesItCanNeverServe) {
  EXPECT_FALSE(owner.allocate(kPages * kPageSize + 1));
  EXPECT_FALSE(owner.allocate(~std::size_t{0}));
  EXPECT_FALSE(owner.allocate(~std::size_t{0} - kPageSize + 1));
  EXPECT_EQ(owner.bytes_in_use(), 0U);
  EXPECT_TRUE(owner.allocate(1));
}

TEST_F(ChannelArena, MergesNeighboursInAnyOrderOfRelease) {
  std::vector<std::size_t> order{0, 1, 2, 3};
  do {
    std::vector<Segment> parts;
    for (int i = 0; i < 4; ++i) parts.push_back(take(kPages / 4 * kPageSize));
    ASSERT_FALSE(owner.allocate(1));
    for (const std::size_t i : order) peer.release(parts[i].slot);
    owner.reap();
    const Segment all = take(kPages * kPageSize);
    owner.discard(all);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_F(ChannelArena, DoesNotServeAcrossASegmentInUse) {
  const Segment first = take(kPages / 2 * kPageSize - kPageSize);
  const Segment middle = take(kPageSize);
  const Segment last = take(kPages / 2 * kPageSize);
  owner.discard(first);
  owner.discard(last);
  EXPECT_FALSE(owner.allocate(kPages / 2 * kPageSize + 1));
  EXPECT_TRUE(owner.allocate(kPages / 2 * kPageSize));
  owner.discard(middle);
  EXPECT_EQ(take(kPages / 2 * kPageSize).offset, 0U);
}

TEST_F(ChannelArena, RunsOutOfSlotsBeforeBytes) {
  const auto big = small_region(kMinRing, (kSegmentSlots + 10) * kPageSize);
  ASSERT_TRUE(big);
  ArenaOwner many(big->request_arena(), big->arena_size(), big->header().request_slots);
  const ArenaPeer reader(big->request_arena(), big->arena_size(), big->header().request_slots);
  std::vector<bool> seen(kSegmentSlots);
  Segment last;
  for (std::size_t i = 0; i < kSegmentSlots; ++i) {
    const auto segment = many.allocate(1);
    ASSERT_TRUE(segment) << i;
    ASSERT_LT(segment->slot, kSegmentSlots);
    ASSERT_FALSE(seen[segment->slot]) << "each slot once";
    seen[segment->slot] = true;
    last = *segment;
  }
  EXPECT_FALSE(many.allocate(1));
  // Growing in place needs no second slot, moving would.
  EXPECT_TRUE(many.grow(last, 1, 2 * kPageSize));
  reader.release(last.slot);
  EXPECT_FALSE(many.allocate(1)) << "released, but not yet reaped";
  many.reap();
  const auto again = many.allocate(1);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->slot, last.slot);
  // Every second one is freed: as many stretches as there can be, then all of them one again.
  for (std::uint32_t slot = 0; slot < kSegmentSlots; slot += 2) reader.release(slot);
  many.reap();
  for (std::uint32_t slot = 1; slot < kSegmentSlots; slot += 2) reader.release(slot);
  many.reap();
  EXPECT_EQ(many.bytes_in_use(), 0U);
  EXPECT_TRUE(many.allocate(big->arena_size()));
}

// Each machine runs this, whatever its own page size is: 4, 16 and 64 KiB are all that there are.
TEST(ChannelArenaPages, SegmentsAreWholePagesOfAnySize) {
  for (const std::size_t page : {std::size_t{4096}, std::size_t{16384}, os::kLargestPage}) {
    const auto region = small_region(kMinRing, 16 * os::kLargestPage);
    ASSERT_TRUE(region);
    ArenaOwner owner(region->request_arena(), region->arena_size(), region->header().request_slots, page);
    auto first = owner.allocate(1);
    const auto second = owner.allocate(page + 1);
    ASSERT_TRUE(first && second);
    EXPECT_EQ(first->capacity, page);
    EXPECT_EQ(second->capacity, 2 * page);
    EXPECT_EQ(second->offset % page, 0U);
    owner.discard(*second);
    ASSERT_TRUE(owner.grow(*first, 1, page + 1));
    EXPECT_EQ(first->capacity, 2 * page);
    owner.shrink(*first, 1);
    EXPECT_EQ(first->capacity, page);
    EXPECT_EQ(owner.bytes_in_use(), page);
    owner.discard(*first);
    EXPECT_TRUE(owner.allocate(region->arena_size()));
  }
}

TEST_F(ChannelArena, MarksSlotsUsedAndFree) {
  const Segment segment = take(1);
  EXPECT_EQ(slots[segment.slot].load(), kUsed);
  peer.release(segment.slot);
  EXPECT_EQ(slots[segment.slot].load(), kReleased);
  owner.reap();
  EXPECT_EQ(slots[segment.slot].load(), kFree);
}

TEST_F(ChannelArena, GrowsInPlaceWhenWhatFollowsIsFree) {
  Segment segment = take(kPageSize);
  const Segment before = segment;
  std::memset(owner.data(segment), 7, kPageSize);
  ASSERT_TRUE(owner.grow(segment, kPageSize, 10 * kPageSize));
  EXPECT_EQ(segment.offset, before.offset);
  EXPECT_EQ(segment.slot, before.slot);
  EXPECT_EQ(segment.capacity, 10 * kPageSize);
  EXPECT_EQ(owner.bytes_in_use(), 10 * kPageSize);
  EXPECT_FALSE(overlap(segment, take(1)));
}

TEST_F(ChannelArena, GrowsIntoTheLastFreePage) {
  Segment segment = take(kPageSize);
  ASSERT_TRUE(owner.grow(segment, 0, kPages * kPageSize));
  EXPECT_FALSE(owner.allocate(1));
  owner.discard(segment);
  EXPECT_EQ(owner.bytes_in_use(), 0U);
  EXPECT_TRUE(owner.allocate(kPages * kPageSize));
}

TEST_F(ChannelArena, GrowsByMovingWithItsBytes) {
  Segment segment = take(kPageSize);
  const Segment neighbour = take(kPageSize);
  const Segment before = segment;
  std::iota(owner.data(segment), owner.data(segment) + 1000, std::uint8_t{0});
  ASSERT_TRUE(owner.grow(segment, 1000, 2 * kPageSize));
  EXPECT_NE(segment.offset, before.offset);
  EXPECT_FALSE(overlap(segment, neighbour));
  for (std::size_t i = 0; i < 1000; ++i) ASSERT_EQ(owner.data(segment)[i], static_cast<std::uint8_t>(i));
  EXPECT_EQ(owner.bytes_in_use(), 3 * kPageSize);
  EXPECT_EQ(take(kPageSize).offset, before.offset) << "its old place is free again";
  EXPECT_EQ(slots[segment.slot].load(), kUsed);
}

TEST_F(ChannelArena, GrowThatFailsLeavesTheSegmentAsItWas) {
  Segment segment = take(kPageSize);
  take((kPages - 1) * kPageSize);
  std::memset(owner.data(segment), 9, kPageSize);
  const Segment before = segment;
  EXPECT_FALSE(owner.grow(segment, kPageSize, 2 * kPageSize));
  EXPECT_FALSE(owner.grow(segment, kPageSize, ~std::size_t{0}));
  EXPECT_EQ(segment.offset, before.offset);
  EXPECT_EQ(segment.slot, before.slot);
  EXPECT_EQ(segment.capacity, before.capacity);
  EXPECT_EQ(view(segment)[kPageSize - 1], 9);
}

TEST_F(ChannelArena, GrowToWhatItHasDoesNothing) {
  Segment segment = take(100);
  EXPECT_TRUE(owner.grow(segment, 100, kPageSize));
  EXPECT_TRUE(owner.grow(segment, 100, 0));
  EXPECT_EQ(segment.capacity, kPageSize);
}

TEST_F(ChannelArena, ShrinkGivesBackTheTail) {
  Segment segment = take(kPages * kPageSize);
  owner.shrink(segment, kPageSize + 1);
  EXPECT_EQ(segment.capacity, 2 * kPageSize);
  EXPECT_EQ(owner.bytes_in_use(), 2 * kPageSize);
  const Segment other = take((kPages - 2) * kPageSize);
  EXPECT_FALSE(overlap(segment, other));
  owner.shrink(segment, 2 * kPageSize);
  EXPECT_EQ(segment.capacity, 2 * kPageSize);
  owner.shrink(segment, 0);
  EXPECT_EQ(segment.capacity, kPageSize) << "a segment keeps one page";
  owner.discard(segment);
  owner.discard(other);
  EXPECT_TRUE(owner.allocate(kPages * kPageSize));
}

TEST_F(ChannelArena, IsNotReusedBeforeThePeerLetsGo) {
  const Segment all = take(kPages * kPageSize);
  owner.reap();
  EXPECT_FALSE(owner.allocate(1));
  peer.release(all.slot);
  owner.reap();
  EXPECT_TRUE(owner.allocate(1));
}

TEST_F(ChannelArena, PeerReleasesFromManyThreads) {
  for (std::uint64_t round = 0; round < 2000 / kStressDivisor; ++round) {
    std::vector<Segment> segments;
    for (std::size_t i = 0; i < 16; ++i) {
      segments.push_back(take(kPageSize));
      std::memset(owner.data(segments.back()), static_cast<int>(i), kPageSize);
    }
    std::atomic<int> wrong = 0;
    const auto read_and_release = [&](std::size_t from) {
      for (std::size_t i = from; i < segments.size(); i += 2) {
        const auto bytes = view(segments[i]);
        if (bytes.front() != i || bytes.back() != i) ++wrong;
        peer.release(segments[i].slot);
      }
    };
    std::thread odd(read_and_release, 1);
    std::thread even(read_and_release, 0);
    while (owner.bytes_in_use() != 0) {
      owner.reap();
      std::this_thread::yield();
    }
    odd.join();
    even.join();
    ASSERT_EQ(wrong, 0);
  }
}

TEST_F(ChannelArena, PeerReleasesFromAnotherProcess) {
  // Segments travel through a ring, are checked by the other process and come back through their slots.
  const std::uint64_t count = 20'000 / kStressDivisor;
  Child worker([&] {
    const auto mine = attach_again(*region);
    if (!mine) return 1;
    const ArenaPeer reader(mine->request_arena(), mine->arena_size(), mine->header().request_slots);
    RingConsumer consumer = testing::request_consumer(*mine);
    FrameHeader header{};
    std::span<const std::uint8_t> body;
    for (std::uint64_t id = 0; id < count;) {
      const auto state = consumer.peek(header, body);
      if (state == RingConsumer::State::kBroken) return 2;
      if (state == RingConsumer::State::kEmpty) {
        ::sched_yield();
        continue;
      }
      SegmentRef ref{};
      if (body.size() != sizeof ref || !(header.flags & kInSegment)) return 3;
      std::memcpy(&ref, body.data(), sizeof ref);
      consumer.pop();
      const auto bytes = reader.view(ref);
      if (!bytes) return 4;
      const auto expected = static_cast<std::uint8_t>(id);
      if (bytes->front() != expected || (*bytes)[bytes->size() / 2] != expected || bytes->back() != expected)
        return 5;
      reader.release(ref.slot);
      ++id;
    }
    return 0;
  });
  RingProducer producer = testing::request_producer(*region);
  Random random(3);
  for (std::uint64_t id = 0; id < count; ++id) {
    const std::size_t size = 1 + random.below(8 * kPageSize);
    std::optional<Segment> segment;
    while (!(segment = owner.allocate(size))) {
      owner.reap();
      ::sched_yield();
    }
    std::memset(owner.data(*segment), static_cast<int>(id), size);
    FrameHeader header{};
    header.size = sizeof header + sizeof(SegmentRef);
    header.kind = Kind::kCall;
    header.flags = kInSegment;
    const SegmentRef ref{segment->slot, segment->offset, size};
    std::uint8_t* place = nullptr;
    while (!(place = producer.reserve(header.size))) ::sched_yield();
    std::memcpy(place, &header, sizeof header);
    std::memcpy(place + sizeof header, &ref, sizeof ref);
    producer.commit(header.size);
  }
  EXPECT_EQ(worker.wait(), 0);
  owner.reap();
  EXPECT_EQ(owner.bytes_in_use(), 0U);
}

TEST(ChannelArenaTrim, GivesPagesBackToTheSystem) {
  const auto region = small_region(kMinRing, 64 * kMiB);
  ASSERT_TRUE(region);
  ArenaOwner owner(region->reply_arena(), region->arena_size(), region->header().reply_slots);
  const ArenaPeer peer(region->reply_arena(), region->arena_size(), region->header().reply_slots);
  EXPECT_FALSE(owner.has_idle_pages());
  const auto kept = owner.allocate(2 * kMiB);
  const auto first = owner.allocate(16 * kMiB);
  const auto second = owner.allocate(16 * kMiB);
  const auto last = owner.allocate(kMiB);
  ASSERT_TRUE(kept && first && second && last);
  for (const auto& segment : {kept, first, second, last})
    std::memset(owner.data(*segment), 5, segment->capacity);
  EXPECT_GE(bytes_behind(*region), 35 * kMiB);
  owner.trim();
  EXPECT_GE(bytes_behind(*region), 35 * kMiB) << "nothing is free";

  peer.release(first->slot);
  peer.release(second->slot);
  owner.reap();
  EXPECT_TRUE(owner.has_idle_pages());
  owner.trim();
  EXPECT_FALSE(owner.has_idle_pages());
  EXPECT_GE(bytes_behind(*region), 3 * kMiB);
  EXPECT_LE(bytes_behind(*region), 4 * kMiB);
  const auto untouched = [](const std::uint8_t* from, std::size_t size) {
    return std::all_of(from, from + size, [](std::uint8_t byte) { return byte == 5; });
  };
  EXPECT_TRUE(untouched(owner.data(*kept), kept->capacity));
  EXPECT_TRUE(untouched(owner.data(*last), last->capacity));

  // Used and trimmed again: trim() remembers how far pages may have been touched.
  const auto again = owner.allocate(16 * kMiB);
  ASSERT_TRUE(again);
  EXPECT_EQ(owner.data(*again)[0], 0) << "a trimmed page comes back as zeros";
  std::memset(owner.data(*again), 6, again->capacity);
  owner.discard(*again);
  owner.discard(*kept);
  owner.discard(*last);
  EXPECT_TRUE(owner.has_idle_pages());
  owner.trim();
  EXPECT_LE(bytes_behind(*region), kMiB);
  EXPECT_EQ(owner.bytes_in_use(), 0U);
}

TEST(ChannelArenaTrim, GivesBackWhatShrinkAndGrowLeftBehind) {
  const auto region = small_region(kMinRing, 64 * kMiB);
  ASSERT_TRUE(region);
  ArenaOwner owner(region->request_arena(), region->arena_size(), region->header().request_slots);
  auto segment = owner.allocate(kMiB);
  ASSERT_TRUE(segment);
  ASSERT_TRUE(owner.grow(*segment, 0, 32 * kMiB));
  std::memset(owner.data(*segment), 1, segment->capacity);
  owner.shrink(*segment, kMiB);
  owner.trim();
  EXPECT_LE(bytes_behind(*region), 2 * kMiB);
  EXPECT_EQ(owner.data(*segment)[kMiB - 1], 1);
}

TEST(ChannelArenaTrim, GoesInStepsOfAnySize) {
  const auto region = small_region(kMinRing, 16 * kMiB);
  ASSERT_TRUE(region);
  ArenaOwner owner(region->request_arena(), region->arena_size(), region->header().request_slots);
  for (const std::size_t step : {std::size_t{1}, std::size_t{1000}, kPageSize + 1, kMiB, 5 * kMiB + 3}) {
    const auto segment = owner.allocate(8 * kMiB);
    ASSERT_TRUE(segment);
    std::memset(owner.data(*segment), 1, segment->capacity);
    owner.discard(*segment);
    EXPECT_TRUE(owner.has_idle_pages());
    EXPECT_TRUE(owner.trim(step)) << step;
    EXPECT_TRUE(owner.has_idle_pages()) << "a pass that has begun is not done";
    while (owner.trim(step)) {
    }
    EXPECT_FALSE(owner.has_idle_pages());
    EXPECT_LE(bytes_behind(*region), kMiB / 2) << "in steps of " << step;
  }
}

TEST(ChannelArenaTrim, NextPassTakesWhatWasFreedBehindTheCursor) {
  const auto region = small_region(kMinRing, 16 * kMiB);
  ASSERT_TRUE(region);
  ArenaOwner owner(region->request_arena(), region->arena_size(), region->header().request_slots);
  const auto low = owner.allocate(4 * kMiB);
  const auto high = owner.allocate(4 * kMiB);
  ASSERT_TRUE(low && high);
  std::memset(owner.data(*low), 1, low->capacity);
  std::memset(owner.data(*high), 1, high->capacity);
  owner.discard(*low);
  EXPECT_TRUE(owner.trim(kMiB)) << "the cursor is now below `high`";
  owner.discard(*high);
  while (owner.trim(kMiB)) {
  }
  EXPECT_LE(bytes_behind(*region), kMiB / 2);
}

// --- A peer that writes what it likes ---

TEST_F(ChannelArena, ViewRefusesWhatDoesNotLieInside) {
  const std::uint64_t size = region->arena_size();
  EXPECT_TRUE(peer.view({0, 0, size}));
  EXPECT_TRUE(peer.view({kSegmentSlots - 1, size, 0}));
  EXPECT_FALSE(peer.view({kSegmentSlots, 0, 1}));
  EXPECT_FALSE(peer.view({~std::uint64_t{0}, 0, 1}));
  EXPECT_FALSE(peer.view({0, 0, size + 1}));
  EXPECT_FALSE(peer.view({0, size, 1}));
  EXPECT_FALSE(peer.view({0, size + 1, 0}));
  EXPECT_FALSE(peer.view({0, ~std::uint64_t{0}, 1}));
  EXPECT_FALSE(peer.view({0, 1, ~std::uint64_t{0}}));
  EXPECT_FALSE(peer.view({0, ~std::uint64_t{0}, ~std::uint64_t{0}}));
}

TEST_F(ChannelArena, ReleaseOfASlotThatDoesNotExistDoesNothing) {
  for (const std::uint64_t slot : {std::uint64_t{kSegmentSlots}, std::uint64_t{1} << 32, ~std::uint64_t{0}}) {
    peer.release(slot);
  }
  for (std::size_t slot = 0; slot < kSegmentSlots; ++slot) ASSERT_EQ(slots[slot].load(), kFree);
}

TEST_F(ChannelArena, ReleaseOfAFreeSlotDoesNothing) {
  peer.release(17);
  owner.reap();
  EXPECT_TRUE(owner.allocate(kPages * kPageSize));
}

TEST_F(ChannelArena, ForgedSlotStatesAreNoRelease) {
  const Segment segment = take(kPageSize);
  for (const std::uint32_t state : {0U, 1U, 3U, 0xffffffffU}) {
    slots[segment.slot].store(state);
    owner.reap();
    EXPECT_EQ(owner.bytes_in_use(), kPageSize) << state;
  }
}

TEST_F(ChannelArena, StaleSegmentCannotChangeAnothersRecord) {
  // The peer "releases" a segment that is still being written; its slot goes to a second one. What the owner
  // then does with the first must not touch the second's record, or the free list would lead outside the
  // arena.
  Segment stale = take(kPageSize);
  take(kPageSize);
  peer.release(stale.slot);
  owner.reap();
  Segment victim = take((kPages - 2) * kPageSize);
  ASSERT_EQ(victim.slot, stale.slot);
  EXPECT_FALSE(owner.grow(stale, 0, 4 * kPageSize));
  Segment shrunk = stale;
  shrunk.capacity = 10 * kPageSize;
  owner.shrink(shrunk, 1);
  EXPECT_EQ(owner.bytes_in_use(), (kPages - 1) * kPageSize);
  owner.discard(stale);
  EXPECT_EQ(owner.bytes_in_use(), (kPages - 1) * kPageSize) << "the second segment is still its writer's";
  EXPECT_EQ(slots[victim.slot].load(), kUsed);
}

TEST_F(ChannelArena, PeerThatReleasesAtRandomCannotLeadItOutside) {
  Random random(11);
  std::vector<Segment> held;
  for (std::uint64_t round = 0; round < 200'000 / kStressDivisor; ++round) {
    switch (random.below(6)) {
      case 0:
        if (!held.empty()) peer.release(held[random.below(held.size())].slot);
        break;
      case 1:
        slots[random.below(kSegmentSlots)].store(static_cast<std::uint32_t>(random.below(4)));
        owner.reap();
        break;
      case 2:
        if (!held.empty()) {
          Segment& segment = held[random.below(held.size())];
          const bool grown =
              owner.grow(segment, random.below(segment.capacity + 1), random.below(20 * kPageSize));
          ASSERT_TRUE(!grown || segment.offset + segment.capacity <= region->arena_size());
        }
        break;
      case 3:
        if (!held.empty()) owner.shrink(held[random.below(held.size())], random.below(8 * kPageSize));
        break;
      case 4:
        if (!held.empty()) {
          const std::size_t which = random.below(held.size());
          owner.discard(held[which]);
          held[which] = held.back();
          held.pop_back();
        }
        break;
      default:
        if (const auto segment = owner.allocate(random.below(12 * kPageSize))) {
          ASSERT_LE(segment->offset + segment->capacity, region->arena_size());
          owner.data(*segment)[segment->capacity - 1] = 1;
          held.push_back(*segment);
        }
    }
    ASSERT_LE(owner.bytes_in_use(), region->arena_size());
    if (round % 1000 == 0) owner.trim();
  }
  // Whatever happened: once all is released, all is there again.
  for (std::uint32_t slot = 0; slot < kSegmentSlots; ++slot) peer.release(slot);
  owner.reap();
  EXPECT_EQ(owner.bytes_in_use(), 0U);
  EXPECT_TRUE(owner.allocate(kPages * kPageSize));
}

// The same moves by an honest peer, checked page by page against the simplest model there is.
TEST_F(ChannelArena, BehavesLikeAMapOfPages) {
  Random random(5);
  std::vector<int> page_of(kPages, -1);  // the slot that holds each page
  std::vector<Segment> held;
  const auto mark = [&](const Segment& segment, int from, int to) {
    for (std::uint64_t page = segment.offset / kPageSize;
         page < (segment.offset + segment.capacity) / kPageSize; ++page) {
      ASSERT_EQ(page_of[page], from);
      page_of[page] = to;
    }
  };
  const auto longest_free = [&] {
    std::size_t longest = 0;
    std::size_t run = 0;
    for (const int slot : page_of) {
      run = slot < 0 ? run + 1 : 0;
      longest = std::max(longest, run);
    }
    return longest * kPageSize;
  };
  for (std::uint64_t round = 0; round < 100'000 / kStressDivisor; ++round) {
    const bool any = !held.empty();
    const std::size_t which = any ? random.below(held.size()) : 0;
    switch (random.below(5)) {
      case 0:
        if (any) {
          mark(held[which], static_cast<int>(held[which].slot), -1);
          peer.release(held[which].slot);
          owner.reap();
          held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
        }
        break;
      case 1:
        if (any) {
          Segment& segment = held[which];
          mark(segment, static_cast<int>(segment.slot), -1);
          owner.shrink(segment, random.below(segment.capacity + 1));
          mark(segment, -1, static_cast<int>(segment.slot));
        }
        break;
      case 2:
        if (any) {
          Segment& segment = held[which];
          std::uint8_t* bytes = owner.data(segment);
          bytes[0] = static_cast<std::uint8_t>(round);
          mark(segment, static_cast<int>(segment.slot), -1);
          const std::size_t wanted = random.below(24 * kPageSize);
          if (owner.grow(segment, 1, wanted)) {
            ASSERT_GE(segment.capacity, wanted);
          }
          ASSERT_EQ(owner.data(segment)[0], static_cast<std::uint8_t>(round));
          mark(segment, -1, static_cast<int>(segment.slot));
        }
        break;
      default: {
        const std::size_t bytes = 1 + random.below(10 * kPageSize);
        const auto segment = owner.allocate(bytes);
        ASSERT_EQ(segment.has_value(), bytes <= longest_free());
        if (segment) {
          mark(*segment, -1, static_cast<int>(segment->slot));
          held.push_back(*segment);
        }
      }
    }
    const auto used =
        static_cast<std::size_t>(std::count_if(page_of.begin(), page_of.end(), [](int s) { return s >= 0; }));
    ASSERT_EQ(owner.bytes_in_use(), used * kPageSize);
  }
}

}  // namespace
}  // namespace typhon::channel
