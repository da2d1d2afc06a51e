// A worker with several threads, as a model (testing/model.h): who reads its request ring, and who is woken
// for what was read. The actors are the router, two threads of Python that serve calls (lanes), and callers
// in the BEAM. Each does what native/worker/mailroom.cpp and router.cpp, and worker.cpp and ask.cpp of
// native/executor, do, step by step. What the GIL would order beyond that is left out, so that it holds
// without one, too. How a reply or a question gets to its caller is left to the other models; the event loop
// and the mailbox are in none.
//
// The main thread is a lane, or at first the one that reads the ring by itself, until another thread needs
// the router. Nobody sleeps on the worker's word then but the router: whoever starts it waits until the main
// thread has left that sleep.
//
// Proved, for the numbers of calls given in the tests:
//   - at most one thread at a time consumes the request ring, whether the router reads it or a lane that
//     spins in its stead;
//   - no wake-up is lost: each call is served and answered, each question of a lane gets its answer, and when
//     the channel closes all threads end. Waits that have a limit (the router's second) have none here: the
//     limit is needed for nothing of this.

#include <gtest/gtest.h>

#include <string>

#include "channel/layout.h"
#include "testing/model.h"

namespace typhon::channel {
namespace {

using model::Byte;
using model::kLost;
using model::kTwoConsumers;

// --- The state ---

enum Cell : Byte {
  kWorkerWord,
  kRequestTail,
  kRequestHead,
  kClosing,
  kBeamMutex,
  kReading,       // the mutex of whoever takes frames out
  kMutex,         // the inbox's
  kWaitingCalls,  // in the inbox: how many
  kDirect,        // the GIL, or what stands for it, of the thread that reads directly
  kRouted,
  kMainSleeps,  // on the worker's word, or is about to
  kParker,      // of the first lane; the second one's is behind it
  kCells = kParker + 2,
};

enum Parked : Byte { kEmpty, kSet, kParked };

constexpr int kRouter = 0;
constexpr int kFirstLane = 1;
constexpr int kLanes = 2;
constexpr int kFirstCaller = kFirstLane + kLanes;
constexpr int kMaxActors = kFirstCaller + 2;
constexpr int kMaxFrames = 6;
// Of a frame, beside its caller.
constexpr Byte kIsAnswer = 0x40;
constexpr Byte kCallerMask = 0x0f;

struct Actor : model::Actor {
  Byte after;   // the step after a pump
  Byte tail;    // what it saw of a count
  Byte seen;    // router: what it found in the word
  Byte call;    // lanes: the frame that is served; callers: what the next frame is
  Byte takes;   // lanes: it spins for calls, too
  Byte came;    // lanes: something came while it spun
  Byte whom;    // the lane to be unparked
  Byte direct;  // main: it reads the ring itself
  Byte left;    // callers: calls still to make
  Byte waits;   // callers: for so many answers
};

struct State {
  Byte memory[kCells];
  Byte requests[kMaxFrames];
  Byte taken;  // guarded by kReading: the consumer's own count
  Byte router_runs;
  // Guarded by kMutex:
  Byte calls[kMaxFrames];
  Byte queued;
  Byte idle[kLanes];  // lanes, the one that came last behind the others
  Byte idles;
  Byte spins;
  Byte takes_next;
  Byte serving;
  Byte waits_for[kLanes];  // the caller whose answer it is
  Byte has_answer[kLanes];
  // What callers have got:
  Byte asked;  // a bit for each
  Byte answers[kMaxActors];
  Byte finished;  // callers
  Actor actors[kMaxActors];
};

using Cpu = model::Cpu<State>;

struct Rules {
  int lanes = kLanes;
  int callers = 1;
  int calls_each = 1;
  bool at_once = false;  // a caller makes all of its calls before it waits
  bool asks = false;     // each call asks its caller something
  bool closes = false;   // the last caller closes the channel
  bool early = false;    // without waiting for its calls
  bool direct = false;   // the first lane reads the ring itself, until the second one starts the router
  bool visits = false;   // the second one serves no calls

  bool caller_fences_before_it_looks_at_the_worker = true;
  bool one_reads_at_a_time = true;
  bool direct_reader_is_awake_before_the_router_starts = true;
  bool router_looks_again = true;
  bool spinner_fences_before_it_looks_again = true;
  bool spinner_looks_again = true;
  bool spinner_ends_with_the_word_asleep = true;
  bool spinner_takes_back_that_it_takes_the_next_call = true;
  bool spinner_wakes_all_when_the_channel_closes = true;
  bool lane_looks_for_calls_once_it_is_idle = true;
  bool lane_resets_its_parker_before_it_looks = true;
};

enum Step : Byte {
  kTop,  // of the router's loop, a lane's, a caller's
  kEnded,

  // Lanes
  kTakeCall,
  kTakeCallLocked,
  kBegin,
  kAsk,
  kAskSend,
  kAnswerLook,
  kAnswerEnds,
  kAnswerSpun,
  kAnswerParked,
  kAnswerAgain,
  kReply,
  kEndCall,
  kSpun,
  kIdleLook,
  kIdleEnds,
  kPark,
  kParkWait,
  kIdleEnd,
  kFinishRouter,
  kFinishRouterWake,
  kFinishRouterWakeAll,

  // Reading it directly, and the end of that
  kReadDirectly,
  kDirectTail,
  kDirectHead,
  kDirectServe,
  kDirectTake,
  kDirectSleep,
  kDirectSleepTail,
  kDirectSleepHead,
  kDirectSleepRouted,
  kDirectWait,
  kDirectWaited,
  kDirectWoken,
  kStart,
  kStartOut,
  kStartNudge,
  kStartNudgeAll,
  kStartRouter,
  kStartWake,
  kStartWakeOne,
  kStartWakeAll,

  // Reading the ring in the router's stead
  kSpin,
  kSpinLook,
  kSpinStop,
  kSpinStopTail,
  kSpinStopHead,
  kSpinEnd,
  kSpinClosing,

  // Taking out what is there; the router and lanes
  kPump,
  kPumpLook,
  kPumpRoute,
  kPumpChoose,
  kPumpUnpark,
  kPumpFutex,
  kPumpUnlock,

  // Waking all lanes
  kWakeAll,
  kWakeAllUnpark,
  kWakeAllFutex,
  kWakeAllEnd,

  // Router
  kRouterSleep,
  kRouterSleepTail,
  kRouterSleepHead,
  kRouterSleepEnds,
  kRouterWait,
  kRouterWoken,

  // Callers
  kPush,
  kPushed,
  kRing,
  kRingWake,
  kRingFutex,
  kRang,
  kClose,
  kCloseRing,
};

// --- Shared passages ---

void pump(Cpu& cpu, Byte after) {
  cpu.me().after = after;
  cpu.go(kPump);
}

// Mailroom::route(). A passage under the mutex is one step for each access to what it does not guard.
void route(Cpu& cpu) {
  State& state = cpu.state();
  cpu.lock(kMutex);
  const Byte frame = cpu.forget(state.requests[state.taken]);
  if ((frame & kIsAnswer) == 0) {
    state.calls[state.queued++] = frame;
    cpu.fetch_add(kWaitingCalls, 1);
    return cpu.go(kPumpChoose);
  }
  for (Byte lane = 0; lane < kLanes; ++lane) {
    if (state.waits_for[lane] != (frame & kCallerMask)) continue;
    state.has_answer[lane] = 1;
    cpu.me().whom = lane;
    return cpu.go(kPumpUnpark);
  }
  cpu.go(kPumpUnlock);  // whoever asked has stopped waiting
}

void run_pump(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  State& state = cpu.state();
  switch (me.step) {
    case kPump:
      if (rules.one_reads_at_a_time) cpu.lock(kReading);
      [[fallthrough]];
    case kPumpLook:
      cpu.fence();  // whoever took a frame out looks for callers that wait for room
      me.owns_ring = cpu.load(kRequestTail) != state.taken;
      if (me.owns_ring) return cpu.go(kPumpRoute);
      if (rules.one_reads_at_a_time) cpu.unlock(kReading);
      return cpu.go(cpu.forget(me.after));
    case kPumpRoute:
      return route(cpu);
    // Mailroom::unpark_idle()
    case kPumpChoose:
      if (cpu.forget(state.takes_next) != 0 || state.idles == 0) return cpu.go(kPumpUnlock);
      me.whom = cpu.forget(state.idle[--state.idles]);
      [[fallthrough]];
    case kPumpUnpark:
      return cpu.go(cpu.exchange(kParker + me.whom, kSet) == kParked ? kPumpFutex : kPumpUnlock);
    case kPumpFutex:
      cpu.futex_wake(kParker + me.whom);
      return cpu.go(kPumpUnlock);
    case kPumpUnlock:
    default:
      cpu.forget(me.whom);
      cpu.unlock(kMutex);
      cpu.store(kRequestHead, ++state.taken);
      return cpu.go(kPumpLook);
  }
}

void run_wake_all(Cpu& cpu) {
  Actor& me = cpu.me();
  const auto next = [&] { cpu.go(++me.whom < kLanes ? kWakeAllUnpark : kWakeAllEnd); };
  switch (me.step) {
    case kWakeAll:
      cpu.lock(kMutex);
      return cpu.go(kWakeAllUnpark);
    case kWakeAllUnpark:
      return cpu.exchange(kParker + me.whom, kSet) == kParked ? cpu.go(kWakeAllFutex) : next();
    case kWakeAllFutex:
      cpu.futex_wake(kParker + me.whom);
      return next();
    case kWakeAllEnd:
    default:
      cpu.forget(me.whom);
      cpu.unlock(kMutex);
      return cpu.go_on();
  }
}

// --- Lanes ---

// Mailroom::start_spinning()
void start_spinning(Cpu& cpu) {
  State& state = cpu.state();
  Actor& me = cpu.me();
  if (cpu.either()) return cpu.go_on();  // others need the core
  cpu.locked(kMutex);
  const int own = me.takes ? 0 : 1;
  if (state.spins || state.serving > own) return cpu.go_on();
  state.spins = 1;
  state.takes_next = me.takes;
  cpu.store(kWorkerWord, Word::kSpin);
  cpu.go(kSpinLook);
}

// Mailroom::spin(); it goes on at `then`, and `came` says what it returned.
void run_spin(Cpu& cpu, const Rules& rules, Byte parker) {
  Actor& me = cpu.me();
  State& state = cpu.state();
  const auto something_came = [&](Byte after) {
    me.came = 1;
    pump(cpu, after);
  };
  const auto stop = [&] {
    if (rules.spinner_ends_with_the_word_asleep) cpu.store(kWorkerWord, Word::kAsleep);
    cpu.go(rules.spinner_looks_again ? kSpinStopTail : kSpinEnd);
  };
  switch (me.step) {
    case kSpin:
      return start_spinning(cpu);
    // Time is over, or something has come. Which of the three it looks at first makes no difference.
    case kSpinLook:
      if (cpu.either()) return stop();
      if (cpu.load(kRequestTail) != cpu.load(kRequestHead) || (me.takes && cpu.load(kWaitingCalls) != 0) ||
          cpu.load(parker) == kSet)
        return something_came(kSpinStop);
      return cpu.stall();
    case kSpinStop:
      return stop();
    case kSpinStopTail:
      if (rules.spinner_fences_before_it_looks_again) cpu.fence();
      me.tail = cpu.load(kRequestTail);
      return cpu.go(kSpinStopHead);
    case kSpinStopHead:
      return cpu.load(kRequestHead) != cpu.forget(me.tail) ? something_came(kSpinEnd) : cpu.go(kSpinEnd);
    case kSpinEnd:
      cpu.locked(kMutex);
      state.spins = 0;
      if (rules.spinner_takes_back_that_it_takes_the_next_call) state.takes_next = 0;
      return rules.closes ? cpu.go(kSpinClosing) : cpu.go_on();
    case kSpinClosing:
    default:
      if (cpu.load(kClosing) && rules.spinner_wakes_all_when_the_channel_closes) return cpu.go(kWakeAll);
      return cpu.go_on();
  }
}

void spin(Cpu& cpu, bool takes_calls, Byte then) {
  cpu.me().takes = takes_calls;
  cpu.pass(true, kSpin, then);
}

bool spun(Cpu& cpu) {
  cpu.forget(cpu.me().takes);
  return cpu.forget(cpu.me().came) != 0;
}

// Worker::ask(): it waits for the answer, and may read the ring for it.
void run_asking(Cpu& cpu, const Rules& rules, Byte parker) {
  Actor& me = cpu.me();
  State& state = cpu.state();
  const int lane = cpu.self() - kFirstLane;
  const auto reset = [&](Byte then) {
    if (rules.lane_resets_its_parker_before_it_looks) cpu.store(parker, kEmpty);
    cpu.go(then);
  };
  switch (me.step) {
    case kAsk:
      cpu.locked(kMutex);
      state.waits_for[lane] = me.call & kCallerMask;
      return cpu.go(kAskSend);
    case kAskSend:
      state.asked = state.asked | static_cast<Byte>(1U << (me.call & kCallerMask));
      return reset(kAnswerLook);
    case kAnswerLook:
      cpu.locked(kMutex);
      if (cpu.forget(state.has_answer[lane])) {
        cpu.forget(state.waits_for[lane]);
        return cpu.go(kReply);
      }
      if (!rules.lane_resets_its_parker_before_it_looks) cpu.store(parker, kEmpty);
      return rules.closes ? cpu.go(kAnswerEnds) : spin(cpu, false, kAnswerSpun);
    case kAnswerEnds:
      return cpu.load(kClosing) ? cpu.go(kReply) : spin(cpu, false, kAnswerSpun);
    case kAnswerSpun:
      if (spun(cpu)) return reset(kAnswerLook);
      if (cpu.compare_exchange(parker, kEmpty, kParked)) return cpu.go(kAnswerParked);
      return reset(kAnswerLook);
    case kAnswerParked:
      cpu.futex_wait(parker, kParked, false);
      return cpu.go(kAnswerAgain);
    case kAnswerAgain:
    default:
      return reset(kAnswerLook);
  }
}

// Worker::serve_as_lane()
void run_lane(Cpu& cpu, const Rules& rules, Byte parker) {
  Actor& me = cpu.me();
  State& state = cpu.state();
  const auto lane = static_cast<Byte>(cpu.self() - kFirstLane);
  const auto reset_and_spin = [&] {
    cpu.store(parker, kEmpty);
    spin(cpu, true, kSpun);
  };
  switch (me.step) {
    case kTop:
      if (me.direct) return cpu.go(kReadDirectly);
      if (rules.closes) return cpu.go(cpu.load(kClosing) ? (lane == 0 ? kFinishRouter : kEnded) : kTakeCall);
      [[fallthrough]];
    case kTakeCall:
      return cpu.load(kWaitingCalls) ? cpu.go(kTakeCallLocked) : reset_and_spin();
    case kTakeCallLocked: {
      cpu.locked(kMutex);
      if (state.queued == 0) return reset_and_spin();
      me.call = state.calls[0];
      for (int i = 1; i < kMaxFrames; ++i) state.calls[i - 1] = state.calls[i];
      state.calls[--state.queued] = 0;
      cpu.fetch_add(kWaitingCalls, -1);
      return cpu.go(kBegin);
    }
    case kBegin:
      cpu.locked(kMutex);
      ++state.serving;
      return cpu.go(rules.asks ? kAsk : kReply);
    case kReply:
      ++state.answers[cpu.forget(me.call)];
      return cpu.go(kEndCall);
    case kEndCall:
      cpu.locked(kMutex);
      --state.serving;
      return cpu.go(kTop);

    case kSpun:
      if (spun(cpu)) return cpu.go(kTop);
      cpu.locked(kMutex);
      state.idle[state.idles++] = lane;
      return cpu.go(rules.lane_looks_for_calls_once_it_is_idle ? kIdleLook : kPark);
    case kIdleLook:
      return cpu.go(cpu.load(kWaitingCalls) ? kIdleEnd : rules.closes ? kIdleEnds : kPark);
    case kIdleEnds:
      return cpu.go(cpu.load(kClosing) ? kIdleEnd : kPark);
    case kPark:
      return cpu.go(cpu.compare_exchange(parker, kEmpty, kParked) ? kParkWait : kIdleEnd);
    case kParkWait:
      cpu.futex_wait(parker, kParked, false);
      return cpu.go(kIdleEnd);
    case kIdleEnd:
      cpu.locked(kMutex);
      if (state.idles && state.idle[0] == lane) {
        state.idle[0] = state.idle[1];
        state.idle[1] = 0;
        --state.idles;
      } else if (state.idles == 2) {
        state.idle[--state.idles] = 0;
      }
      return cpu.go(kTop);

    // The main thread, before it ends, again and again.
    case kFinishRouter:
      if (state.actors[kRouter].step == kEnded) return cpu.go(kEnded);
      return cpu.go(cpu.compare_exchange(kWorkerWord, Word::kAsleep, kAwake) ? kFinishRouterWake
                                                                             : kFinishRouterWakeAll);
    case kFinishRouterWake:
      cpu.futex_wake(kWorkerWord);
      return cpu.go(kFinishRouter);
    case kFinishRouterWakeAll:
      cpu.futex_wake_all(kWorkerWord);
      return cpu.go(kFinishRouter);
    default:
      return cpu.stall();
  }
}

// Worker::serve_from_ring() and sleep_on_doorbell(), as long as there is no router.
void run_directly(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  State& state = cpu.state();
  switch (me.step) {
    case kReadDirectly:
      me.direct = cpu.load(kRouted) == 0;
      return cpu.go(me.direct ? kDirectTail : kTop);
    case kDirectTail:
      me.tail = cpu.load(kRequestTail);
      return cpu.go(kDirectHead);
    case kDirectHead:
      return cpu.go(cpu.load(kRequestHead) != cpu.forget(me.tail) ? kDirectServe : kDirectSleep);
    case kDirectServe:
      cpu.lock(kDirect);
      me.owns_ring = cpu.load(kRouted) == 0;
      if (me.owns_ring) return cpu.go(kDirectTake);
      cpu.unlock(kDirect);
      return cpu.go(kReadDirectly);
    case kDirectTake:
      me.call = cpu.forget(state.requests[state.taken]);
      cpu.store(kRequestHead, ++state.taken);
      cpu.unlock(kDirect);
      me.owns_ring = 0;
      return cpu.go(kBegin);
    case kDirectSleep:
      cpu.lock(kDirect);
      if (cpu.load(kRouted) == 0) {
        cpu.store(kWorkerWord, Word::kAsleep);
        if (rules.direct_reader_is_awake_before_the_router_starts) cpu.store(kMainSleeps, 1);
        cpu.unlock(kDirect);
        return cpu.go(kDirectSleepTail);
      }
      cpu.unlock(kDirect);
      return cpu.go(kReadDirectly);
    case kDirectSleepTail:
      cpu.fence();
      me.tail = cpu.load(kRequestTail);
      return cpu.go(kDirectSleepHead);
    case kDirectSleepHead:
      return cpu.go(cpu.load(kRequestHead) != cpu.forget(me.tail) ? kDirectWaited : kDirectSleepRouted);
    case kDirectSleepRouted:
      return cpu.go(cpu.load(kRouted) ? kDirectWaited : kDirectWait);
    case kDirectWait:
      cpu.futex_wait(kWorkerWord, Word::kAsleep, false);
      return cpu.go(kDirectWaited);
    case kDirectWaited:
      if (rules.direct_reader_is_awake_before_the_router_starts) cpu.store(kMainSleeps, 0);
      return cpu.go(kDirectWoken);
    case kDirectWoken:
    default:
      cpu.lock(kDirect);
      if (cpu.load(kRouted) == 0) cpu.store(kWorkerWord, kAwake);
      cpu.unlock(kDirect);
      return cpu.go(kReadDirectly);
  }
}

// Router::start()
void run_start(Cpu& cpu, const Rules& rules) {
  const Byte then = rules.visits ? kEnded : kTop;
  switch (cpu.me().step) {
    case kStart:
      cpu.lock(kDirect);
      cpu.store(kRouted, 1);
      cpu.unlock(kDirect);
      return cpu.go(rules.direct_reader_is_awake_before_the_router_starts ? kStartOut : kStartRouter);
    case kStartOut:
      cpu.fence();
      return cpu.go(cpu.load(kMainSleeps) ? kStartNudge : kStartRouter);
    case kStartNudge:
      cpu.compare_exchange(kWorkerWord, Word::kAsleep, kAwake);
      return cpu.go(kStartNudgeAll);
    case kStartNudgeAll:
      cpu.futex_wake_all(kWorkerWord);
      return cpu.go(kStartOut);
    case kStartRouter:
      cpu.fence();
      cpu.state().router_runs = 1;
      return cpu.go(rules.direct_reader_is_awake_before_the_router_starts ? then : Byte{kStartWake});
    case kStartWake:
      return cpu.go(cpu.compare_exchange(kWorkerWord, Word::kAsleep, kAwake) ? kStartWakeOne : kStartWakeAll);
    case kStartWakeOne:
      cpu.futex_wake(kWorkerWord);
      return cpu.go(then);
    case kStartWakeAll:
    default:
      cpu.futex_wake_all(kWorkerWord);
      return cpu.go(then);
  }
}

// --- The router ---

void run_router(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  switch (me.step) {
    case kTop:
      if (!cpu.state().router_runs) return cpu.stall();
      if (cpu.load(kClosing)) return cpu.pass(true, kWakeAll, kEnded);
      // That it looks at an empty ring for a while is the same as that it looks late.
      return pump(cpu, kRouterSleep);
    case kRouterSleep:
      cpu.compare_exchange(kWorkerWord, kAwake, Word::kAsleep);
      me.seen = cpu.load(kWorkerWord);
      return cpu.go(rules.router_looks_again ? kRouterSleepTail : kRouterWait);
    case kRouterSleepTail:
      cpu.fence();
      me.tail = cpu.load(kRequestTail);
      return cpu.go(kRouterSleepHead);
    case kRouterSleepHead:
      return cpu.go(cpu.load(kRequestHead) != cpu.forget(me.tail) ? kRouterWoken
                    : rules.closes                                ? kRouterSleepEnds
                                                                  : kRouterWait);
    case kRouterSleepEnds:
      return cpu.go(cpu.load(kClosing) ? kRouterWoken : kRouterWait);
    case kRouterWait:
      cpu.futex_wait(kWorkerWord, me.seen, false);
      return cpu.go(kRouterWoken);
    case kRouterWoken:
      cpu.forget(me.seen);
      cpu.compare_exchange(kWorkerWord, Word::kAsleep, kAwake);
      return cpu.go(kTop);
    default:
      return cpu.stall();
  }
}

// --- Callers ---

void push(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  const Byte tail = cpu.load(kRequestTail);
  if (!me.call) {
    --me.left;
    ++me.waits;
  }
  cpu.state().requests[tail] = static_cast<Byte>(cpu.self() | cpu.forget(me.call));
  cpu.store(kRequestTail, tail + 1);
  cpu.go(rules.callers > 1 ? kPushed : kRing);
}

// What comes next: its answer, a question, or the end.
void look_for_news(Cpu& cpu, const Rules& rules) {
  State& state = cpu.state();
  Actor& me = cpu.me();
  if (state.asked & cpu.bit()) {
    state.asked = state.asked & static_cast<Byte>(~cpu.bit());
    me.call = kIsAnswer;
    return cpu.go(kTop);
  }
  if (state.answers[cpu.self()] == 0) return cpu.stall();
  --state.answers[cpu.self()];
  if (--me.waits != 0) return cpu.go(kRang);
  if (me.left != 0) return cpu.go(kTop);
  cpu.go(++state.finished == rules.callers && rules.closes ? kClose : kEnded);
}

void run_caller(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  const auto rung = [&] { return cpu.go(cpu.load(kClosing) ? kEnded : kRang); };
  switch (me.step) {
    case kTop:
      if (rules.callers > 1) cpu.lock(kBeamMutex);
      return cpu.go(kPush);
    case kPush:
      return push(cpu, rules);
    case kPushed:
      cpu.unlock(kBeamMutex);
      return cpu.go(kRing);
    case kRing:
      if (rules.caller_fences_before_it_looks_at_the_worker) cpu.fence();
      return cpu.load(kWorkerWord) == Word::kAsleep ? cpu.go(kRingWake) : rung();
    case kRingWake:
      return cpu.compare_exchange(kWorkerWord, Word::kAsleep, kAwake) ? cpu.go(kRingFutex) : rung();
    case kRingFutex:
      cpu.futex_wake(kWorkerWord);
      return rung();
    case kRang:
      if (rules.at_once && me.left != 0) return cpu.go(kTop);
      return rules.early ? cpu.go(kClose) : look_for_news(cpu, rules);

    case kClose:
      cpu.store(kClosing, 1);
      return cpu.go(kCloseRing);
    case kCloseRing:
      cpu.fence();
      return cpu.go(cpu.load(kWorkerWord) == Word::kAsleep ? kRingWake : kEnded);
    default:
      return cpu.stall();
  }
}

// --- The model ---

struct Worker {
  Rules rules;

  [[nodiscard]] int actors() const { return kFirstCaller + rules.callers; }

  void begin(State& state) const {
    state.router_runs = !rules.direct;
    state.actors[kFirstLane].direct = rules.direct;
    if (rules.direct) state.actors[kFirstLane + 1].step = kStart;
    for (int i = kFirstLane + rules.lanes; i < kFirstCaller; ++i) state.actors[i].step = kEnded;
    for (int i = kFirstCaller; i < actors(); ++i) state.actors[i].left = static_cast<Byte>(rules.calls_each);
  }

  void run(Cpu& cpu) const {
    const Byte step = cpu.me().step;
    if (cpu.self() >= kFirstCaller) return run_caller(cpu, rules);
    const auto parker = static_cast<Byte>(kParker + cpu.self() - kFirstLane);
    if (step >= kPump && step <= kPumpUnlock) return run_pump(cpu, rules);
    if (step >= kWakeAll && step <= kWakeAllEnd) return run_wake_all(cpu);
    if (cpu.self() == kRouter) return run_router(cpu, rules);
    if (step >= kReadDirectly && step <= kDirectWoken) return run_directly(cpu, rules);
    if (step >= kStart && step <= kStartWakeAll) return run_start(cpu, rules);
    if (step >= kSpin && step <= kSpinClosing) return run_spin(cpu, rules, parker);
    if (step >= kAsk && step <= kAnswerAgain) return run_asking(cpu, rules, parker);
    run_lane(cpu, rules, parker);
  }

  template <class Add>
  void happen(const State& /*state*/, Add /*add*/) const {}

  [[nodiscard]] bool done(const State& state) const {
    for (int i = 0; i < kFirstCaller && rules.closes; ++i) {
      if (state.actors[i].step != kEnded) return false;
    }
    return rules.early || state.finished == rules.callers;
  }

  [[nodiscard]] static const char* wrong(const State& /*state*/) { return nullptr; }
  [[nodiscard]] static bool ends() { return true; }

  [[nodiscard]] static std::string show(const State& state) {
    const Byte* memory = state.memory;
    return "worker_word " + std::to_string(memory[kWorkerWord]) + ", requests " +
           std::to_string(memory[kRequestHead]) + "/" + std::to_string(memory[kRequestTail]) + ", calls " +
           std::to_string(memory[kWaitingCalls]) + ", parkers " + std::to_string(memory[kParker]) + " " +
           std::to_string(memory[kParker + 1]) + ", idle " + std::to_string(state.idles) + ", takes_next " +
           std::to_string(state.takes_next) + ", closing " + std::to_string(memory[kClosing]);
  }
};

void expect_sound(const Rules& rules) { model::expect_sound<State>(Worker{rules}); }

void expect_fault(const Rules& rules, const char* fault) { model::expect_fault<State>(Worker{rules}, fault); }

// --- What holds ---

TEST(WorkerProtocol, OneCall) { expect_sound({}); }

// A caller that takes its time makes them one after the other.
TEST(WorkerProtocol, CallsAtOnce) {
  expect_sound({.lanes = 1, .calls_each = 3, .at_once = true});
  expect_sound({.calls_each = 2, .at_once = true});
}

TEST(WorkerProtocol, TwoCallers) { expect_sound({.lanes = 1, .callers = 2}); }

TEST(WorkerProtocol, AQuestion) { expect_sound({.asks = true}); }

TEST(WorkerProtocol, AQuestionAndAnotherCall) { expect_sound({.lanes = 1, .callers = 2, .asks = true}); }

// The main thread reads the ring, and may be about to sleep, when a thread of the user's needs the router.
TEST(WorkerProtocol, TheRouterStarts) {
  expect_sound({.direct = true});
  expect_sound({.direct = true, .visits = true});
}

// At any moment: before the call is taken, while it runs, and when all is done.
TEST(WorkerProtocol, Closing) {
  expect_sound({.closes = true, .early = true});
  expect_sound({.lanes = 1, .asks = true, .closes = true, .early = true});
}

// --- What each rule is for: without it, this is what happens ---

TEST(WorkerProtocolWithout, FenceOfTheCaller) {
  expect_fault({.caller_fences_before_it_looks_at_the_worker = false}, kLost);
}

TEST(WorkerProtocolWithout, TheMutexOfWhoeverReads) {
  expect_fault({.one_reads_at_a_time = false}, kTwoConsumers);
}

TEST(WorkerProtocolWithout, AwakeningOfTheMainThreadBeforeTheRouterStarts) {
  // It sleeps on the word that is the router's now, and nobody wakes both.
  expect_fault({.direct = true, .visits = true, .direct_reader_is_awake_before_the_router_starts = false},
               kLost);
}

TEST(WorkerProtocolWithout, SecondLookOfTheRouter) { expect_fault({.router_looks_again = false}, kLost); }

TEST(WorkerProtocolWithout, FenceOfWhoeverSpun) {
  expect_fault({.spinner_fences_before_it_looks_again = false}, kLost);
}

TEST(WorkerProtocolWithout, SecondLookOfWhoeverSpun) { expect_fault({.spinner_looks_again = false}, kLost); }

TEST(WorkerProtocolWithout, TheWordAsleepAfterASpin) {
  expect_fault({.spinner_ends_with_the_word_asleep = false}, kLost);
}

TEST(WorkerProtocolWithout, TakingBackThatTheSpinnerTakesTheNextCall) {
  expect_fault({.spinner_takes_back_that_it_takes_the_next_call = false}, kLost);
}

TEST(WorkerProtocolWithout, WakingAllWhenTheChannelCloses) {
  expect_fault({.closes = true, .early = true, .spinner_wakes_all_when_the_channel_closes = false}, kLost);
}

TEST(WorkerProtocolWithout, LookForCallsOnceIdle) {
  expect_fault({.lane_looks_for_calls_once_it_is_idle = false}, kLost);
}

TEST(WorkerProtocolWithout, ResettingTheParkerBeforeTheLook) {
  expect_fault({.asks = true, .lane_resets_its_parker_before_it_looks = false}, kLost);
}

}  // namespace
}  // namespace typhon::channel
