// Threads of which whichever waits reads the ring, under a lock that stands for the language's: one that
// serves calls, some that ask and receive. No wait has a limit, so a wake-up that is lost ends the test's
// patience. The checks run it under ThreadSanitizer.
#include "worker/readers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "testing/channel.h"
#include "testing/worker.h"

namespace typhon::worker {
namespace {

using channel::Kind;
using channel::testing::Random;
using channel::testing::small_region;
using testing::Beam;
using testing::body_of;
using testing::Errands;
using testing::eventually;
using testing::Gil;
using testing::Ledger;
using testing::WithoutGil;

constexpr std::uint64_t kCalls = 20'000 / channel::testing::kStressDivisor;
constexpr std::uint64_t kQuestions = 3'000 / channel::testing::kStressDivisor;

class FakeWorker {
 public:
  FakeWorker(channel::Region& region, Ledger& ledger)
      : mailroom_(region), readers_(mailroom_, region.header()), ledger_(ledger) {}

  Mailroom& mailroom() { return mailroom_; }
  Readers& readers() { return readers_; }
  Gil& gil() { return gil_; }

  void serve(const Incoming& frame) { ledger_.end(frame.header.id); }

  // As Ruby's Channel#take does, with the lock. False: the worker ends.
  bool take(std::uint32_t generation) {
    if (readers_.read() || readers_.generation() != generation) return true;
    if (!mailroom_.spin_for_frame()) {
      const WithoutGil without_gil(gil_);
      readers_.sleep(
          generation, [&] { return stop_.load(); }, [](bool) { return std::int64_t{-1}; });
    }
    readers_.read();
    return !stop_.load();
  }

  void run_main() {
    const std::lock_guard gil(gil_);
    for (bool goes_on = true; goes_on;) {
      const std::uint32_t generation = readers_.generation();
      if (const auto call = mailroom_.take_call()) {
        serve(*call);
      } else {
        goes_on = take(generation);
      }
    }
  }

  // True when the answer has come.
  bool ask(std::uint64_t tag, const std::function<void()>& send_question) {
    const std::lock_guard gil(gil_);
    Lane lane;
    Waiter waiter{&lane};
    mailroom_.add_waiter(tag, waiter);
    send_question();
    std::optional<Incoming> answer;
    for (bool goes_on = true; goes_on && !answer;) {
      const std::uint32_t generation = readers_.generation();
      if (const auto nested = mailroom_.take_nested(waiter)) {
        serve(*nested);
        continue;
      }
      answer = mailroom_.take_answer(waiter);
      if (!answer) goes_on = take(generation);
    }
    mailroom_.remove_waiter(tag);
    return answer && answer->header.id == tag;
  }

  bool receive() {
    const std::lock_guard gil(gil_);
    for (bool goes_on = true; goes_on;) {
      const std::uint32_t generation = readers_.generation();
      if (mailroom_.take_message()) return true;
      goes_on = take(generation);
    }
    return false;
  }

  void stop() {
    stop_.store(true);
    readers_.wake();
  }

 private:
  Mailroom mailroom_;
  Readers readers_;
  Ledger& ledger_;
  Gil gil_;
  std::atomic<bool> stop_{false};
};

TEST(Readers, BringEachFrameToTheThreadThatWaitsForIt) {
  const auto region = small_region();
  ASSERT_TRUE(region);
  constexpr std::uint64_t kAskers = 3;
  constexpr std::uint64_t kAll = kCalls + kAskers * kQuestions;
  Ledger ledger(kAll);
  Beam beam(*region);
  FakeWorker worker(*region, ledger);
  Errands errands;
  std::atomic<std::uint64_t> answered{0};
  std::atomic<std::uint64_t> received{0};
  std::vector<std::thread> threads;
  threads.emplace_back([&] { worker.run_main(); });
  for (std::uint64_t asker = 0; asker < kAskers; ++asker) {
    threads.emplace_back([&, asker] {
      for (std::uint64_t i = 1; i <= kQuestions; ++i) {
        const std::uint64_t tag = asker * kQuestions + i;
        const bool right = worker.ask(tag, [&] {
          errands.add([&beam, tag] {
            beam.send(Kind::kCall, kCalls + tag, body_of("nested", tag), tag);
            beam.send(Kind::kAnswer, tag, "answer");
          });
        });
        if (right) answered.fetch_add(1);
      }
    });
  }
  threads.emplace_back([&] {
    while (worker.receive()) received.fetch_add(1);
  });
  Random random(5);
  std::uint64_t messages = 0;
  for (std::uint64_t id = 1; id <= kCalls; ++id) {
    beam.send(Kind::kCall, id, body_of("call", id));
    if (id % 4 == 0) {
      beam.send(Kind::kMessage, 0, "message");
      ++messages;
    }
    // Now and then all of them sleep.
    if (random.below(64) == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  EXPECT_TRUE(eventually([&] {
    return ledger.ended() == kAll && received.load() == messages && answered.load() == kAskers * kQuestions;
  })) << ledger.ended()
      << " of " << kAll << " calls, " << received.load() << " of " << messages << " messages, "
      << answered.load() << " answers";
  errands.finish();
  worker.stop();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ledger.wrong(), 0U);
  EXPECT_FALSE(worker.mailroom().broken());
}

// The reader goes away: another one that sleeps has to take its place, with nothing else to wake it.
TEST(Readers, HandOverTheRingWhenTheyLeave) {
  const auto region = small_region();
  ASSERT_TRUE(region);
  constexpr std::uint64_t kRounds = 2'000 / channel::testing::kStressDivisor;
  Ledger ledger(kRounds);
  Beam beam(*region);
  FakeWorker worker(*region, ledger);
  std::atomic<bool> ends{false};
  std::thread main([&] { worker.run_main(); });
  // Sleeps as whoever has a limit does, which is over at any time.
  std::thread visitor([&] {
    while (!ends.load()) {
      worker.readers().sleep(
          worker.readers().generation(), [&] { return ends.load(); },
          [](bool) { return std::int64_t{20'000}; });
    }
  });
  for (std::uint64_t id = 1; id <= kRounds; ++id) {
    beam.send(Kind::kCall, id, body_of("call", id));
    EXPECT_TRUE(eventually([&] { return ledger.ended() == id; })) << "call " << id;
    if (ledger.ended() != id) break;
  }
  ends.store(true);
  worker.readers().wake();
  visitor.join();
  worker.stop();
  main.join();
  EXPECT_EQ(ledger.wrong(), 0U);
}

}  // namespace
}  // namespace typhon::worker
