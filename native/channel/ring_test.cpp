#include "channel/ring.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <thread>
#include <vector>

#include "testing/channel.h"

namespace typhon::channel {
namespace {

using testing::attach_again;
using testing::Child;
using testing::kStressDivisor;
using testing::Random;
using testing::reply_consumer;
using testing::reply_producer;
using testing::request_consumer;
using testing::request_producer;
using testing::small_region;
using State = RingConsumer::State;

constexpr std::size_t kHead = sizeof(FrameHeader);

// What the body of frame `id` holds at `i`: consumers can check any frame by its id.
std::uint8_t pattern(std::uint64_t id, std::size_t i) {
  return static_cast<std::uint8_t>(id * 31 + i * 7 + i / 251);
}

bool push(RingProducer& producer, std::uint64_t id, std::size_t body) {
  std::uint8_t* place = producer.reserve(align8(kHead + body));
  if (!place) return false;
  FrameHeader header{};
  header.size = static_cast<std::uint32_t>(kHead + body);
  header.kind = Kind::kCall;
  header.id = id;
  std::memcpy(place, &header, sizeof header);
  for (std::size_t i = 0; i < body; ++i) place[kHead + i] = pattern(id, i);
  producer.commit(header.size);
  return true;
}

bool whole(const FrameHeader& header, std::span<const std::uint8_t> body) {
  for (std::size_t i = 0; i < body.size(); ++i) {
    if (body[i] != pattern(header.id, i)) return false;
  }
  return header.size == kHead + body.size();
}

struct Ring : ::testing::Test {
  std::unique_ptr<Region> region = small_region();
  RingProducer producer = request_producer(*region);
  RingConsumer consumer = request_consumer(*region);
  FrameHeader header{};
  std::span<const std::uint8_t> body;

  Header& shared() { return region->header(); }
  State peek() { return consumer.peek(header, body); }
  // The bytes of the next frame to be consumed, as a hostile producer sees them.
  std::uint8_t* next() {
    return region->request_ring() + (shared().request_head.value & (region->ring_size() - 1));
  }
  void forge_size(std::uint32_t size) { std::memcpy(next(), &size, sizeof size); }
};
using ChannelRing = Ring;

TEST_F(ChannelRing, IsEmptyAtFirst) {
  EXPECT_TRUE(consumer.empty());
  EXPECT_EQ(peek(), State::kEmpty);
  EXPECT_EQ(producer.used(), 0U);
  EXPECT_EQ(producer.size(), kMinRing);
}

TEST_F(ChannelRing, DeliversFramesInOrder) {
  for (std::uint64_t id = 1; id <= 100; ++id) ASSERT_TRUE(push(producer, id, id));
  for (std::uint64_t id = 1; id <= 100; ++id) {
    ASSERT_EQ(peek(), State::kFrame);
    EXPECT_EQ(header.id, id);
    EXPECT_EQ(header.kind, Kind::kCall);
    EXPECT_EQ(body.size(), id);
    EXPECT_TRUE(whole(header, body));
    consumer.pop();
  }
  EXPECT_EQ(peek(), State::kEmpty);
  EXPECT_EQ(producer.used(), 0U);
}

TEST_F(ChannelRing, NothingIsVisibleBeforeCommit) {
  std::uint8_t* place = producer.reserve(kHead);
  ASSERT_TRUE(place);
  EXPECT_TRUE(consumer.empty());
  EXPECT_EQ(peek(), State::kEmpty);
  EXPECT_EQ(producer.reserve(1024), place) << "a second reserve() replaces the first";
  EXPECT_EQ(producer.used(), 0U);
}

TEST_F(ChannelRing, PeekingAgainShowsTheSameFrame) {
  ASSERT_TRUE(push(producer, 1, 10));
  ASSERT_TRUE(push(producer, 2, 20));
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(peek(), State::kFrame);
    EXPECT_EQ(header.id, 1U);
  }
  consumer.pop();
  ASSERT_EQ(peek(), State::kFrame);
  EXPECT_EQ(header.id, 2U);
}

TEST_F(ChannelRing, PopWithoutPeekTakesNothing) {
  ASSERT_TRUE(push(producer, 1, 10));
  consumer.pop();
  ASSERT_EQ(peek(), State::kFrame);
  EXPECT_EQ(header.id, 1U);
}

TEST_F(ChannelRing, TakesFramesOfEachSize) {
  const std::size_t longest = kMinRing - kHead;
  std::uint64_t id = 0;
  for (std::size_t size = 0; size <= longest;
       size += size < 2048 || size > longest - 64 ? 1 : 61 * kStressDivisor) {
    ASSERT_TRUE(push(producer, ++id, size)) << size;
    ASSERT_EQ(peek(), State::kFrame) << size;
    ASSERT_EQ(body.size(), size);
    ASSERT_TRUE(whole(header, body)) << size;
    consumer.pop();
    ASSERT_TRUE(consumer.empty());
  }
}

TEST_F(ChannelRing, NeverSplitsAFrameAtTheEnd) {
  // Up to 320 bytes before the end, then in steps of 8: a frame of 256 bytes lies across it in every possible
  // way.
  ASSERT_TRUE(push(producer, 0, kMinRing - 320 - kHead));
  ASSERT_EQ(peek(), State::kFrame);
  consumer.pop();
  for (std::size_t step = 0; step < 50; ++step) {
    ASSERT_TRUE(push(producer, step, 200));
    ASSERT_EQ(peek(), State::kFrame);
    ASSERT_TRUE(whole(header, body)) << "at " << shared().request_head.value;
    consumer.pop();
    ASSERT_TRUE(push(producer, step, kMinRing - 256 + 8 - kHead));
    ASSERT_EQ(peek(), State::kFrame);
    ASSERT_TRUE(whole(header, body));
    consumer.pop();
  }
}

TEST_F(ChannelRing, FullRingHasNoRoomUntilAFrameIsPopped) {
  const std::size_t frames = kMinRing / 64;
  for (std::size_t i = 0; i < frames; ++i) ASSERT_TRUE(push(producer, i, 64 - kHead));
  EXPECT_EQ(producer.used(), kMinRing);
  EXPECT_EQ(producer.reserve(8), nullptr);
  EXPECT_FALSE(producer.broken());
  ASSERT_EQ(peek(), State::kFrame);
  EXPECT_EQ(producer.reserve(8), nullptr) << "a peeked frame still lies in the ring";
  consumer.pop();
  EXPECT_TRUE(producer.reserve(64));
  EXPECT_EQ(producer.reserve(72), nullptr);
  EXPECT_EQ(producer.used(), kMinRing - 64);
}

TEST_F(ChannelRing, FrameLargerThanTheRingNeverFits) {
  EXPECT_TRUE(producer.reserve(kMinRing));
  EXPECT_EQ(producer.reserve(kMinRing + 8), nullptr);
  EXPECT_EQ(producer.reserve(~std::size_t{7}), nullptr);
  EXPECT_FALSE(producer.broken());
}

TEST_F(ChannelRing, CountsGoOnFarBeyondTheRing) {
  for (std::size_t i = 0; i < 5000; ++i) {
    ASSERT_TRUE(push(producer, i, i % 1000));
    ASSERT_EQ(peek(), State::kFrame);
    ASSERT_TRUE(whole(header, body));
    consumer.pop();
  }
  EXPECT_GT(shared().request_tail.value.load(), 10 * kMinRing);
  EXPECT_EQ(shared().request_tail.value.load(), shared().request_head.value.load());
}

// --- A peer that writes what it likes ---

TEST_F(ChannelRing, ConsumerFindsScribbledTail) {
  for (const std::uint64_t tail :
       {std::uint64_t{8}, std::uint64_t{48}, std::uint64_t{57}, std::uint64_t{kMinRing + 8},
        std::uint64_t{1} << 40, std::uint64_t{1} << 63, ~std::uint64_t{0}, ~std::uint64_t{7}}) {
    RingConsumer fresh = request_consumer(*region);
    shared().request_tail.value.store(tail);
    EXPECT_EQ(fresh.peek(header, body), State::kBroken) << tail;
    EXPECT_FALSE(fresh.empty());
  }
}

TEST_F(ChannelRing, ConsumerFindsTailThatGoesBack) {
  ASSERT_TRUE(push(producer, 1, 100));
  ASSERT_EQ(peek(), State::kFrame);
  consumer.pop();
  shared().request_tail.value.store(0);
  EXPECT_EQ(peek(), State::kBroken);
}

TEST_F(ChannelRing, ConsumerKeepsToFramesItHasSeen) {
  ASSERT_TRUE(push(producer, 1, 100));
  ASSERT_TRUE(push(producer, 2, 100));
  ASSERT_EQ(peek(), State::kFrame);
  shared().request_tail.value.store(~std::uint64_t{7});
  consumer.pop();
  ASSERT_EQ(peek(), State::kFrame);
  EXPECT_EQ(header.id, 2U);
  consumer.pop();
  EXPECT_EQ(peek(), State::kBroken);
}

TEST_F(ChannelRing, ConsumerIgnoresItsOwnScribbledCount) {
  ASSERT_TRUE(push(producer, 1, 100));
  shared().request_head.value.store(~std::uint64_t{0});
  ASSERT_EQ(peek(), State::kFrame);
  EXPECT_EQ(header.id, 1U);
  consumer.pop();
  EXPECT_EQ(shared().request_head.value.load(), align8(kHead + 100));
}

TEST_F(ChannelRing, ConsumerFindsForgedFrameSizes) {
  ASSERT_TRUE(push(producer, 1, 101));  // 157 bytes in a place of 160
  for (const std::uint32_t size :
       {0U, 1U, 8U, 55U, 161U, 162U, 168U, 65536U, 0x7fffffffU, 0xfffffff8U, 0xffffffffU}) {
    forge_size(size);
    EXPECT_EQ(peek(), State::kBroken) << size;
  }
  for (const std::uint32_t size : {56U, 57U, 157U, 160U}) {
    forge_size(size);
    EXPECT_EQ(peek(), State::kFrame) << size;
    EXPECT_EQ(body.size(), size - kHead);
  }
}

TEST_F(ChannelRing, ConsumerFindsSizeWhosePaddingIsMissing) {
  // Not all that is published is a multiple of 8 past the start: 156 of 152 bytes would be padding of the
  // next one.
  ASSERT_TRUE(push(producer, 1, 152 - kHead));
  for (std::uint32_t size = 153; size <= 160; ++size) {
    forge_size(size);
    EXPECT_EQ(peek(), State::kBroken) << size;
  }
}

TEST_F(ChannelRing, BrokenPeekLeavesTheRingAsItWas) {
  ASSERT_TRUE(push(producer, 1, 100));
  forge_size(3);
  ASSERT_EQ(peek(), State::kBroken);
  consumer.pop();
  EXPECT_EQ(shared().request_head.value.load(), 0U);
}

TEST_F(ChannelRing, ProducerFindsScribbledHead) {
  ASSERT_TRUE(push(producer, 1, 100));
  for (const std::uint64_t head : {std::uint64_t{168}, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    RingProducer fresh = request_producer(*region);
    ASSERT_TRUE(push(fresh, 1, 100));
    ASSERT_EQ(fresh.reserve(kMinRing), nullptr);
    EXPECT_FALSE(fresh.broken());
    shared().request_head.value.store(head);
    EXPECT_EQ(fresh.reserve(kMinRing), nullptr) << head;
    EXPECT_TRUE(fresh.broken()) << head;
    EXPECT_LE(fresh.used(), kMinRing);
    shared().request_head.value.store(0);
  }
}

TEST_F(ChannelRing, ProducerFindsHeadThatGoesBack) {
  ASSERT_TRUE(push(producer, 1, 100));
  ASSERT_EQ(peek(), State::kFrame);
  consumer.pop();
  EXPECT_EQ(producer.used(), 0U);
  shared().request_head.value.store(8);
  EXPECT_EQ(producer.used(), 0U);
  EXPECT_TRUE(producer.broken());
}

TEST_F(ChannelRing, ProducerIgnoresItsOwnScribbledCount) {
  ASSERT_TRUE(push(producer, 1, 100));
  std::uint8_t* const expected = producer.reserve(8);
  shared().request_tail.value.store(~std::uint64_t{0});
  EXPECT_EQ(producer.reserve(8), expected);
  ASSERT_TRUE(push(producer, 2, 0));
  EXPECT_EQ(shared().request_tail.value.load(), align8(kHead + 100) + kHead);
}

TEST_F(ChannelRing, ScribbledSharedMemoryNeverLeadsOutside) {
  const std::uint8_t* const begin = region->request_ring();
  const std::uint8_t* const end = begin + 2 * kMinRing;
  Random random(1);
  const auto nasty = [&]() -> std::uint64_t {
    switch (random.below(6)) {
      case 0:
        return random.next();
      case 1:
        return random.below(2 * kMinRing);
      case 2:
        return std::uint64_t{0} - random.below(4 * kMinRing);
      case 3:
        return shared().request_tail.value.load() + random.below(256) - 128;
      case 4:
        return shared().request_head.value.load() + 8 * random.below(kMinRing / 4);
      default:
        return std::uint64_t{1} << random.below(64);
    }
  };
  std::optional<RingProducer> writer(request_producer(*region));
  std::optional<RingConsumer> reader(request_consumer(*region));
  std::uint64_t frames = 0;
  std::uint64_t sum = 0;
  for (std::uint64_t round = 0; round < 400'000 / kStressDivisor; ++round) {
    switch (random.below(8)) {
      case 0:
        shared().request_tail.value.store(nasty());
        break;
      case 1:
        shared().request_head.value.store(nasty());
        break;
      case 2: {
        const auto size = static_cast<std::uint32_t>(nasty());
        std::memcpy(region->request_ring() + 8 * random.below(kMinRing / 8), &size, sizeof size);
        break;
      }
      case 3:
      case 4: {
        const std::size_t bytes = align8(kHead + random.below(random.below(4) == 0 ? kMinRing : 512));
        if (std::uint8_t* place = writer->reserve(bytes)) {
          ASSERT_GE(place, begin);
          ASSERT_LE(place + bytes, end);
          const auto size = static_cast<std::uint32_t>(bytes);
          std::memcpy(place, &size, sizeof size);
          place[bytes - 1] = 1;
          writer->commit(size);
        }
        break;
      }
      default:
        if (reader->peek(header, body) == State::kFrame) {
          ++frames;
          ASSERT_GE(body.data(), begin);
          ASSERT_LE(body.data() + body.size(), end);
          if (!body.empty()) sum += body.front() + body.back();
          reader->pop();
        } else if (random.below(4) == 0) {
          // A new channel: on a broken one nothing would happen any more.
          writer.emplace(request_producer(*region));
          reader.emplace(request_consumer(*region));
          shared().request_head.value.store(0);
          shared().request_tail.value.store(8 * random.below(kMinRing / 8));
        }
    }
    ASSERT_LE(writer->used(), kMinRing);
  }
  EXPECT_GT(frames, 100U);
  EXPECT_NE(sum, 1U);
}

// --- Two threads, two processes ---

// Sends `count` frames of changing sizes; the receiver knows the size of each by its id.
std::size_t size_of(std::uint64_t id) {
  Random random(id);
  switch (random.below(50)) {
    case 0:
      return random.below(kMinRing - kHead + 1);
    case 1:
      return 0;
    default:
      return random.below(300);
  }
}

void send_all(RingProducer producer, std::uint64_t count) {
  for (std::uint64_t id = 1; id <= count; ++id) {
    while (!push(producer, id, size_of(id))) ::sched_yield();
  }
}

// The id of the first frame that is not as it was sent; 0 when all are.
std::uint64_t receive_all(RingConsumer consumer, std::uint64_t count) {
  FrameHeader header{};
  std::span<const std::uint8_t> body;
  for (std::uint64_t id = 1; id <= count;) {
    const State state = consumer.peek(header, body);
    if (state == State::kBroken) return id;
    if (state == State::kEmpty) {
      ::sched_yield();
      continue;
    }
    if (header.id != id || body.size() != size_of(id) || !whole(header, body)) return id;
    consumer.pop();
    ++id;
  }
  return 0;
}

TEST(ChannelRingStress, TwoThreadsPassFramesOfAllSizes) {
  const std::uint64_t count = 200'000 / kStressDivisor;
  const auto region = small_region();
  ASSERT_TRUE(region);
  std::thread sender([&] { send_all(request_producer(*region), count); });
  EXPECT_EQ(receive_all(request_consumer(*region), count), 0U);
  sender.join();
}

TEST(ChannelRingStress, TwoProcessesPassFramesOfAllSizesBothWays) {
  const std::uint64_t count = 100'000 / kStressDivisor;
  const auto region = small_region();
  ASSERT_TRUE(region);
  Child worker([&] {
    const auto mine = attach_again(*region);
    if (!mine) return 1;
    if (receive_all(request_consumer(*mine), count) != 0) return 2;
    send_all(reply_producer(*mine), count);
    return 0;
  });
  send_all(request_producer(*region), count);
  EXPECT_EQ(receive_all(reply_consumer(*region), count), 0U);
  EXPECT_EQ(worker.wait(), 0);
}

TEST(ChannelRingStress, FramesOfAKilledProducerAreWhole) {
  for (int round = 0; round < 20; ++round) {
    const auto region = small_region();
    ASSERT_TRUE(region);
    Child worker([&] {
      send_all(reply_producer(*region), ~std::uint64_t{0});
      return 0;
    });
    RingConsumer consumer = reply_consumer(*region);
    FrameHeader header{};
    std::span<const std::uint8_t> body;
    std::uint64_t seen = 0;
    bool killed = false;
    for (;;) {
      const State state = consumer.peek(header, body);
      ASSERT_NE(state, State::kBroken);
      if (state == State::kFrame) {
        ++seen;
        ASSERT_EQ(header.id, seen);
        ASSERT_TRUE(whole(header, body));
        consumer.pop();
      } else if (killed) {
        break;
      }
      if (!killed && seen > static_cast<std::uint64_t>(round) * 37) {
        ::kill(worker.pid(), SIGKILL);
        EXPECT_EQ(worker.wait(), -SIGKILL);
        killed = true;
      }
    }
    EXPECT_GT(seen, 0U);
  }
}

}  // namespace
}  // namespace typhon::channel
