#include "channel/doorbell.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <condition_variable>
#include <csignal>
#include <mutex>
#include <thread>
#include <vector>

#include "os/clock.h"
#include "os/thread.h"
#include "os/wait.h"
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
using Word32 = std::atomic<std::uint32_t>;

void full_fence() {
#if defined(__SANITIZE_THREAD__)
  // ThreadSanitizer does not know fences (and GCC says so); a read-modify-write of one shared word orders as
  // much.
  static std::atomic<std::uint32_t> everyone{0};
  everyone.fetch_add(1, std::memory_order_seq_cst);
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

TEST(SpinGuard, ACoreThatWasLentToThePeerIsNotLost) {
  SpinGuard guard;
  const auto came = [] { return true; };
  const auto nothing = [] { return false; };
  EXPECT_TRUE(guard.was_worth_it(1'000, nothing)) << "nobody wanted the core";
  EXPECT_TRUE(guard.was_worth_it(100'000, came)) << "the peer ran on it";
  EXPECT_TRUE(guard.spin_allowed());
  EXPECT_FALSE(guard.was_worth_it(100'000, nothing)) << "somebody else ran on it";
  EXPECT_FALSE(guard.spin_allowed());
}

TEST(SpinGuard, RestsTwiceAsLongAfterEachLossUntilOneTurnWasWorthIt) {
  SpinGuard guard;
  const auto came = [] { return true; };
  const auto rest = [&] {
    int turns = 0;
    while (!guard.spin_allowed()) ++turns;
    return turns;
  };
  for (const int turns : {4, 8, 16, 32, 64, 128, 256, 256}) {
    EXPECT_FALSE(guard.was_worth_it(3'000'000, came))
        << "a slice of the kernel's, whatever has come meanwhile";
    EXPECT_EQ(rest(), turns);
  }
  EXPECT_TRUE(guard.was_worth_it(1'000, came));
  EXPECT_FALSE(guard.was_worth_it(3'000'000, came));
  EXPECT_EQ(rest(), 4);
}

TEST(ChannelDoorbell, ADeadlineIsPastWhenTheClockHasReachedIt) {
  EXPECT_FALSE(os::is_past(os::monotonic_ns() + 1'000'000'000));
  EXPECT_FALSE(os::is_past(os::monotonic_ns() + 5'000'000)) << "within a tick of the coarse clock, too";
  EXPECT_TRUE(os::is_past(os::monotonic_ns() - 1));
  EXPECT_TRUE(os::is_past(1));
}

TEST(ChannelDoorbell, WaitReturnsWhenTheWordHoldsSomethingElse) {
  Word32 word = kAwake;
  os::wait_word(word, kAsleep, -1);
  os::wait_word(word, kAsleep, 1'000'000'000'000);
  SUCCEED();
}

TEST(ChannelDoorbell, WaitEndsByItself) {
  Word32 word = kTimed;
  os::wait_word(word, kTimed, 0);
  const std::uint64_t before = os::monotonic_ns();
  os::wait_word(word, kTimed, 2'000'000);
  EXPECT_GE(os::monotonic_ns() - before, 1U);
  EXPECT_EQ(word.load(), kTimed) << "a wait that ends by itself changes nothing";
}

TEST(ChannelDoorbell, WakeTakesOnlyTheStateItWasAskedFor) {
  Word32 word = kSpin;
  EXPECT_FALSE(wake_from(word, kAsleep));
  EXPECT_EQ(word.load(), kSpin);
  EXPECT_TRUE(wake_from(word, kSpin));
  EXPECT_EQ(word.load(), kAwake);
  EXPECT_FALSE(wake_from(word, kSpin));
}

TEST(ChannelDoorbell, OfManyWakersOneWakes) {
  for (std::uint64_t round = 0; round < 2000 / kStressDivisor; ++round) {
    Word32 word = kAsleep;
    std::atomic<int> woke = 0;
    std::vector<std::thread> wakers;
    for (int i = 0; i < 3; ++i) {
      wakers.emplace_back([&] { woke += wake_from(word, kAsleep) ? 1 : 0; });
    }
    while (word.load() == kAsleep) os::wait_word(word, kAsleep, -1);
    for (std::thread& waker : wakers) waker.join();
    ASSERT_EQ(woke, 1);
  }
}

TEST(ChannelDoorbell, WakesASleeperInAnotherProcess) {
  const auto region = small_region();
  ASSERT_TRUE(region);
  Word32& word = region->header().worker_word.value;
  Word32& ready = region->header().reply_room.value;
  Child worker([&] {
    const auto mine = attach_again(*region);  // another address for the same word
    if (!mine) return 1;
    Word32& my_word = mine->header().worker_word.value;
    my_word.store(kAsleep);
    mine->header().reply_room.value.store(1);
    while (my_word.load() == kAsleep) os::wait_word(my_word, kAsleep, -1);
    return 0;
  });
  while (ready.load() == 0) ::sched_yield();
  EXPECT_TRUE(wake_from(word, kAsleep));
  EXPECT_EQ(worker.wait(), 0);
}

TEST(ChannelDoorbell, ClockDoesNotGoBack) {
  std::uint64_t last = os::monotonic_ns();
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t now = os::monotonic_ns();
    ASSERT_GE(now, last);
    last = now;
  }
}

// --- No wake-up is lost ---
//
// These tests have no clock: a lost wake-up makes them hang, and ctest ends them.

bool push_id(RingProducer& producer, std::uint64_t id) {
  std::uint8_t* place = producer.reserve(sizeof(FrameHeader));
  if (!place) return false;
  FrameHeader header{};
  header.size = sizeof header;
  header.kind = Kind::kCall;
  header.id = id;
  std::memcpy(place, &header, sizeof header);
  producer.commit(header.size);
  return true;
}

// The id of the next frame; 0: there is none; ~0: the ring is broken.
std::uint64_t pop_id(RingConsumer& consumer) {
  FrameHeader header{};
  std::span<const std::uint8_t> body;
  switch (consumer.peek(header, body)) {
    case RingConsumer::State::kEmpty:
      return 0;
    case RingConsumer::State::kBroken:
      return ~std::uint64_t{0};
    case RingConsumer::State::kFrame:
      break;
  }
  consumer.pop();
  return header.id;
}

void ring_bell(Word32& word) {
  full_fence();
  if (word.load(std::memory_order_relaxed) == kAsleep) wake_from(word, kAsleep);
}

// What a sleeper with a word of its own does: the rule of doorbell.h.
void sleep_until_frame(RingConsumer& consumer, Word32& word, std::uint64_t spins) {
  while (spins-- > 0) {
    if (!consumer.empty()) return;
    os::cpu_relax();
  }
  word.store(kAsleep, std::memory_order_relaxed);
  full_fence();
  if (!consumer.empty()) {
    word.store(kAwake, std::memory_order_relaxed);
    return;
  }
  while (word.load(std::memory_order_acquire) == kAsleep) os::wait_word(word, kAsleep, -1);
}

void pause_at_random(Random& random) {
  switch (random.below(64)) {
    case 0:
      ::sched_yield();
      break;
    case 1:
      for (std::uint64_t i = random.below(500); i > 0; --i) os::cpu_relax();
      break;
    default:
      break;
  }
}

// How long one end looks for a frame before it sleeps: never, or for some random time.
enum class Spin : std::uint8_t { kNever, kSometimes };

std::uint64_t spins(Spin spin, Random& random) {
  return spin == Spin::kNever || random.below(3) == 0 ? 0 : random.below(200);
}

// Echoes each request until it sees the last one. 0 when all came in order.
int echo(const Region& region, std::uint64_t count, Spin spin) {
  RingConsumer requests = request_consumer(region);
  RingProducer replies = reply_producer(region);
  Word32& own = region.header().worker_word.value;
  Word32& other = region.header().reader_word.value;
  Random random(17);
  for (std::uint64_t expected = 1; expected <= count;) {
    const std::uint64_t id = pop_id(requests);
    if (id == 0) {
      sleep_until_frame(requests, own, spins(spin, random));
      continue;
    }
    if (id != expected++) return 1;
    pause_at_random(random);
    if (!push_id(replies, id)) return 2;
    ring_bell(other);
  }
  return 0;
}

// Sends `count` requests, at most `window` of them unanswered. 0 when all answers came in order.
int ask(const Region& region, std::uint64_t count, std::uint64_t window, Spin spin) {
  RingProducer requests = request_producer(region);
  RingConsumer replies = reply_consumer(region);
  Word32& own = region.header().reader_word.value;
  Word32& other = region.header().worker_word.value;
  Random random(23);
  std::uint64_t sent = 0;
  std::uint64_t answered = 0;
  own.store(kAwake);
  while (answered < count) {
    const std::uint64_t burst = answered + 1 + random.below(window);
    while (sent < count && sent < burst) {
      if (!push_id(requests, ++sent)) return 1;
      ring_bell(other);
      pause_at_random(random);
    }
    const std::uint64_t id = pop_id(replies);
    if (id == 0) {
      sleep_until_frame(replies, own, spins(spin, random));
    } else if (id != ++answered) {
      return 2;
    }
  }
  return 0;
}

struct PingPong {
  std::uint64_t count;
  std::uint64_t window;
  Spin spin;
};

class ChannelPingPong : public ::testing::TestWithParam<PingPong> {};

TEST_P(ChannelPingPong, BetweenThreads) {
  const auto [count, window, spin] = GetParam();
  const auto region = small_region();
  ASSERT_TRUE(region);
  int echoed = -1;
  std::thread worker([&, n = count, s = spin] { echoed = echo(*region, n, s); });
  EXPECT_EQ(ask(*region, count, window, spin), 0);
  worker.join();
  EXPECT_EQ(echoed, 0);
}

TEST_P(ChannelPingPong, BetweenProcesses) {
  const auto [count, window, spin] = GetParam();
  const auto region = small_region();
  ASSERT_TRUE(region);
  Child worker([&, n = count, s = spin] {
    const auto mine = attach_again(*region);
    return mine ? echo(*mine, n, s) : 9;
  });
  EXPECT_EQ(ask(*region, count, window, spin), 0);
  EXPECT_EQ(worker.wait(), 0);
}

INSTANTIATE_TEST_SUITE_P(Rounds, ChannelPingPong,
                         ::testing::Values(PingPong{1'000'000 / kStressDivisor, 200, Spin::kSometimes},
                                           PingPong{1'000'000 / kStressDivisor, 20, Spin::kNever},
                                           PingPong{100'000 / kStressDivisor, 1, Spin::kNever},
                                           PingPong{100'000 / kStressDivisor, 1, Spin::kSometimes}),
                         [](const auto& chosen) {
                           const PingPong& p = chosen.param;
                           return std::to_string(p.window) +
                                  (p.spin == Spin::kNever ? "Sleeping" : "Spinning");
                         });

// --- The whole protocol: callers, a reader and a worker ---
//
// As docs/protocol.md has it and protocol_test.cpp proves it for a few steps; here for 160,000 calls by real
// threads, with a real futex underneath. The callers and the reader are one process, the worker another or a
// thread.

class Beam {
 public:
  Beam(const Region& region, std::uint32_t callers, std::uint64_t calls)
      : header_(region.header()),
        requests_(request_producer(region)),
        replies_(reply_consumer(region)),
        answers_(callers),
        calls_(calls) {}

  int run() {
    std::thread reader([this] { read(); });
    std::vector<std::thread> callers;
    for (std::uint32_t i = 0; i < answers_.size(); ++i) callers.emplace_back([this, i] { call_often(i); });
    for (std::thread& caller : callers) caller.join();
    stop_.store(true);
    wake_reader();
    reader.join();
    submit(0, ~std::uint64_t{0} - 1);  // the worker's end
    return wrong_.load();
  }

 private:
  struct Answer {
    std::mutex mutex;
    std::condition_variable came;
    std::uint64_t value = 0;
  };

  void call_often(std::uint32_t self) {
    Random random(self + 100);
    Answer& mine = answers_[self];
    for (std::uint64_t n = 1; n <= calls_; ++n) {
      const std::uint64_t id = n * 64 + self;
      // Take the reply ring before the request is pushed, so that the answer needs no wake-up.
      std::uint32_t found = kAwake;
      if (random.below(2) == 0) {
        found = word().load();
        if ((found != kAsleep && found != kTimed) || !word().compare_exchange_strong(found, kSpin))
          found = kAwake;
      }
      submit(found, id);
      if (found != kAwake) {
        for (std::uint64_t spin = random.below(300); spin > 0 && last_answer(mine) != id; --spin) {
          drain();
          os::cpu_relax();
        }
        leave(found);
      }
      std::unique_lock lock(mine.mutex);
      mine.came.wait(lock, [&] { return mine.value == id; });
      lock.unlock();
      pause_at_random(random);
    }
  }

  std::uint64_t last_answer(Answer& answer) {
    const std::lock_guard lock(answer.mutex);
    return answer.value;
  }

  // Gives the reply ring back in the state in which it was found.
  void leave(std::uint32_t found) {
    if (consumers_.fetch_sub(1) != 1) ++wrong_;
    word().store(found, std::memory_order_release);
    full_fence();
    if (!replies_empty()) wake_from(word(), found);
  }

  // `found`: the caller owns the reply ring, and must not wait for anything without draining it.
  void submit(std::uint32_t found, std::uint64_t id) {
    if (found != kAwake && consumers_.fetch_add(1) != 0) ++wrong_;
    for (;;) {
      {
        const std::lock_guard lock(submitting_);
        if (push_id(requests_, id)) break;
      }
      if (found != kAwake) drain();
      ::sched_yield();
    }
    full_fence();
    if (header_.worker_word.value.load(std::memory_order_relaxed) == kAsleep) {
      wake_from(header_.worker_word.value, kAsleep);
    }
  }

  void drain() {
    while (const std::uint64_t id = pop_id(replies_)) {
      if (id == ~std::uint64_t{0}) {
        ++wrong_;
        return;
      }
      Answer& answer = answers_[id % 64];
      const std::lock_guard lock(answer.mutex);
      answer.value = id;
      answer.came.notify_one();
    }
  }

  // empty() looks at the consumer's own count, which only the owner of the role may touch: after giving it
  // away, a caller compares the published counts instead.
  bool replies_empty() const {
    return header_.reply_tail.value.load(std::memory_order_acquire) ==
           header_.reply_head.value.load(std::memory_order_acquire);
  }

  void read() {
    Random random(7);
    word().store(kAwake);
    while (!stop_.load()) {
      if (consumers_.fetch_add(1) != 0) ++wrong_;
      drain();
      if (consumers_.fetch_sub(1) != 1) ++wrong_;
      const std::uint32_t state = random.below(2) == 0 ? kAsleep : kTimed;
      word().store(state, std::memory_order_release);
      full_fence();
      std::uint32_t expected = state;
      if ((!replies_empty() || stop_.load()) && word().compare_exchange_strong(expected, kAwake)) continue;
      wait_until_awake(state);
    }
  }

  // The word now goes between `state` and kSpin until somebody makes it kAwake. A timed sleeper keeps its
  // limit while a caller spins: the caller will store kTimed back without a wake.
  void wait_until_awake(std::uint32_t state) {
    for (;;) {
      std::uint32_t seen = word().load(std::memory_order_acquire);
      if (seen == kAwake) return;
      os::wait_word(word(), seen, state == kTimed ? 100'000 : -1);
      seen = kTimed;
      if (state == kTimed && word().compare_exchange_strong(seen, kAwake)) return;
    }
  }

  void wake_reader() {
    for (;;) {
      std::uint32_t seen = word().load();
      if (seen == kAwake || wake_from(word(), seen)) return;
    }
  }

  Word32& word() { return header_.reader_word.value; }

  Header& header_;
  std::mutex submitting_;
  RingProducer requests_;  // guarded by submitting_
  RingConsumer replies_;   // whoever owns the role
  std::vector<Answer> answers_;
  std::uint64_t calls_;
  std::atomic<bool> stop_ = false;
  std::atomic<int> consumers_ = 0;
  std::atomic<int> wrong_ = 0;
};

int serve(const Region& region) {
  Header& header = region.header();
  RingConsumer requests = request_consumer(region);
  RingProducer replies = reply_producer(region);
  Word32& reader = header.reader_word.value;
  Random random(29);
  std::uint64_t put_off = 0;
  for (;;) {
    const std::uint64_t id = pop_id(requests);
    if (id == 0) {
      sleep_until_frame(requests, header.worker_word.value, spins(Spin::kSometimes, random));
      continue;
    }
    if (id == ~std::uint64_t{0}) return 1;
    if (id == ~std::uint64_t{0} - 1) return 0;
    pause_at_random(random);
    if (!push_id(replies, id)) return 2;
    full_fence();
    switch (reader.load(std::memory_order_relaxed)) {
      case kAsleep:
        wake_from(reader, kAsleep);
        break;
      case kTimed:
        // More at hand and few put off: the reader's own limit will do.
        if (!requests.empty() && ++put_off < 32) break;
        put_off = 0;
        wake_from(reader, kTimed);
        break;
      default:
        break;
    }
  }
}

TEST(ChannelProtocolStress, CallersReaderAndWorkerThread) {
  const auto region = small_region();
  ASSERT_TRUE(region);
  Beam beam(*region, 4, 40'000 / kStressDivisor);
  int served = -1;
  std::thread worker([&] { served = serve(*region); });
  EXPECT_EQ(beam.run(), 0);
  worker.join();
  EXPECT_EQ(served, 0);
}

TEST(ChannelProtocolStress, CallersReaderAndWorkerProcess) {
  const auto region = small_region();
  ASSERT_TRUE(region);
  Child worker([&] {
    const auto mine = attach_again(*region);
    return mine ? serve(*mine) : 9;
  });
  Beam beam(*region, 4, 40'000 / kStressDivisor);
  EXPECT_EQ(beam.run(), 0);
  EXPECT_EQ(worker.wait(), 0);
}

}  // namespace
}  // namespace typhon::channel
