// The mailroom with real threads: the router, threads that serve, ask and receive, one that cancels, an event
// loop, and a writer that plays the BEAM through a real region. The checks run it under ThreadSanitizer. No
// language takes part: a mutex stands for its lock, and what is done with it here is what Python's worker
// does with the GIL (executor/worker.cpp, ask.cpp).
#include "worker/mailroom.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "os/wait.h"
#include "testing/worker.h"

namespace typhon::worker {
namespace {

using channel::FrameHeader;
using channel::Kind;
using channel::testing::Random;
using channel::testing::small_region;
using testing::Beam;
using testing::body_of;
using testing::bytes_of;
using testing::Errands;
using testing::eventually;
using testing::Gil;
using testing::kLimit;
using testing::Ledger;
using testing::WithoutGil;

// Whoever reads directly holds the Gil.
struct NoLock {
  void lock() {}
  void unlock() {}
};

// A worker without a Python.
class FakeWorker {
 public:
  FakeWorker(channel::Region& region, Ledger& ledger)
      : region_(region), mailroom_(region), beam_(region), ledger_(ledger) {
    main_.is_main = true;
    mailroom_.add_lane(main_);
  }

  Mailroom& mailroom() { return mailroom_; }
  Beam& beam() { return beam_; }
  Gil& gil() { return gil_; }
  // What Python asks for, on the lane that serves the call, with the GIL.
  std::function<void(Lane&, const Incoming&)> program = [](Lane&, const Incoming&) {};

  void serve(Lane& lane, const Incoming& frame) {
    if (frame.header.kind == Kind::kMessage) {
      take_message();
      return;
    }
    if (frame.header.kind != Kind::kCall) return;
    if (!well_formed(frame)) malformed_.fetch_add(1);
    if (mailroom_.cancels().was_cancelled(frame.header.id) ||
        !mailroom_.cancels().begin(lane, frame.header.id))
      return ledger_.end(frame.header.id);
    program(lane, frame);
    mailroom_.cancels().end(lane);
    lane.interrupted = false;
    ledger_.end(frame.header.id);
  }

  // The main thread, until it is told to stop: reads the ring itself as long as there is no router.
  void run_main() {
    std::unique_lock gil(gil_);
    while (!stop_.load() && !mailroom_.routed()) {
      if (!serve_from_ring()) sleep_on_doorbell();
    }
    serve_as_lane(main_);
    mailroom_.remove_lane(main_);
  }

  void run_lane() {
    Lane lane;
    std::unique_lock gil(gil_);
    if (mailroom_.router().start(stop_, direct_) != 0) return;
    mailroom_.add_lane(lane);
    serve_as_lane(lane);
    mailroom_.remove_lane(lane);
  }

  void start_router() {
    const std::lock_guard gil(gil_);
    EXPECT_EQ(mailroom_.router().start(stop_, direct_), 0);
  }

  // The end of a wait for what another thread brings; false when the call was cancelled.
  bool wait_for_news(Lane& lane) {
    if (mailroom_.cancels().take(lane) || lane.interrupted) return false;
    if (stop_.load()) return false;
    if (lane.is_main && !mailroom_.routed()) {
      if (mailroom_.ring_empty()) sleep_on_doorbell();
      if (!mailroom_.routed()) mailroom_.pump();
      return true;
    }
    if (mailroom_.spin(lane, false)) return true;
    const WithoutGil without_gil(gil_);
    lane.parker.park(kLookAroundNs);
    return true;
  }

  // As Worker::ask: true when the answer has come, and is the right one.
  bool ask(Lane& lane, std::uint64_t tag, const std::function<void()>& send_question) {
    Waiter waiter{&lane};
    mailroom_.add_waiter(tag, waiter);
    send_question();
    std::optional<Incoming> answer;
    for (bool waits = true; waits;) {
      lane.parker.reset();
      if (auto nested = mailroom_.take_nested(waiter)) {
        serve(lane, *nested);
        continue;
      }
      answer = mailroom_.take_answer(waiter);
      if (answer) break;
      waits = wait_for_news(lane);
    }
    mailroom_.remove_waiter(tag);
    return answer && answer->header.id == tag;
  }

  // As Worker::Visit: on a thread that serves no call, in the name of one.
  bool visit(std::uint64_t call, std::uint64_t tag, const std::function<void()>& send_question) {
    Lane lane;
    mailroom_.add_lane(lane);
    EXPECT_TRUE(mailroom_.cancels().begin_wait(lane, call));
    const bool answered = ask(lane, tag, send_question);
    mailroom_.cancels().end_wait(lane);
    mailroom_.remove_lane(lane);
    return answered;
  }

  bool receive(Lane& lane) {
    mailroom_.set_receiving(lane, true);
    bool came = false;
    for (bool waits = true; waits;) {
      lane.parker.reset();
      came = take_message();
      if (came) break;
      waits = wait_for_news(lane);
    }
    mailroom_.set_receiving(lane, false);
    return came;
  }

  bool take_message() {
    if (!mailroom_.take_message()) return false;
    messages_.fetch_add(1);
    return true;
  }

  // As the LifeWatch does, on a thread of its own.
  void cancel(std::uint64_t id) {
    // Else it is dropped when its turn comes, or the loop has been told.
    if (!mailroom_.cancels().cancel(id)) return;
    const std::lock_guard gil(gil_);
    while (Lane* const lane = mailroom_.cancels().begin_interrupt(true)) lane->parker.unpark();
    channel::wake_from(region_.header().worker_word.value, channel::kAsleep);
  }

  // Everything has been served: the threads come back.
  void stop() {
    stop_.store(true);
    region_.header().closing.value.store(1);
    mailroom_.wake_all();
    EXPECT_TRUE(mailroom_.router().finish(std::chrono::nanoseconds(kLimit).count()));
    auto& word = region_.header().worker_word.value;
    if (!channel::wake_from(word, channel::kAsleep)) os::wake_word(word, INT32_MAX);
    mailroom_.wake_all();
  }

  [[nodiscard]] bool stopped() const { return stop_.load(); }
  [[nodiscard]] std::uint64_t messages() const { return messages_.load(); }
  [[nodiscard]] std::uint64_t malformed() const { return malformed_.load(); }

 private:
  static bool well_formed(const Incoming& frame) {
    const std::size_t filling = frame.header.id % 97;
    return frame.body.size() >= filling &&
           std::all_of(frame.body.end() - static_cast<std::ptrdiff_t>(filling), frame.body.end(),
                       [&](std::uint8_t byte) { return byte == static_cast<std::uint8_t>(frame.header.id); });
  }

  bool serve_from_ring() {
    if (auto call = mailroom_.take_call()) {
      serve(main_, *call);
      return true;
    }
    FrameHeader header{};
    std::span<const std::uint8_t> body;
    if (mailroom_.peek(header, body) != Mailroom::Peeked::kFrame) return false;
    if (header.kind != Kind::kCall) {
      mailroom_.route(header, body);
      mailroom_.pop();
      return true;
    }
    Incoming frame{header, {body.begin(), body.end()}};
    mailroom_.pop();
    serve(main_, frame);
    return true;
  }

  void sleep_on_doorbell() {
    auto& word = region_.header().worker_word.value;
    word.store(channel::kAsleep, std::memory_order_relaxed);
    {
      const WithoutGil without_gil(gil_);
      std::atomic_thread_fence(std::memory_order_seq_cst);
      if (mailroom_.ring_empty() && !mailroom_.routed() && !stop_.load())
        os::wait_word(word, channel::kAsleep, kLookAroundNs);
    }
    if (!mailroom_.routed()) word.store(channel::kAwake, std::memory_order_relaxed);
  }

  void serve_as_lane(Lane& lane) {
    while (!stop_.load() && !mailroom_.broken()) {
      if (auto call = mailroom_.take_call()) {
        serve(lane, *call);
        continue;
      }
      lane.parker.reset();
      if (mailroom_.spin(lane, true)) continue;
      mailroom_.set_idle(lane, true);
      if (!mailroom_.has_calls() && !stop_.load()) {
        const WithoutGil without_gil(gil_);
        lane.parker.park(kLookAroundNs);
      }
      mailroom_.set_idle(lane, false);
    }
  }

  channel::Region& region_;
  Mailroom mailroom_;
  Beam beam_;
  Ledger& ledger_;
  Gil gil_;
  Lane main_;
  NoLock direct_;
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> messages_{0};
  std::atomic<std::uint64_t> malformed_{0};
};

constexpr std::uint64_t kCalls = 60'000 / channel::testing::kStressDivisor;

TEST(Mailroom, ReadsTheRingDirectly) {
  const auto region = small_region();
  ASSERT_TRUE(region);
  Ledger ledger(2'000);
  FakeWorker worker(*region, ledger);
  std::thread main([&] { worker.run_main(); });
  for (std::uint64_t id = 1; id <= 2'000; ++id) worker.beam().send(Kind::kCall, id, body_of("plain", id));
  EXPECT_TRUE(eventually([&] { return ledger.ended() == 2'000; }));
  worker.stop();
  main.join();
  EXPECT_EQ(ledger.wrong() + worker.malformed(), 0U);
}

// Whoever reads the ring changes while requests come, and while the main thread is about to sleep on the
// doorbell.
TEST(Mailroom, HandsTheRingToTheRouterAtAnyMoment) {
  constexpr std::uint64_t kEach = 40;
  Random random(7);
  for (std::uint64_t round = 0; round < 2'000 / channel::testing::kStressDivisor; ++round) {
    const auto region = small_region();
    ASSERT_TRUE(region);
    Ledger ledger(kEach);
    FakeWorker worker(*region, ledger);
    const std::uint64_t moment = random.below(kEach);
    std::atomic<std::uint64_t> sent{0};
    std::thread main([&] { worker.run_main(); });
    std::thread starter([&] {
      while (sent.load(std::memory_order_relaxed) < moment) ::sched_yield();
      worker.start_router();
    });
    for (std::uint64_t id = 1; id <= kEach; ++id) {
      worker.beam().send(Kind::kCall, id, body_of("plain", id));
      sent.store(id, std::memory_order_relaxed);
      if (random.below(4) == 0) ::sched_yield();
    }
    EXPECT_TRUE(eventually([&] { return ledger.ended() == kEach; })) << "of round " << round;
    starter.join();
    worker.stop();
    main.join();
    ASSERT_EQ(ledger.wrong() + worker.malformed(), 0U) << "in round " << round;
  }
}

// All at once: lanes that serve, ask (with calls that come in the course of it), receive and are cancelled.
TEST(Mailroom, ServesAsksReceivesAndCancelsOnManyThreads) {
  const auto region = small_region();
  ASSERT_TRUE(region);
  Ledger ledger(2 * kCalls);
  FakeWorker worker(*region, ledger);
  std::atomic<std::uint64_t> last_tag{0};
  std::atomic<std::uint64_t> nested{kCalls};  // ids of nested calls follow those of the others
  std::atomic<std::uint64_t> ordered{0};      // messages
  std::atomic<std::uint64_t> answered{0};
  std::atomic<std::uint64_t> cancellable{0};
  Errands errands;

  worker.program = [&](Lane& lane, const Incoming& frame) {
    const std::uint64_t id = frame.header.id;
    if (id > kCalls) return;  // nested
    switch (id % 6) {
      case 0: {
        const std::uint64_t tag = last_tag.fetch_add(1) + 1;
        const bool nests = id % 12 == 0;
        const bool right = worker.ask(lane, tag, [&] {
          errands.add([&worker, &nested, tag, nests] {
            if (nests) {
              const std::uint64_t inner = nested.fetch_add(1) + 1;
              worker.beam().send(Kind::kCall, inner, body_of("nested", inner), tag);
            }
            worker.beam().send(Kind::kAnswer, tag, "answer");
          });
        });
        if (right) answered.fetch_add(1);
        break;
      }
      case 1:
        ordered.fetch_add(1);
        errands.add([&worker] { worker.beam().send(Kind::kMessage, 0, "message"); });
        worker.receive(lane);
        break;
      case 2: {
        const WithoutGil without_gil(worker.gil());
        ::sched_yield();
        break;
      }
      default:
        break;
    }
  };

  std::vector<std::thread> threads;
  threads.emplace_back([&] { worker.run_main(); });
  for (int i = 0; i < 3; ++i) threads.emplace_back([&] { worker.run_lane(); });
  std::thread canceller([&] {
    Random random(11);
    while (ledger.ended() < kCalls && !worker.stopped()) {
      const std::uint64_t newest = cancellable.load();
      if (newest > 0) worker.cancel(newest - std::min<std::uint64_t>(newest - 1, random.below(8)));
      for (std::uint64_t pause = random.below(20); pause > 0; --pause) ::sched_yield();
    }
  });
  for (std::uint64_t id = 1; id <= kCalls; ++id) {
    worker.beam().send(Kind::kCall, id, body_of("call", id));
    cancellable.store(id);
  }
  EXPECT_TRUE(eventually([&] {
    // A nested call may be made by a call that was cancelled since: it is served like any other.
    return ledger.ended() == nested.load() && worker.mailroom().ring_empty();
  }));
  canceller.join();
  errands.finish();
  EXPECT_TRUE(eventually([&] { return ledger.ended() == nested.load(); }));
  worker.stop();
  for (std::thread& thread : threads) thread.join();
  // What those that were cancelled had ordered lies in the mailbox, or in the ring.
  while (worker.take_message()) {
  }
  EXPECT_LE(worker.messages(), ordered.load());
  EXPECT_GT(worker.messages(), 0U);
  EXPECT_GT(answered.load(), 0U);
  EXPECT_EQ(ledger.wrong(), 0U);
  EXPECT_EQ(worker.malformed(), 0U);
  EXPECT_FALSE(worker.mailroom().broken());
  worker.mailroom().leave();
}

// Of the calls that wait, one that belongs to a question comes before those that came before it.
TEST(Mailroom, FindsACallThatIsMadeForAQuestion) {
  const auto region = small_region();
  ASSERT_TRUE(region);
  Mailroom mailroom(*region);
  for (const std::uint64_t id : {1U, 2U, 3U, 4U}) {
    FrameHeader header{};
    header.kind = Kind::kCall;
    header.id = id;
    header.times[2] = id == 3 ? 7 : id == 4 ? 8 : 0;
    mailroom.route(header, {});
  }
  EXPECT_FALSE(mailroom.take_call_of({9}).has_value());
  const auto found = mailroom.take_call_of({7, 9});
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->header.id, 3U);
  EXPECT_FALSE(mailroom.take_call_of({7, 9}).has_value());
  for (const std::uint64_t id : {1U, 2U, 4U}) EXPECT_EQ(mailroom.take_call()->header.id, id);
  EXPECT_FALSE(mailroom.has_calls());
  mailroom.leave();
}

// Calls of coroutine functions, their answers and cancellations go to the thread of the event loop, messages
// to a handler.
TEST(Mailroom, BringsCallsAnswersAndCancellationsToTheEventLoop) {
  const auto region = small_region();
  ASSERT_TRUE(region);
  Ledger ledger(kCalls);
  FakeWorker worker(*region, ledger);
  LoopMail& mail = worker.mailroom().loop();
  Cancels& cancels = worker.mailroom().cancels();
  mail.note_coroutine(bytes_of(body_of("coroutine", 1)), true);
  worker.mailroom().set_handler(true);
  Errands errands;
  std::atomic<std::uint64_t> cancellable{0};

  std::vector<std::thread> threads;
  threads.emplace_back([&] { worker.run_main(); });
  threads.emplace_back([&] { worker.run_lane(); });
  std::thread loop([&] {
    std::map<std::uint64_t, std::uint64_t> waiting;  // the tag of what it asked, and its call
    std::uint64_t last_tag = 0;
    pollfd signal{mail.attach(), POLLIN, 0};
    const auto finish = [&](std::map<std::uint64_t, std::uint64_t>::iterator entry) {
      cancels.leave_loop(entry->second);
      ledger.end(entry->second);
      waiting.erase(entry);
    };
    while (!worker.stopped()) {
      ::poll(&signal, 1, 1'000);
      const std::lock_guard gil(worker.gil());
      mail.clear_signal();
      while (auto call = mail.take_call()) {
        cancels.enter_loop(call->header.id);
        const std::uint64_t tag = ++last_tag;
        waiting[tag] = call->header.id;
        mail.expect_answer(tag);
        errands.add([&worker, tag] { worker.beam().send(Kind::kAnswer, tag, "answer"); });
      }
      while (auto answer = mail.take_answer()) {
        if (const auto entry = waiting.find(answer->header.id); entry != waiting.end()) finish(entry);
      }
      while (const auto id = mail.take_cancel()) {
        const auto entry =
            std::find_if(waiting.begin(), waiting.end(), [&](const auto& one) { return one.second == *id; });
        if (entry == waiting.end()) continue;
        mail.forget_answer(entry->first);
        finish(entry);
      }
    }
  });
  std::thread canceller([&] {
    Random random(13);
    while (ledger.ended() < kCalls && !worker.stopped()) {
      const std::uint64_t newest = cancellable.load();
      if (newest > 0) worker.cancel(newest - std::min<std::uint64_t>(newest - 1, random.below(8)));
      for (std::uint64_t pause = random.below(20); pause > 0; --pause) ::sched_yield();
    }
  });
  std::uint64_t messages = 0;
  for (std::uint64_t id = 1; id <= kCalls; ++id) {
    worker.beam().send(Kind::kCall, id, body_of(id % 3 == 0 ? "plain" : "coroutine", id));
    cancellable.store(id);
    if (id % 5 != 0) continue;
    worker.beam().send(Kind::kMessage, 0, "message");
    ++messages;
  }
  EXPECT_TRUE(eventually([&] { return ledger.ended() == kCalls && worker.messages() == messages; }));
  canceller.join();
  errands.finish();
  worker.stop();
  loop.join();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(worker.messages(), messages);
  EXPECT_EQ(ledger.wrong(), 0U);
  EXPECT_EQ(worker.malformed(), 0U);
  EXPECT_FALSE(worker.mailroom().broken());
}

// A call of the event loop, whose thread waits in its name, and so do threads that it has handed work to. At
// any moment the call is given up, and most of what they ask is never answered: all come back.
TEST(Mailroom, WakesWhoeverWaitsInTheNameOfACallThatIsGivenUp) {
  constexpr std::uint64_t kEach = 20'000 / channel::testing::kStressDivisor;
  constexpr std::uint64_t kHelpers = 2;
  const auto region = small_region();
  ASSERT_TRUE(region);
  Ledger ledger(kEach);
  FakeWorker worker(*region, ledger);
  worker.start_router();
  LoopMail& mail = worker.mailroom().loop();
  Cancels& cancels = worker.mailroom().cancels();
  ASSERT_GE(mail.attach(), 0);
  Errands errands;
  std::atomic<std::uint64_t> last_tag{0};
  std::atomic<std::uint64_t> newest{0};
  std::atomic<std::uint64_t> helped{0};
  std::atomic<std::uint64_t> answered{0};
  const auto wait_for = [&](std::uint64_t id) {
    const std::lock_guard gil(worker.gil());
    const std::uint64_t tag = last_tag.fetch_add(1) + 1;
    const bool right = worker.visit(id, tag, [&worker, &errands, tag] {
      if (tag % 4 == 0) errands.add([&worker, tag] { worker.beam().send(Kind::kAnswer, tag, "answer"); });
    });
    if (right) answered.fetch_add(1);
  };

  std::thread main([&] { worker.run_main(); });
  std::thread lane([&] { worker.run_lane(); });
  std::vector<std::thread> helpers;
  for (std::uint64_t i = 0; i < kHelpers; ++i) {
    helpers.emplace_back([&] {
      for (std::uint64_t id = 1; id <= kEach; ++id) {
        while (newest.load() < id) ::sched_yield();
        wait_for(id);
        helped.fetch_add(1);
      }
    });
  }
  std::thread loop([&] {
    for (std::uint64_t id = 1; id <= kEach; ++id) {
      cancels.enter_loop(id);
      newest.store(id);
      wait_for(id);
      while (helped.load() < id * kHelpers) ::sched_yield();
      cancels.leave_loop(id);
      ledger.end(id);
      mail.clear_signal();
      EXPECT_FALSE(mail.take_cancel()) << "is of a call that has ended";
    }
  });
  std::thread canceller([&] {
    Random random(17);
    for (std::uint64_t id = 1; id <= kEach; ++id) {
      // Sometimes before it has come to the loop.
      while (newest.load() + random.below(2) < id) ::sched_yield();
      for (std::uint64_t pause = random.below(30); pause > 0; --pause) ::sched_yield();
      worker.cancel(id);
    }
  });
  EXPECT_TRUE(eventually([&] { return ledger.ended() == kEach; }));
  loop.join();
  canceller.join();
  for (std::thread& helper : helpers) helper.join();
  errands.finish();
  worker.stop();
  main.join();
  lane.join();
  EXPECT_GT(answered.load(), 0U);
  EXPECT_LT(answered.load(), last_tag.load());
  EXPECT_EQ(ledger.wrong(), 0U);
  EXPECT_FALSE(cancels.has_any());
  worker.mailroom().leave();
}

// What a thread does when it has waited in the name of another thread's call.
TEST(Mailroom, TellsAWaitOfACallOnceAndNobodyElse) {
  const auto region = small_region();
  Mailroom mailroom(*region);
  Cancels& cancels = mailroom.cancels();
  const std::uint64_t in_loop = 1;
  const std::uint64_t nested = 2;
  const std::uint64_t other = 3;
  cancels.enter_loop(in_loop);

  // The loop's thread, which serves a call on top of its wait: both go, one after the other.
  Lane visitor;
  mailroom.add_lane(visitor);
  ASSERT_TRUE(cancels.begin_wait(visitor, in_loop));
  EXPECT_EQ(cancels.innermost(visitor), 0U);
  EXPECT_FALSE(cancels.take(visitor));
  ASSERT_TRUE(cancels.begin(visitor, nested));
  EXPECT_EQ(cancels.innermost(visitor), nested);
  EXPECT_TRUE(cancels.cancel(in_loop));
  EXPECT_EQ(cancels.begin_interrupt(false), &visitor);
  visitor.interrupted = false;
  EXPECT_EQ(cancels.end(visitor), Lane::State::kInterrupted);
  EXPECT_EQ(cancels.begin_interrupt(true), nullptr) << "while it waits";
  EXPECT_TRUE(cancels.take(visitor));
  EXPECT_FALSE(cancels.take(visitor));
  EXPECT_EQ(cancels.end_wait(visitor), Lane::State::kInterrupted);

  // The loop has not come to look: the next wait does not begin. Afterwards the task is left in peace.
  ASSERT_TRUE(cancels.begin_wait(visitor, in_loop));
  EXPECT_TRUE(cancels.take(visitor));
  cancels.end_wait(visitor);
  EXPECT_EQ(mailroom.loop().take_cancel(), in_loop);
  ASSERT_TRUE(cancels.begin_wait(visitor, in_loop));
  EXPECT_FALSE(cancels.take(visitor));
  EXPECT_EQ(cancels.end_wait(visitor), Lane::State::kRuns);
  mailroom.remove_lane(visitor);

  // A thread that serves a call. In its own name no wait begins; in another's one exception is for both.
  Lane lane;
  lane.is_main = true;
  mailroom.add_lane(lane);
  ASSERT_TRUE(cancels.begin(lane, other));
  EXPECT_FALSE(cancels.begin_wait(lane, other));
  ASSERT_TRUE(cancels.begin_wait(lane, in_loop));
  EXPECT_TRUE(cancels.cancel(in_loop)) << "the main thread may sleep on the doorbell";
  EXPECT_TRUE(cancels.take(lane));
  EXPECT_FALSE(cancels.has_any());
  cancels.end_wait(lane);
  ASSERT_TRUE(cancels.begin_wait(lane, nested));
  EXPECT_TRUE(cancels.cancel(other));
  EXPECT_TRUE(cancels.take(lane));
  EXPECT_EQ(cancels.end_wait(lane), Lane::State::kInterrupted);
  EXPECT_EQ(cancels.end(lane), Lane::State::kInterrupted);
  mailroom.remove_lane(lane);
}

// What imports is not interrupted, and the BEAM can see it: of all calls that wait for the thread.
TEST(Mailroom, KeepsInterruptsFromAThreadThatImports) {
  const auto region = small_region();
  Mailroom mailroom(*region);
  Cancels& cancels = mailroom.cancels();
  const channel::Claims claims = region->claims();
  const auto taken = [&](std::uint64_t index) {
    const std::uint64_t id = (std::uint64_t{1} << 32) | index;
    EXPECT_TRUE(claims.take(id));
    return id;
  };
  const std::uint64_t outer = taken(1);
  const std::uint64_t inner = taken(2);
  const std::uint64_t in_loop = taken(3);
  Lane lane;
  mailroom.add_lane(lane);
  ASSERT_TRUE(cancels.begin(lane, outer));
  cancels.begin_import(&lane, "package");
  cancels.begin_import(&lane, "package.module");
  EXPECT_TRUE(cancels.cancel(outer));
  EXPECT_TRUE(cancels.has_any());
  EXPECT_EQ(cancels.begin_interrupt(true), nullptr);
  EXPECT_FALSE(cancels.take_interrupt(lane));
  EXPECT_EQ(claims.state(outer), channel::Claim::kImports);
  EXPECT_EQ(channel::Imports(region->header()).name_for(outer), "package");

  ASSERT_TRUE(cancels.begin(lane, inner));
  EXPECT_EQ(claims.state(inner), channel::Claim::kImports);
  cancels.end(lane);
  cancels.end_import(&lane);
  EXPECT_FALSE(cancels.take_interrupt(lane));
  cancels.end_import(&lane);
  EXPECT_EQ(claims.state(outer), channel::Claim::kTaken);
  EXPECT_FALSE(channel::Imports(region->header()).is_any());
  EXPECT_EQ(cancels.begin_interrupt(false), &lane);
  EXPECT_TRUE(lane.interrupted);
  EXPECT_EQ(cancels.begin_interrupt(true), nullptr);
  EXPECT_FALSE(cancels.take_interrupt(lane));
  cancels.end(lane);
  mailroom.remove_lane(lane);

  cancels.enter_loop(outer);
  cancels.begin_import(nullptr, "torch");
  cancels.enter_loop(in_loop);
  for (const std::uint64_t id : {outer, in_loop}) EXPECT_EQ(claims.state(id), channel::Claim::kImports);
  cancels.end_import(nullptr);
  for (const std::uint64_t id : {outer, in_loop}) EXPECT_EQ(claims.state(id), channel::Claim::kTaken);
}

// A frame that no BEAM writes: whoever reads next finds the channel broken, and every thread comes back.
TEST(Mailroom, EndsItsThreadsWhenTheRingHoldsGarbage) {
  const auto region = small_region();
  ASSERT_TRUE(region);
  Ledger ledger(1);
  FakeWorker worker(*region, ledger);
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back([&] { worker.run_lane(); });
  EXPECT_TRUE(eventually([&] { return worker.mailroom().routed(); }));
  region->header().request_tail.value.store(12, std::memory_order_release);
  EXPECT_TRUE(eventually([&] {
    channel::wake_from(region->header().worker_word.value, channel::kAsleep);
    return worker.mailroom().broken();
  }));
  for (std::thread& thread : threads) thread.join();
  worker.stop();
}

}  // namespace
}  // namespace typhon::worker
