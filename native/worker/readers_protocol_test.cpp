// Threads of which whichever waits reads the ring, as a model (testing/model.h): who sleeps on the worker's
// word, and who is woken for what was read. The actors are threads of a language and callers in the BEAM.
// Each thread does what readers.h and readers_test.cpp do, step by step: it waits for frames of its own, and
// puts those of the others where they look. A visitor is one that leaves whenever it likes, and reads
// nothing: its wait had a limit.
//
// Proved, for the numbers of threads and frames given in the tests:
//   - at most one thread at a time consumes the ring;
//   - no wake-up is lost: each thread gets its frames though no wait has a limit, and when the channel closes
//   all
//     of them end.

#include <gtest/gtest.h>

#include <string>

#include "channel/layout.h"
#include "testing/model.h"

namespace typhon::worker {
namespace {

namespace model = channel::model;
using channel::kAwake;
using model::Byte;
using model::kLost;
using model::kTwoConsumers;

// --- The state ---

enum Cell : Byte {
  kWord,
  kTail,
  kHead,
  kClosing,
  kBeamMutex,
  kGil,         // of the language
  kGeneration,  // who has seen the latest stands with each thread, so that this has an end
  kSleepers,
  kCells,
};

constexpr int kMaxThreads = 3;
constexpr int kFirstCaller = kMaxThreads;
constexpr int kMaxActors = kFirstCaller + 2;
constexpr int kMaxFrames = 4;

struct Actor : model::Actor {
  Byte fresh;   // threads: the generation is what it has seen
  Byte tail;    // what it saw of a count
  Byte wants;   // threads: so many frames
  Byte visits;  // visitors: so often it sleeps
  Byte pushed;  // callers: so many frames
};

struct State {
  Byte memory[kCells];
  Byte requests[kMaxFrames];
  Byte taken;              // guarded by the ring's owner
  Byte has_reader;         // guarded by the mutex of the readers
  Byte mail[kMaxThreads];  // guarded by the mailroom's mutex: frames that were read
  Byte finished;
  Actor actors[kMaxActors];
};

using Cpu = model::Cpu<State>;

struct Rules {
  int threads = 2;
  int callers = 1;
  int frames = 2;        // of each caller: one for each thread in turn
  bool visitor = false;  // the last thread is one
  bool closes = false;   // the last caller closes the channel

  bool one_reads_at_a_time = true;
  bool caller_fences_before_it_looks_at_the_worker = true;
  bool reader_fences_before_it_looks_again = true;
  bool reader_looks_at_the_ring_again = true;
  bool reader_looks_at_the_generation = true;
  bool reader_hands_over = true;
  bool others_sleep_on_the_generation = true;  // and not on the word, each as if it were the reader
  bool whoever_reads_tells = true;
  bool whoever_reads_wakes_the_reader = true;
};

enum Step : Byte {
  kTop,
  kEnded,

  // Threads
  kNote,
  kRead,
  kPump,
  kTell,
  kTellSleepers,
  kTellAgain,
  kTellOthers,
  kTellReader,
  kTellFutex,
  kCompare,
  kBegin,
  kReaderTail,
  kReaderHead,
  kReaderGeneration,
  kReaderEnds,
  kReaderWait,
  kReaderLeaves,
  kHandOver,
  kHandOverFutex,
  kOtherEnds,
  kOtherWait,
  kOtherLeaves,
  kSlept,

  // Callers
  kPush,
  kPushed,
  kRing,
  kRingWake,
  kRingFutex,
  kRang,
  kClose,
};

// --- Threads ---

void change_generation(Cpu& cpu) {
  cpu.fence();
  for (Actor& actor : cpu.state().actors) actor.fresh = 0;
}

// Readers::read(), and what tells the others.
void run_read(Cpu& cpu, const Rules& rules) {
  State& state = cpu.state();
  Actor& me = cpu.me();
  switch (me.step) {
    case kRead:
      me.owns_ring = cpu.load(kTail) != state.taken;
      if (me.owns_ring) cpu.forget(me.fresh);
      return cpu.go(me.owns_ring ? kPump : kCompare);
    // One frame. Whoever looks for more finds it in the next step, or does not.
    case kPump:
      ++state.mail[state.requests[state.taken]];
      cpu.store(kHead, ++state.taken);
      if (cpu.load(kTail) != state.taken) return cpu.go(kPump);
      me.owns_ring = 0;
      return cpu.go(rules.whoever_reads_tells ? kTell : kNote);
    case kTell:
      change_generation(cpu);
      return cpu.go(kTellSleepers);
    case kTellSleepers:
      return cpu.go(cpu.load(kSleepers) ? kTellAgain : kNote);
    // Readers::wake()
    case kTellAgain:
      change_generation(cpu);
      return cpu.go(kTellOthers);
    case kTellOthers:
      cpu.futex_wake_all(kGeneration);
      return cpu.go(rules.whoever_reads_wakes_the_reader ? kTellReader : kNote);
    case kTellReader:
      return cpu.go(cpu.compare_exchange(kWord, channel::kAsleep, kAwake) ? kTellFutex : kNote);
    case kTellFutex:
    default:
      if (rules.others_sleep_on_the_generation) {
        cpu.futex_wake(kWord);
      } else {
        cpu.futex_wake_all(kWord);
      }
      return cpu.go(kNote);
  }
}

// Readers::sleep(), as the reader.
void run_reader(Cpu& cpu, const Rules& rules) {
  State& state = cpu.state();
  Actor& me = cpu.me();
  switch (me.step) {
    case kReaderTail:
      if (rules.reader_fences_before_it_looks_again) cpu.fence();
      me.tail = cpu.load(kTail);
      return cpu.go(rules.reader_looks_at_the_ring_again ? kReaderHead : kReaderGeneration);
    case kReaderHead:
      return cpu.go(cpu.load(kHead) != cpu.forget(me.tail) ? kReaderLeaves : kReaderGeneration);
    case kReaderGeneration:
      cpu.forget(me.tail);
      if (rules.reader_looks_at_the_generation && !me.fresh) return cpu.go(kReaderLeaves);
      return cpu.go(rules.closes ? kReaderEnds : kReaderWait);
    case kReaderEnds:
      return cpu.go(cpu.load(kClosing) ? kReaderLeaves : kReaderWait);
    case kReaderWait:
      cpu.futex_wait(kWord, channel::kAsleep, me.visits != 0);
      return cpu.go(kReaderLeaves);
    // A passage under the mutex: the store is visible when it ends.
    case kReaderLeaves: {
      cpu.forget(me.fresh);
      const bool others = cpu.fetch_add(kSleepers, -1) != 1;
      state.has_reader = 0;
      const bool rung_for = others && !rules.others_sleep_on_the_generation;
      state.memory[kWord] = rung_for ? Byte{channel::kAsleep} : Byte{kAwake};
      return cpu.go(others && rules.reader_hands_over && !rung_for ? kHandOver : kSlept);
    }
    case kHandOver:
      change_generation(cpu);
      return cpu.go(kHandOverFutex);
    case kHandOverFutex:
    default:
      cpu.futex_wake_all(kGeneration);
      return cpu.go(kSlept);
  }
}

// The same as one of the others.
void run_other(Cpu& cpu) {
  Actor& me = cpu.me();
  switch (me.step) {
    case kOtherEnds:
      return cpu.go(cpu.load(kClosing) ? kOtherLeaves : kOtherWait);
    case kOtherWait:
      cpu.futex_wait(kGeneration, me.fresh ? 0 : 1, me.visits != 0);
      return cpu.go(kOtherLeaves);
    case kOtherLeaves:
    default:
      cpu.forget(me.fresh);
      cpu.fetch_add(kSleepers, -1);
      return cpu.go(kSlept);
  }
}

void run_thread(Cpu& cpu, const Rules& rules) {
  State& state = cpu.state();
  Actor& me = cpu.me();
  const bool visits = rules.visitor && cpu.self() == rules.threads - 1;
  switch (me.step) {
    case kTop:
      if (rules.one_reads_at_a_time) cpu.lock(kGil);
      return cpu.go(kNote);
    case kNote:
      me.fresh = 1;
      if (visits) {
        cpu.unlock(kGil);
        return cpu.go(kBegin);
      }
      // What was read changes with the lock of the language alone.
      if (state.mail[cpu.self()] != 0) {
        --state.mail[cpu.self()];
        if (--me.wants == 0) ++state.finished;
        return cpu.go(kNote);
      }
      if (rules.closes && cpu.load(kClosing)) {
        cpu.forget(me.fresh);
        if (rules.one_reads_at_a_time) cpu.unlock(kGil);
        return cpu.go(kEnded);
      }
      return cpu.go(kRead);
    case kCompare:
      if (!me.fresh) return cpu.go(kNote);
      if (rules.one_reads_at_a_time) cpu.unlock(kGil);
      return cpu.go(kBegin);
    // A passage under the mutex, whose store may be seen later.
    case kBegin:
      cpu.fetch_add(kSleepers, 1);
      if (state.has_reader && rules.others_sleep_on_the_generation)
        return cpu.go(rules.closes ? kOtherEnds : kOtherWait);
      state.has_reader = 1;
      cpu.store(kWord, channel::kAsleep);
      return cpu.go(kReaderTail);
    case kSlept:
    default:
      if (!visits) return cpu.go(kTop);
      return cpu.go(--me.visits == 0 ? kEnded : kTop);
  }
}

// --- Callers ---

void run_caller(Cpu& cpu, const Rules& rules) {
  State& state = cpu.state();
  Actor& me = cpu.me();
  const int getters = rules.threads - (rules.visitor ? 1 : 0);
  switch (me.step) {
    case kTop:
      if (rules.callers > 1) cpu.lock(kBeamMutex);
      return cpu.go(kPush);
    case kPush: {
      const Byte tail = cpu.load(kTail);
      state.requests[tail] = static_cast<Byte>((me.pushed + cpu.self() - kFirstCaller) % getters);
      ++me.pushed;
      cpu.store(kTail, tail + 1);
      return cpu.go(rules.callers > 1 ? kPushed : kRing);
    }
    case kPushed:
      cpu.unlock(kBeamMutex);
      return cpu.go(kRing);
    case kRing:
      if (rules.caller_fences_before_it_looks_at_the_worker) cpu.fence();
      return cpu.go(cpu.load(kWord) == channel::kAsleep ? kRingWake : kRang);
    case kRingWake:
      return cpu.go(cpu.compare_exchange(kWord, channel::kAsleep, kAwake) ? kRingFutex : kRang);
    case kRingFutex:
      cpu.futex_wake(kWord);
      return cpu.go(kRang);
    case kRang:
      if (cpu.load(kClosing)) return cpu.go(kEnded);
      if (me.pushed < rules.frames) return cpu.go(kTop);
      return cpu.go(rules.closes && cpu.self() == kFirstCaller + rules.callers - 1 ? kClose : kEnded);
    case kClose:
      cpu.store(kClosing, 1);
      return cpu.go(kRing);
    default:
      return cpu.stall();
  }
}

// --- The model ---

struct Worker {
  Rules rules;

  [[nodiscard]] int actors() const { return kFirstCaller + rules.callers; }

  void begin(State& state) const {
    const int getters = rules.threads - (rules.visitor ? 1 : 0);
    for (int i = rules.threads; i < kFirstCaller; ++i) state.actors[i].step = kEnded;
    if (rules.visitor) state.actors[rules.threads - 1].visits = 2;
    for (int caller = 0; caller < rules.callers; ++caller) {
      for (int frame = 0; frame < rules.frames; ++frame) ++state.actors[(frame + caller) % getters].wants;
    }
  }

  void run(Cpu& cpu) const {
    const Byte step = cpu.me().step;
    if (step == kEnded) return cpu.stall();
    if (cpu.self() >= kFirstCaller) return run_caller(cpu, rules);
    if (step >= kRead && step <= kTellFutex) return run_read(cpu, rules);
    if (step >= kReaderTail && step <= kHandOverFutex) return run_reader(cpu, rules);
    if (step >= kOtherEnds && step <= kOtherLeaves) return run_other(cpu);
    run_thread(cpu, rules);
  }

  template <class Add>
  void happen(const State& /*state*/, Add /*add*/) const {}

  [[nodiscard]] bool done(const State& state) const {
    if (rules.closes) {
      for (int i = 0; i < kFirstCaller; ++i) {
        if (state.actors[i].step != kEnded) return false;
      }
      return true;
    }
    for (int i = 0; i < kFirstCaller; ++i) {
      if (state.actors[i].wants != 0) return false;
    }
    return true;
  }

  [[nodiscard]] static const char* wrong(const State& /*state*/) { return nullptr; }
  [[nodiscard]] static bool ends() { return true; }

  [[nodiscard]] static std::string show(const State& state) {
    const Byte* memory = state.memory;
    return "worker_word " + std::to_string(memory[kWord]) + ", requests " + std::to_string(memory[kHead]) +
           "/" + std::to_string(memory[kTail]) + ", sleepers " + std::to_string(memory[kSleepers]) +
           ", reader " + std::to_string(state.has_reader) + ", closing " + std::to_string(memory[kClosing]);
  }
};

void expect_sound(const Rules& rules) { model::expect_sound<State>(Worker{rules}); }

void expect_fault(const Rules& rules, const char* fault) { model::expect_fault<State>(Worker{rules}, fault); }

// --- What holds ---

TEST(ReadersProtocol, TwoThreads) { expect_sound({}); }

TEST(ReadersProtocol, ThreeThreads) { expect_sound({.threads = 3, .frames = 2}); }

TEST(ReadersProtocol, TwoCallers) { expect_sound({.callers = 2, .frames = 1}); }

// It may be the reader when it leaves.
TEST(ReadersProtocol, OneThatLeaves) {
  expect_sound({.frames = 1, .visitor = true});
  expect_sound({.threads = 3, .frames = 1, .visitor = true});
}

TEST(ReadersProtocol, Closing) {
  expect_sound({.frames = 1, .closes = true});
  expect_sound({.threads = 3, .frames = 1, .closes = true});
}

// --- What each rule is for: without it, this is what happens ---

TEST(ReadersProtocolWithout, TheLockOfTheLanguage) {
  expect_fault({.one_reads_at_a_time = false}, kTwoConsumers);
}

TEST(ReadersProtocolWithout, FenceOfTheCaller) {
  expect_fault({.caller_fences_before_it_looks_at_the_worker = false}, kLost);
}

TEST(ReadersProtocolWithout, FenceOfTheReader) {
  expect_fault({.reader_fences_before_it_looks_again = false}, kLost);
}

TEST(ReadersProtocolWithout, SecondLookOfTheReader) {
  expect_fault({.reader_looks_at_the_ring_again = false}, kLost);
}

TEST(ReadersProtocolWithout, LookAtTheGeneration) {
  expect_fault({.reader_looks_at_the_generation = false}, kLost);
}

TEST(ReadersProtocolWithout, HandingOver) {
  expect_fault({.frames = 1, .visitor = true, .reader_hands_over = false}, kLost);
  expect_fault({.frames = 1, .closes = true, .reader_hands_over = false}, kLost);
}

// All sleep on the word, and whoever leaves makes it asleep for the others: also for one that was woken
// before it slept.
TEST(ReadersProtocolWithout, ASleepOfTheirOwnForTheOthers) {
  expect_fault({.threads = 3, .others_sleep_on_the_generation = false}, kLost);
}

TEST(ReadersProtocolWithout, TellingWhatWasRead) { expect_fault({.whoever_reads_tells = false}, kLost); }

TEST(ReadersProtocolWithout, WakingTheReader) {
  expect_fault({.whoever_reads_wakes_the_reader = false}, kLost);
}

}  // namespace
}  // namespace typhon::worker
