// Loans as two models (testing/model.h), step by step as in loan.cpp.
//
// The box: borrowers let go of loans, on any thread, and the last holder of one pushes it onto the box's
// list; the lender's thread sleeps until some have come back, and frees them; so does any other thread of the
// lender's, whenever it likes. Whether the borrowers let go first, or the lender stops its thread first: each
// loan is freed once, after its last holder has let go, and nobody touches it then; and the lender's thread
// is woken.
//
// What is left behind: senders publish frames with loans, and the receiver takes them, until it stops for
// good at any moment. The loans of each frame are given back once, by whoever took it or by whoever finds it
// left.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "channel/layout.h"
#include "testing/model.h"

namespace typhon::channel {
namespace {

using model::Byte;
using model::kLost;

constexpr const char* kTwice = "a loan is given back twice";
constexpr const char* kTouched = "a loan is touched that is free";

// --- The box ---

namespace box {

// A frame with the first two of three loans; the second borrower has a view of the first loan, and the third
// for itself.
constexpr int kLoans = 3;

enum Cell : Byte {
  kReturned,  // the number of the first loan of the list; 0: it is empty
  kWord,
  kStopped,
  kNext,                      // of each loan
  kHolders = kNext + kLoans,  // of each loan
  kCells = kHolders + kLoans,
};

constexpr int kThread = 0;  // the lender's own
constexpr int kLender = 1;  // another one of the lender's
constexpr int kFirstBorrower = 2;
constexpr int kActors = 4;

struct Actor : model::Actor {
  Byte loan;   // its number, from 1 on
  Byte next;   // the one behind it
  Byte first;  // that it found in the list
  Byte left;   // lender: so often it will collect
};

struct State {
  Byte memory[kCells];
  Byte freed[kLoans];
  Byte touched;
  Actor actors[kActors];
};

using Cpu = model::Cpu<State>;

struct Rules {
  int collects = 1;    // so often another thread of the lender's collects
  bool stops = false;  // the lender stops its thread, and collects by itself from then on

  bool holders_are_counted_in_one_go = true;
  bool who_clears_a_frame_reads_what_is_next_first = true;
  bool who_gives_back_compares = true;
  bool who_collects_exchanges = true;
  bool who_gives_back_wakes = true;
  bool lender_fences_before_it_looks_again = true;
  bool lender_looks_again = true;
  bool lender_looks_again_whether_it_is_stopped = true;
};

enum Step : Byte {
  kTop,
  kEnded,

  // Borrowers
  kLetGo,
  kLetGoStore,
  kNextLoan,
  kPush,
  kPushNext,
  kPushFirst,
  kLook,
  kWake,
  kWakeFutex,

  // The lender's thread
  kSleep,
  kSleepLook,
  kSleepStopped,
  kWait,
  kWoken,
  kGathered,

  // Whoever collects
  kCollect,
  kCollectStore,
  kFree,

  // The lender
  kStop,
  kStopWake,
  kJoin,
  kRest,
};

Byte next_of(Cpu& cpu, Byte loan) {
  if (cpu.state().freed[loan - 1]) cpu.state().touched = 1;
  return cpu.load(kNext + loan - 1);
}

void let_go(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  if (cpu.state().freed[me.loan - 1]) cpu.state().touched = 1;
  const int holders = kHolders + me.loan - 1;
  if (!rules.holders_are_counted_in_one_go) {
    me.first = cpu.load(holders);
    return cpu.go(kLetGoStore);
  }
  cpu.go(cpu.fetch_add(holders, -1) == 1 ? kPush : kNextLoan);
}

// FrameLoans::clear() and LoanBox::give_back(). The second borrower lets go of a view, then of a frame.
void run_borrower(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  switch (me.step) {
    case kTop:
      if (me.loan == 0) return cpu.go(kEnded);
      if (rules.who_clears_a_frame_reads_what_is_next_first && me.next == 0) me.next = next_of(cpu, me.loan);
      return cpu.go(kLetGo);
    case kLetGo:
      return let_go(cpu, rules);
    case kLetGoStore:
      cpu.store(kHolders + me.loan - 1, me.first - 1);
      return cpu.go(cpu.forget(me.first) == 1 ? kPush : kNextLoan);
    case kNextLoan:
      if (!rules.who_clears_a_frame_reads_what_is_next_first && me.next == 0) me.next = next_of(cpu, me.loan);
      me.loan = cpu.forget(me.next);
      return cpu.go(kTop);

    case kPush:
      me.first = cpu.load(kReturned);
      return cpu.go(kPushNext);
    case kPushNext:
      cpu.store(kNext + me.loan - 1, me.first);
      return cpu.go(kPushFirst);
    case kPushFirst:
      if (!rules.who_gives_back_compares) {
        cpu.store(kReturned, me.loan);
      } else if (!cpu.compare_exchange(kReturned, me.first, me.loan)) {
        me.first = cpu.load(kReturned);
        return cpu.go(kPushNext);
      }
      cpu.forget(me.first);
      return cpu.go(rules.who_gives_back_wakes ? kLook : kNextLoan);
    case kLook:
      cpu.fence();
      return cpu.go(cpu.load(kWord) == Word::kAsleep ? kWake : kNextLoan);
    case kWake:
      return cpu.go(cpu.compare_exchange(kWord, Word::kAsleep, kAwake) ? kWakeFutex : kNextLoan);
    case kWakeFutex:
      cpu.futex_wake(kWord);
      return cpu.go(kNextLoan);
    default:
      return cpu.stall();
  }
}

// LoanBox::collect(), and what its caller does with what it gets; goes on at `then`.
void run_collect(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  State& state = cpu.state();
  switch (me.step) {
    case kCollect:
      me.loan = rules.who_collects_exchanges ? cpu.exchange(kReturned, 0) : cpu.load(kReturned);
      if (!rules.who_collects_exchanges) return cpu.go(kCollectStore);
      return me.loan ? cpu.go(kFree) : cpu.go_on();
    case kCollectStore:
      cpu.store(kReturned, 0);
      return me.loan ? cpu.go(kFree) : cpu.go_on();
    case kFree:
    default: {
      const Byte next = next_of(cpu, me.loan);
      if (state.memory[kHolders + me.loan - 1] != 0) state.touched = 1;
      ++state.freed[me.loan - 1];
      me.loan = next;
      return next ? cpu.go(kFree) : cpu.go_on();
    }
  }
}

// LoanBox::wait(), and the loop around it.
void run_thread(Cpu& cpu, const Rules& rules) {
  switch (cpu.me().step) {
    case kTop:
      return cpu.load(kStopped) ? cpu.pass(true, kCollect, kEnded) : cpu.go(kSleep);
    case kSleep:
      cpu.store(kWord, Word::kAsleep);
      return cpu.go(rules.lender_looks_again ? kSleepLook : kSleepStopped);
    case kSleepLook:
      if (rules.lender_fences_before_it_looks_again) cpu.fence();
      return cpu.go(cpu.load(kReturned) ? kWoken : kSleepStopped);
    case kSleepStopped:
      return cpu.go(cpu.load(kStopped) && rules.lender_looks_again_whether_it_is_stopped ? kWoken : kWait);
    case kWait:
      cpu.futex_wait(kWord, Word::kAsleep, false);
      return cpu.go(kWoken);
    case kWoken:
      cpu.store(kWord, kAwake);
      return cpu.go(kGathered);
    // After it has waited for more: another thread may have collected them.
    case kGathered:
      return cpu.load(kReturned) ? cpu.pass(true, kCollect, kTop) : cpu.go(kTop);
    default:
      return cpu.stall();
  }
}

void run_lender(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  switch (me.step) {
    case kTop:
      if (me.left) return cpu.pass((--me.left, true), kCollect, kTop);
      return cpu.go(rules.stops ? kStop : kEnded);
    case kStop:
      cpu.exchange(kStopped, 1);
      return cpu.go(kStopWake);
    case kStopWake:
      return cpu.go(cpu.compare_exchange(kWord, Word::kAsleep, kAwake) ? kWakeFutex : kJoin);
    case kWakeFutex:
      cpu.futex_wake(kWord);
      return cpu.go(kJoin);
    case kJoin:
      return cpu.state().actors[kThread].step == kEnded ? cpu.go(kRest) : cpu.stall();
    case kRest:
      return cpu.load(kReturned) ? cpu.pass(true, kCollect, kRest) : cpu.stall();
    default:
      return cpu.stall();
  }
}

struct Box {
  Rules rules;

  [[nodiscard]] static int actors() { return kActors; }

  void begin(State& state) const {
    state.memory[kHolders] = 2;
    state.memory[kHolders + 1] = 1;
    state.memory[kHolders + 2] = 1;
    state.memory[kNext] = 2;
    state.actors[kFirstBorrower].loan = 1;
    state.actors[kFirstBorrower + 1].loan = 1;
    state.actors[kFirstBorrower + 1].next = 3;
    state.actors[kLender].left = static_cast<Byte>(rules.collects);
  }

  void run(Cpu& cpu) const {
    const Byte step = cpu.me().step;
    if (cpu.self() >= kFirstBorrower) return run_borrower(cpu, rules);
    if (step >= kCollect && step <= kFree) return run_collect(cpu, rules);
    cpu.self() == kThread ? run_thread(cpu, rules) : run_lender(cpu, rules);
  }

  template <class Add>
  void happen(const State& /*state*/, Add /*add*/) const {}

  [[nodiscard]] bool done(const State& state) const {
    if (rules.stops && state.actors[kThread].step != kEnded) return false;
    return std::all_of(std::begin(state.freed), std::end(state.freed), [](Byte freed) { return freed == 1; });
  }

  [[nodiscard]] static const char* wrong(const State& state) {
    if (state.touched) return kTouched;
    const bool twice =
        std::any_of(std::begin(state.freed), std::end(state.freed), [](Byte freed) { return freed > 1; });
    return twice ? kTwice : nullptr;
  }

  [[nodiscard]] static bool ends() { return true; }

  [[nodiscard]] static std::string show(const State& state) {
    std::string text = "returned " + std::to_string(state.memory[kReturned]) + ", word " +
                       std::to_string(state.memory[kWord]) + ", next";
    for (int i = 0; i < kLoans; ++i) text += " " + std::to_string(state.memory[kNext + i]);
    text += ", holders";
    for (int i = 0; i < kLoans; ++i) text += " " + std::to_string(state.memory[kHolders + i]);
    text += ", freed";
    for (const Byte freed : state.freed) text += " " + std::to_string(freed);
    return text;
  }
};

void expect_sound(const Rules& rules) { model::expect_sound<State>(Box{rules}); }
void expect_fault(const Rules& rules, const char* fault) { model::expect_fault<State>(Box{rules}, fault); }

}  // namespace box

// --- What is left behind ---

namespace left {

constexpr int kMaxFrames = 4;

enum Cell : Byte {
  kWord,  // of leavings
  kSwept,
  kTail,
  kHead,
  kMutex,  // of the senders
  kCells,
};

constexpr int kReceiver = 0;
constexpr int kFirstSender = 1;
constexpr int kMaxActors = 3;

struct Actor : model::Actor {
  Byte at;    // the frame that it is at
  Byte tail;  // what it saw of a count
  Byte left;  // senders: frames still to send
};

struct State {
  Byte memory[kCells];
  Byte freed[kMaxFrames];  // how often the loans of each frame were
  Byte has_left;
  Actor actors[kMaxActors];
};

using Cpu = model::Cpu<State>;

struct Rules {
  int senders = 2;
  int frames_each = 1;

  bool receiver_takes_no_more = true;
  bool receiver_looks_after_what_is_there = true;
  bool sender_looks_after_its_own = true;
  bool one_looks_after_them_at_a_time = true;
  bool it_begins_where_the_last_one_ended = true;
  bool it_leaves_out_what_was_taken = true;
  bool it_says_how_far_it_came_before_it_lets_go = true;
  bool it_fences_before_it_looks_again = true;
  bool it_looks_again = true;
};

enum Step : Byte {
  kTop,
  kEnded,

  // Receiver
  kTake,
  kTaken,
  kLeave,

  // Senders
  kPush,
  kPushed,

  // LeftBehind::look_after(); goes on at `then`
  kLook,
  kLookStore,
  kLookHead,
  kLookSwept,
  kLookPeek,
  kLookSay,
  kLookLetGo,
  kLookAgain,
};

void run_look(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  State& state = cpu.state();
  switch (me.step) {
    case kLook:
      if (!rules.one_looks_after_them_at_a_time)
        return cpu.load(kWord) == Leavings::kLeft ? cpu.go(kLookStore) : cpu.go_on();
      return cpu.compare_exchange(kWord, Leavings::kLeft, Leavings::kHeld) ? cpu.go(kLookHead) : cpu.go_on();
    case kLookStore:
      cpu.store(kWord, Leavings::kHeld);
      return cpu.go(kLookHead);
    case kLookHead:
      me.at = rules.it_leaves_out_what_was_taken ? cpu.load(kHead) : Byte{0};
      return cpu.go(kLookSwept);
    case kLookSwept:
      if (rules.it_begins_where_the_last_one_ended) me.at = std::max(me.at, cpu.load(kSwept));
      return cpu.go(kLookPeek);
    case kLookPeek:
      if (cpu.load(kTail) == me.at)
        return cpu.go(rules.it_says_how_far_it_came_before_it_lets_go ? kLookSay : kLookLetGo);
      ++state.freed[me.at++];
      return;
    case kLookSay:
      cpu.store(kSwept, me.at);
      return cpu.go(rules.it_says_how_far_it_came_before_it_lets_go ? kLookLetGo : kLookAgain);
    case kLookLetGo:
      cpu.store(kWord, Leavings::kLeft);
      return cpu.go(rules.it_says_how_far_it_came_before_it_lets_go ? kLookAgain : kLookSay);
    case kLookAgain:
    default:
      if (rules.it_fences_before_it_looks_again) cpu.fence();
      if (!rules.it_looks_again || cpu.load(kTail) == cpu.forget(me.at)) {
        cpu.forget(me.at);
        return cpu.go_on();
      }
      return cpu.go(kLook);
  }
}

// It stops at any moment, between two frames.
void run_receiver(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  State& state = cpu.state();
  switch (me.step) {
    case kTop:
      if (!state.has_left && cpu.either()) return cpu.go(kLeave);
      if (state.has_left && rules.receiver_takes_no_more) return cpu.go(kEnded);
      if (cpu.load(kTail) == cpu.load(kHead)) return cpu.stall();
      return cpu.go(kTake);
    case kTake:
      me.tail = cpu.load(kHead);
      cpu.store(kHead, me.tail + 1);
      return cpu.go(kTaken);
    case kTaken:
      ++state.freed[cpu.forget(me.tail)];
      return cpu.go(kTop);
    case kLeave:
      cpu.store(kWord, Leavings::kLeft);
      state.has_left = 1;
      return cpu.pass(rules.receiver_looks_after_what_is_there, kLook, kTop);
    default:
      return cpu.stall();
  }
}

void run_sender(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  switch (me.step) {
    case kTop:
      if (me.left == 0) return cpu.go(kEnded);
      --me.left;
      cpu.lock(kMutex);
      return cpu.go(kPush);
    case kPush:
      cpu.store(kTail, cpu.load(kTail) + 1);
      return cpu.go(kPushed);
    case kPushed:
      cpu.unlock(kMutex);
      return cpu.pass(rules.sender_looks_after_its_own, kLook, kTop);
    default:
      return cpu.stall();
  }
}

struct LeftBehind {
  Rules rules;

  [[nodiscard]] int actors() const { return kFirstSender + rules.senders; }

  void begin(State& state) const {
    for (int i = kFirstSender; i < actors(); ++i) state.actors[i].left = static_cast<Byte>(rules.frames_each);
  }

  void run(Cpu& cpu) const {
    if (cpu.me().step >= kLook) return run_look(cpu, rules);
    cpu.self() == kReceiver ? run_receiver(cpu, rules) : run_sender(cpu, rules);
  }

  template <class Add>
  void happen(const State& /*state*/, Add /*add*/) const {}

  [[nodiscard]] bool done(const State& state) const {
    for (int i = 0; i < rules.senders * rules.frames_each; ++i) {
      if (state.freed[i] != 1) return false;
    }
    return true;
  }

  [[nodiscard]] static const char* wrong(const State& state) {
    const bool twice =
        std::any_of(std::begin(state.freed), std::end(state.freed), [](Byte freed) { return freed > 1; });
    return twice ? kTwice : nullptr;
  }

  [[nodiscard]] static bool ends() { return true; }

  [[nodiscard]] static std::string show(const State& state) {
    std::string text = "word " + std::to_string(state.memory[kWord]) + ", frames " +
                       std::to_string(state.memory[kHead]) + "/" + std::to_string(state.memory[kTail]) +
                       ", swept " + std::to_string(state.memory[kSwept]) + ", freed";
    for (const Byte freed : state.freed) text += " " + std::to_string(freed);
    return text;
  }
};

void expect_sound(const Rules& rules) { model::expect_sound<State>(LeftBehind{rules}); }
void expect_fault(const Rules& rules, const char* fault) {
  model::expect_fault<State>(LeftBehind{rules}, fault);
}

}  // namespace left

// --- What holds ---

TEST(LoanBoxProtocol, EachLoanIsFreedOnce) {
  box::expect_sound({.collects = 0});
  box::expect_sound({.collects = 1});
}

TEST(LoanBoxProtocol, AlsoWhenTheLenderStopsItsThread) { box::expect_sound({.collects = 0, .stops = true}); }

TEST(LeftBehindProtocol, EachFrameIsLookedAfterOnce) {
  left::expect_sound({.senders = 1, .frames_each = 3});
  left::expect_sound({.senders = 2, .frames_each = 1});
  left::expect_sound({.senders = 2, .frames_each = 2});
}

// --- What each rule is for: without it, this is what happens ---

TEST(LoanBoxProtocolWithout, CountingHoldersInOneGo) {
  // Both see two, and nobody is the last.
  box::expect_fault({.holders_are_counted_in_one_go = false}, kLost);
}

TEST(LoanBoxProtocolWithout, ReadingWhatIsNextFirst) {
  box::expect_fault({.who_clears_a_frame_reads_what_is_next_first = false}, kTouched);
}

TEST(LoanBoxProtocolWithout, ComparingWhenOneGivesBack) {
  box::expect_fault({.collects = 0, .who_gives_back_compares = false}, kTouched);
}

TEST(LoanBoxProtocolWithout, ExchangeOfTheList) {
  box::expect_fault({.who_collects_exchanges = false}, kTouched);
}

TEST(LoanBoxProtocolWithout, WakingTheLender) {
  box::expect_fault({.collects = 0, .who_gives_back_wakes = false}, kLost);
}

TEST(LoanBoxProtocolWithout, FenceOfTheLender) {
  box::expect_fault({.collects = 0, .lender_fences_before_it_looks_again = false}, kLost);
}

TEST(LoanBoxProtocolWithout, SecondLookOfTheLender) {
  box::expect_fault({.collects = 0, .lender_looks_again = false}, kLost);
}

TEST(LoanBoxProtocolWithout, SecondLookWhetherItIsStopped) {
  box::expect_fault({.collects = 0, .stops = true, .lender_looks_again_whether_it_is_stopped = false}, kLost);
}

TEST(LeftBehindProtocolWithout, TakingNoMore) {
  left::expect_fault({.receiver_takes_no_more = false}, kTwice);
}

TEST(LeftBehindProtocolWithout, LookOfTheReceiver) {
  left::expect_fault({.receiver_looks_after_what_is_there = false}, kLost);
}

TEST(LeftBehindProtocolWithout, LookOfTheSender) {
  left::expect_fault({.sender_looks_after_its_own = false}, kLost);
}

TEST(LeftBehindProtocolWithout, OneAtATime) {
  left::expect_fault({.one_looks_after_them_at_a_time = false}, kTwice);
}

TEST(LeftBehindProtocolWithout, BeginningWhereTheLastOneEnded) {
  left::expect_fault({.it_begins_where_the_last_one_ended = false}, kTwice);
}

TEST(LeftBehindProtocolWithout, LeavingOutWhatWasTaken) {
  left::expect_fault({.it_leaves_out_what_was_taken = false}, kTwice);
}

TEST(LeftBehindProtocolWithout, SayingHowFarItCameFirst) {
  left::expect_fault({.it_says_how_far_it_came_before_it_lets_go = false}, kTwice);
}

TEST(LeftBehindProtocolWithout, FenceBeforeTheSecondLook) {
  left::expect_fault({.it_fences_before_it_looks_again = false}, kLost);
}

TEST(LeftBehindProtocolWithout, SecondLook) { left::expect_fault({.it_looks_again = false}, kLost); }

}  // namespace
}  // namespace typhon::channel
