// The doorbells of a channel as a model, and a check of every state that it can reach.
//
// Actors: the worker, the reader thread of the BEAM, and callers in the BEAM. Each runs a small program,
// written below step by step as native/beam and native/executor do it (docs/protocol.md says it in prose). A
// step touches shared memory at most once. The checker follows every interleaving of the steps, and every
// moment at which a store becomes visible: each actor has a store buffer, as processors do, so a store that
// was executed may be seen by the others later; only a fence, a compare-exchange or a system call waits until
// the buffer is empty. That is what the fences are for, and the tests that leave one out show that the
// checker would notice.
//
// Proved, for the numbers of calls and the ring sizes given in the tests:
//   - at most one actor at a time consumes the reply ring, also when the worker writes into the reader's word
//     whatever it likes, whenever it likes;
//   - no wake-up is lost: wherever the actors stand, the end can still be reached, and where nobody can move,
//     every call is answered and every cast was taken. (A wait with a limit may end by itself, one without
//     may not.)
//   - the same when callers vanish: one that was killed stops between two calls of the library, and never
//   does
//     what it was about to do.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "channel/layout.h"
#include "channel/test_support.h"

namespace typhon::channel {
namespace {

// --- The machine ---

using Byte = std::uint8_t;

enum Cell : Byte {
  kReaderWord,
  kWorkerWord,
  kRequestTail,
  kRequestHead,
  kReplyTail,
  kReplyHead,
  kRequestRoom,
  kReplyRoom,
  kRoomWanted,   // in the BEAM: somebody waits for {ref, :room}
  kMutex,        // in the BEAM: the channel's mutex
  kHeld,         // in the BEAM: somebody has the reader role
  kReaderLooks,  // in the BEAM: the reader waits with a limit, and looks after those who poll
  kPolling,      // in the BEAM: how many poll
  kCells,
};

constexpr int kWorker = 0;
constexpr int kReader = 1;
constexpr int kFirstCaller = 2;
constexpr int kMaxActors = 4;
constexpr int kMaxFrames = 6;
constexpr int kMaxBuffered = 3;
constexpr Byte kNowhere = 0xff;

struct Store {
  Byte cell;
  Byte value;
};

struct Actor {
  Byte step;
  Byte blocked_on;  // the cell of the futex it waits on, or kNowhere
  Byte limited;     // that wait has a time limit
  Byte owns_ring;   // it acts as the consumer of the reply ring
  Byte seen;        // what it found in a word
  Byte found;       // callers: the state to store back; reader: the state it rests in
  Byte tail;        // what it saw of a count
  Byte then;        // the step after a shared passage
  Byte left;        // callers: frames still to send
  Byte polls;       // callers: looks for its reply itself, turn by turn
  Byte buffered;
  Store buffer[kMaxBuffered];
};

// All bytes, no padding: states are compared and hashed as memory.
struct State {
  Byte memory[kCells];
  Byte requests[kMaxFrames];  // who sent the frame
  Byte replies[kMaxFrames];   // who gets it
  Byte answered;              // a bit for each caller: its reply has been delivered
  Byte room_waiters;          // guarded by kMutex
  Byte room_messages;         // {ref, :room} lies in its mailbox
  Actor actors[kMaxActors];

  bool operator==(const State& other) const { return std::memcmp(this, &other, sizeof *this) == 0; }
};
static_assert(std::has_unique_object_representations_v<State>);

// One actor's view of the machine during one step. A step that cannot be taken now (it needs an empty store
// buffer, or what it waits for has not come) calls stall().
class Cpu {
 public:
  Cpu(State& state, int self, bool choice) : state_(state), self_(self), choice_(choice) {}

  Actor& me() { return state_.actors[self_]; }
  State& state() { return state_; }
  Byte bit() const { return static_cast<Byte>(1U << self_); }

  Byte load(Cell cell) {
    const Actor& actor = me();
    for (int i = actor.buffered; i-- > 0;) {
      if (actor.buffer[i].cell == cell) return actor.buffer[i].value;
    }
    return state_.memory[cell];
  }
  void store(Cell cell, int value) {
    Actor& actor = me();
    if (actor.buffered == kMaxBuffered) return stall();
    actor.buffer[actor.buffered++] = {cell, static_cast<Byte>(value)};
  }
  void fence() {
    if (me().buffered != 0) stall();
  }
  // An atomic addition; what was there before.
  int fetch_add(Cell cell, int by) {
    fence();
    const int before = state_.memory[cell];
    state_.memory[cell] = static_cast<Byte>(before + by);
    return before;
  }
  bool compare_exchange(Cell cell, int from, int to) {
    fence();
    if (state_.memory[cell] != from) return false;
    state_.memory[cell] = static_cast<Byte>(to);
    return true;
  }
  void lock() {
    if (!compare_exchange(kMutex, 0, 1)) stall();
  }
  void unlock() { store(kMutex, 0); }
  // The system call compares and begins to wait in one go.
  void futex_wait(Cell cell, int expected, bool limited) {
    fence();
    if (state_.memory[cell] != expected) return;
    me().blocked_on = cell;
    me().limited = limited;
  }
  static void resume(Actor& actor) {
    actor.blocked_on = kNowhere;
    actor.limited = 0;
  }
  void futex_wake(Cell cell) {
    for (Actor& actor : state_.actors) {
      if (actor.blocked_on == cell) resume(actor);
    }
  }
  // Time, or something else that the model does not know, decides: both ways are followed.
  bool either() {
    asked_ = true;
    return choice_;
  }
  void stall() { stalled_ = true; }
  void go(Byte step) { me().step = step; }
  // A passage that ends at `then`, unless it is left out.
  void pass(bool needed, Byte passage, Byte then) {
    me().then = needed ? then : Byte{0};
    go(needed ? passage : then);
  }
  void go_on() { go(std::exchange(me().then, Byte{0})); }
  // What was seen is not needed any more: states that differ only in that are the same.
  Byte forget(Byte& seen) { return std::exchange(seen, Byte{0}); }

  bool stalled() const { return stalled_; }
  bool asked() const { return asked_; }

 private:
  State& state_;
  int self_;
  bool choice_;
  bool asked_ = false;
  bool stalled_ = false;
};

// --- The protocol ---

// What the actors do; a test that turns a rule off shows what the rule is for.
struct Rules {
  int callers = 1;
  int casters = 0;           // so many of the callers send frames without a reply
  int frames_each = 1;       // that each caller sends
  int spinners = 2;          // so many of them may take the reply ring, the last ones first
  int pollers = 0;           // so many may poll, the first ones of those who do not cast
  int mortals = 0;           // so many of the callers may vanish, the first ones
  bool reader_times = true;  // the reader may rest in kTimed
  bool hostile = false;      // the worker writes into the reader's word what it likes
  int request_ring = kMaxFrames;
  int reply_ring = kMaxFrames;

  bool worker_fences_before_it_looks_at_the_reader = true;
  bool worker_fences_before_it_looks_again = true;
  bool worker_looks_again = true;
  bool worker_wakes_a_timed_reader_for_room = true;
  bool worker_tries_timed_before_asleep = true;
  bool caller_fences_before_it_looks_at_the_worker = true;
  bool leaver_fences_before_it_looks_again = true;
  bool leaver_looks_again = true;
  bool leaver_looks_for_waiters_for_room = true;
  bool waiter_for_room_looks_again_once_it_is_registered = true;
  bool reader_fences_before_it_looks_again = true;
  bool reader_looks_again = true;
  bool reader_looks_again_when_it_ends_its_timed_rest = true;
  bool reader_limits_its_wait_while_a_caller_spins = true;
  bool reader_limits_its_wait_while_callers_poll = true;
  bool poller_rings_the_worker = true;
  bool reader_rings_for_those_who_vanish = true;
  bool reader_says_whether_it_looks = true;
  bool role_is_held_in_private_memory = true;
  bool consumers_wake_a_worker_that_waits_for_room = true;
  bool wakers_compare_before_they_store = true;
  bool takers_compare_before_they_store = true;

  // A ring that takes every frame of the test is never full: then nobody waits for room, and the steps that
  // look after those who do are left out.
  bool requests_fit() const { return callers * frames_each <= request_ring; }
  bool replies_fit() const { return callers * frames_each <= reply_ring; }
};

// Passages that several actors share: service_room() of the BEAM, and waking whoever waits for room in the
// reply ring. They end at the step in `then`.
enum Shared : Byte {
  kService = 100,
  kServiceLock,
  kServiceLook,
  kServiceAsk,
  kServiceLookAgain,
  kServiceSend,
  kServiceUnlock,
  kRoomForWorker,
  kRoomForWorkerTake,
  kRoomForWorkerWake,
  kRingForOthers,
  kRingForOthersWake,
  kRingForOthersFutex,
};

void shared_passage(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  State& state = cpu.state();
  const auto half_empty = [&] {
    return 2 * (cpu.load(kRequestTail) - cpu.load(kRequestHead)) <= rules.request_ring;
  };
  switch (me.step) {
    case kService:
      return cpu.load(kRoomWanted) ? cpu.go(kServiceLock) : cpu.go_on();
    case kServiceLock:
      cpu.lock();
      return cpu.go(kServiceLook);
    case kServiceLook:
      return cpu.go(half_empty() ? kServiceSend : kServiceAsk);
    case kServiceAsk:
      cpu.store(kRequestRoom, 1);
      return cpu.go(kServiceLookAgain);
    case kServiceLookAgain:
      cpu.fence();
      return cpu.go(half_empty() ? kServiceSend : kServiceUnlock);
    case kServiceSend:
      state.room_messages = state.room_messages | state.room_waiters;
      state.room_waiters = 0;
      cpu.store(kRoomWanted, 0);
      return cpu.go(kServiceUnlock);
    case kServiceUnlock:
      cpu.unlock();
      return cpu.go_on();

    case kRoomForWorker:
      cpu.fence();
      return cpu.load(kReplyRoom) ? cpu.go(kRoomForWorkerTake) : cpu.go_on();
    case kRoomForWorkerTake:
      return cpu.compare_exchange(kReplyRoom, 1, 0) ? cpu.go(kRoomForWorkerWake) : cpu.go_on();
    case kRoomForWorkerWake:
      cpu.futex_wake(kReplyRoom);
      return cpu.go_on();

    // The reader, for callers that vanished before they rang.
    case kRingForOthers:
      cpu.fence();
      if (cpu.load(kRequestTail) == cpu.load(kRequestHead) || cpu.load(kWorkerWord) != Word::kAsleep)
        return cpu.go_on();
      return cpu.go(kRingForOthersWake);
    case kRingForOthersWake:
      return cpu.compare_exchange(kWorkerWord, Word::kAsleep, kAwake) ? cpu.go(kRingForOthersFutex)
                                                                      : cpu.go_on();
    case kRingForOthersFutex:
      cpu.futex_wake(kWorkerWord);
      return cpu.go_on();
    default:
      return;
  }
}

// Takes one frame off the reply ring and delivers it.
void deliver_next(Cpu& cpu) {
  State& state = cpu.state();
  const Byte head = cpu.load(kReplyHead);
  state.answered = state.answered | static_cast<Byte>(1U << cpu.forget(state.replies[head]));
  cpu.store(kReplyHead, head + 1);
}

bool wake_from(Cpu& cpu, const Rules& rules, Cell word, Byte from) {
  if (rules.wakers_compare_before_they_store) return cpu.compare_exchange(word, from, kAwake);
  cpu.store(word, kAwake);
  return true;
}

namespace caller {
enum Step : Byte {
  kBegin,
  kLookAtWord,
  kTakeRing,
  kHoldRing,
  kLock,
  kPollEnter,
  kPollEnterLook,
  kPush,
  kAskForRoom,
  kPushAgain,
  kRegister,
  kUnlockWithoutRoom,
  kUnlock,
  kRingLook,
  kRingWake,
  kRingFutex,
  kSent,
  kLateLook,
  kLateTake,
  kLateHold,
  kSpinLook,
  kSpinPop,
  kLetGo,
  kLeave,
  kLeaveTail,
  kLeaveHead,
  kLeaveWake,
  kLeaveFutex,
  kLeft,
  kPollBegin,
  kPollTurn,
  kPollRing,
  kPollRingWake,
  kPollRingFutex,
  kPollAgain,
  kPollStop,
  kPollStopWord,
  kPollStopTail,
  kPollStopHead,
  kPollStopWake,
  kPollStopFutex,
  kAwaitReply,
  kAwaitRoom,
  kFinished,
  kGone,
};

// Between two calls of the library a process may be killed.
bool may_vanish(Byte step) {
  return step == kBegin || step == kPollTurn || step == kAwaitReply || step == kAwaitRoom;
}

void run(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  State& state = cpu.state();
  const auto self = static_cast<Byte>(&me - state.actors);
  const bool casts = self < kFirstCaller + rules.casters;
  const bool spins = !casts && self >= kFirstCaller + rules.callers - rules.spinners;
  const bool polls = !casts && self < kFirstCaller + rules.casters + rules.pollers;
  const auto may_take = [](Byte word) {
    return word == Word::kAsleep || word == Word::kTimed || word == Word::kPolled;
  };
  const auto take = [&] {
    const Byte seen = cpu.forget(me.seen);
    if (!rules.takers_compare_before_they_store) {
      cpu.store(kReaderWord, Word::kSpin);
    } else if (!cpu.compare_exchange(kReaderWord, seen, Word::kSpin)) {
      return false;
    }
    me.found = seen;
    me.owns_ring = !rules.hostile;  // else it has to hold the role, too
    return true;
  };
  // With an honest worker nobody else can hold it here.
  const auto hold = [&] {
    if (!cpu.compare_exchange(kHeld, 0, 1) && rules.role_is_held_in_private_memory) {
      cpu.forget(me.found);
      return false;
    }
    me.owns_ring = 1;
    return true;
  };
  const auto push = [&] {
    const Byte tail = cpu.load(kRequestTail);  // guarded by the mutex
    if (tail - cpu.load(kRequestHead) >= rules.request_ring) return false;
    state.requests[tail] = self;
    cpu.store(kRequestTail, tail + 1);
    return true;
  };
  const Step left = me.polls ? kPollRing : kLeft;
  switch (me.step) {
    case kBegin:
      return cpu.go(spins && cpu.either() ? kLookAtWord : kLock);
    case kLookAtWord:
      me.seen = cpu.load(kReaderWord);
      return cpu.go(may_take(me.seen) ? kTakeRing : (cpu.forget(me.seen), kLock));
    case kTakeRing:
      return cpu.go(take() && rules.hostile ? kHoldRing : kLock);
    case kHoldRing:
      hold();
      return cpu.go(kLock);

    case kLock:
      cpu.lock();
      return cpu.go(polls && !me.owns_ring ? kPollEnter : kPush);
    // Only while the reader looks after those who poll.
    case kPollEnter:
      cpu.fetch_add(kPolling, 1);
      me.polls = 1;
      return cpu.go(rules.reader_says_whether_it_looks ? kPollEnterLook : kPush);
    case kPollEnterLook:
      if (cpu.load(kReaderLooks) == 0) {
        cpu.fetch_add(kPolling, -1);
        me.polls = 0;
      }
      return cpu.go(kPush);
    case kPush:
      return cpu.go(push() ? kUnlock : kAskForRoom);
    case kAskForRoom:
      cpu.store(kRequestRoom, 1);
      return cpu.go(kPushAgain);
    case kPushAgain:
      cpu.fence();
      return cpu.go(push() ? kUnlock : kRegister);
    case kRegister:
      state.room_waiters = state.room_waiters | cpu.bit();
      cpu.store(kRoomWanted, 1);
      return cpu.go(kUnlockWithoutRoom);
    case kUnlockWithoutRoom:
      if (me.polls) cpu.fetch_add(kPolling, -1);
      me.polls = 0;
      cpu.unlock();
      return cpu.go(me.owns_ring ? kLetGo : kLeft);

    case kUnlock:
      cpu.unlock();
      me.left -= 1;
      return cpu.go(me.polls ? kPollBegin : kRingLook);
    case kRingLook:
      if (rules.caller_fences_before_it_looks_at_the_worker) cpu.fence();
      return cpu.go(cpu.load(kWorkerWord) == Word::kAsleep ? kRingWake : kSent);
    case kRingWake:
      return cpu.go(wake_from(cpu, rules, kWorkerWord, Word::kAsleep) ? kRingFutex : kSent);
    case kRingFutex:
      cpu.futex_wake(kWorkerWord);
      return cpu.go(kSent);
    case kSent:  // nothing shared: decides what comes next
      if (casts) return cpu.go(me.left ? kBegin : kFinished);
      if (me.owns_ring) return cpu.go(kSpinLook);
      return cpu.go(spins && cpu.either() ? kLateLook : kAwaitReply);
    case kLateLook:
      me.seen = cpu.load(kReaderWord);
      return cpu.go(may_take(me.seen) ? kLateTake : (cpu.forget(me.seen), kAwaitReply));
    case kLateTake:
      if (!take()) return cpu.go(me.polls ? kPollRing : kAwaitReply);
      return cpu.go(rules.hostile ? kLateHold : kSpinLook);
    case kLateHold:
      return cpu.go(hold() ? kSpinLook : me.polls ? kPollRing : kAwaitReply);

    // Looking at an empty ring again and again is the same as taking this step late.
    case kSpinLook:
      return cpu.go(cpu.load(kReplyTail) != cpu.load(kReplyHead) ? kSpinPop : kLetGo);
    case kSpinPop:
      deliver_next(cpu);
      return cpu.go(state.answered & cpu.bit() ? kLetGo : kSpinLook);  // a poller's next turn drains the rest

    case kLetGo:
      me.owns_ring = 0;
      if (rules.hostile) cpu.store(kHeld, 0);
      return cpu.go(kLeave);
    case kLeave:
      cpu.store(kReaderWord, me.found);
      return cpu.pass(!rules.replies_fit() && rules.consumers_wake_a_worker_that_waits_for_room,
                      kRoomForWorker,
                      rules.leaver_looks_again && me.found != Word::kPolled ? kLeaveTail : left);
    case kLeaveTail:
      if (rules.leaver_fences_before_it_looks_again) cpu.fence();
      me.tail = cpu.load(kReplyTail);
      return cpu.go(kLeaveHead);
    case kLeaveHead:
      return cpu.go(cpu.load(kReplyHead) != cpu.forget(me.tail) ? kLeaveWake : left);
    case kLeaveWake:
      return cpu.go(wake_from(cpu, rules, kReaderWord, me.found) ? kLeaveFutex : left);
    case kLeaveFutex:
      cpu.futex_wake(kReaderWord);
      return cpu.go(left);
    case kLeft: {
      cpu.fence();  // it has passed one already, or never owned the ring
      cpu.forget(me.found);
      const bool waits = ((state.room_waiters | state.room_messages) & cpu.bit()) != 0;
      const bool looks = waits ? rules.waiter_for_room_looks_again_once_it_is_registered
                               : rules.leaver_looks_for_waiters_for_room;
      return cpu.pass(looks && !rules.requests_fit(), kService,
                      waits      ? kAwaitRoom
                      : me.polls ? kPollAgain
                                 : kAwaitReply);
    }

    // Who polls does not wake the worker yet: more requests may follow before its turn comes.
    case kPollBegin:
      cpu.compare_exchange(kReaderWord, Word::kTimed, Word::kPolled);
      return cpu.go(kPollTurn);
    case kPollTurn:
      if (state.answered & cpu.bit()) return cpu.go(kPollStop);
      me.seen = cpu.load(kReaderWord);
      return cpu.go(spins && may_take(me.seen) && cpu.either() ? kLateTake
                                                               : (cpu.forget(me.seen), kPollRing));
    case kPollRing:
      cpu.fence();
      if (!rules.poller_rings_the_worker || cpu.load(kWorkerWord) != Word::kAsleep) return cpu.go(kLeft);
      return cpu.go(kPollRingWake);
    case kPollRingWake:
      return cpu.go(wake_from(cpu, rules, kWorkerWord, Word::kAsleep) ? kPollRingFutex : kLeft);
    case kPollRingFutex:
      cpu.futex_wake(kWorkerWord);
      return cpu.go(kLeft);
    // Its next turn, or it has waited for long enough and waits for a message.
    case kPollAgain:
      return cpu.go(cpu.either() ? kPollTurn : kPollStop);
    case kPollStop:
      me.polls = 0;
      return cpu.go(cpu.fetch_add(kPolling, -1) > 1 ? kAwaitReply : kPollStopWord);
    // The last one who polls.
    case kPollStopWord:
      return cpu.go(cpu.compare_exchange(kReaderWord, Word::kPolled, Word::kTimed) ? kPollStopTail
                                                                                   : kAwaitReply);
    case kPollStopTail:
      me.tail = cpu.load(kReplyTail);
      return cpu.go(kPollStopHead);
    case kPollStopHead:
      return cpu.go(cpu.load(kReplyHead) != cpu.forget(me.tail) ? kPollStopWake : kAwaitReply);
    case kPollStopWake:
      return cpu.go(wake_from(cpu, rules, kReaderWord, Word::kTimed) ? kPollStopFutex : kAwaitReply);
    case kPollStopFutex:
      cpu.futex_wake(kReaderWord);
      return cpu.go(kAwaitReply);

    case kAwaitRoom:
      if (!(state.room_messages & cpu.bit())) return cpu.stall();
      state.room_messages = state.room_messages & static_cast<Byte>(~cpu.bit());
      return cpu.go(kBegin);
    case kAwaitReply:
      if (!(state.answered & cpu.bit())) return cpu.stall();
      state.answered = state.answered & static_cast<Byte>(~cpu.bit());
      return cpu.go(me.left ? kBegin : kFinished);
    case kFinished:
    case kGone:
      return cpu.stall();
    default:
      return shared_passage(cpu, rules);
  }
}
}  // namespace caller

namespace reader {
enum Step : Byte {
  kLook,
  kWait,
  kWoken,
  kHold,
  kTimed,
  kTimedTail,
  kTimedHead,
  kTimedTake,
  kMaySleep,
  kMaySleepReap,
  kMaySleepNot,
  kEndTimed,
  kEndTimedTail,
  kEndTimedHead,
  kEndTimedTake,
  kDrainLook,
  kDrainPop,
  kRest,
  kLetGo,
  kRestStore,
  kRestTail,
  kRestHead,
  kRestBack,
};

void run(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  switch (me.step) {
    case kLook:
      me.seen = cpu.load(kReaderWord);
      if (rules.hostile && cpu.either()) return cpu.go(kHold);  // nobody seems to read
      if (me.seen != Word::kAwake) return cpu.go(kWait);
      if (rules.hostile) return cpu.go(kHold);
      cpu.forget(me.seen);
      me.owns_ring = 1;
      return cpu.go(kDrainLook);
    case kHold:
      if (!cpu.compare_exchange(kHeld, 0, 1) && rules.role_is_held_in_private_memory) return cpu.go(kWait);
      cpu.forget(me.seen);
      me.owns_ring = 1;
      return cpu.go(kDrainLook);
    case kWait: {
      const bool limited = me.seen == Word::kTimed ||
                           (me.seen == Word::kSpin && rules.reader_limits_its_wait_while_a_caller_spins) ||
                           (me.seen == Word::kPolled && rules.reader_limits_its_wait_while_callers_poll) ||
                           rules.hostile;
      cpu.futex_wait(kReaderWord, me.seen, limited);
      return cpu.go(kWoken);
    }
    case kWoken: {
      const Byte seen = cpu.forget(me.seen);
      const Byte now = cpu.load(kReaderWord);
      if (seen == Word::kAsleep || (now != Word::kTimed && now != Word::kPolled)) return cpu.go(kLook);
      me.found = now;
      return cpu.pass(now == Word::kPolled && !rules.requests_fit(), kService, kTimed);
    }
    case kTimed:
      return cpu.pass(rules.mortals > 0 && rules.reader_rings_for_those_who_vanish, kRingForOthers,
                      kTimedTail);
    case kTimedTail:
      me.tail = cpu.load(kReplyTail);
      return cpu.go(kTimedHead);
    case kTimedHead:
      if (cpu.load(kReplyHead) != cpu.forget(me.tail)) return cpu.go(kTimedTake);
      if (!cpu.either()) return cpu.go((cpu.forget(me.found), kLook));
      return cpu.go(me.found == Word::kPolled ? kEndTimed : kMaySleep);
    case kTimedTake:
      cpu.compare_exchange(kReaderWord, cpu.forget(me.found), Word::kAwake);
      return cpu.go(kLook);
    // Nothing has come for some rounds: from now on it has to be woken. Not while callers poll, but for those
    // that have vanished.
    case kMaySleep:
      if (rules.pollers == 0) return cpu.go(kEndTimed);
      cpu.store(kReaderLooks, 0);
      return cpu.go(kMaySleepReap);
    case kMaySleepReap: {
      cpu.fence();
      if (cpu.stalled()) return;
      for (Actor& actor : cpu.state().actors) {
        if (actor.step != caller::kGone || !actor.polls) continue;
        actor.polls = 0;
        cpu.fetch_add(kPolling, -1);
      }
      if (cpu.load(kPolling) != 0 && rules.reader_says_whether_it_looks) return cpu.go(kMaySleepNot);
      return cpu.pass(rules.mortals > 0 && rules.reader_rings_for_those_who_vanish, kRingForOthers,
                      me.found == Word::kAwake ? kLetGo : kEndTimed);
    }
    case kMaySleepNot:
      cpu.store(kReaderLooks, 1);
      if (me.found != Word::kAwake) return cpu.go((cpu.forget(me.found), kLook));
      me.found = Word::kTimed;
      return cpu.go(kLetGo);
    case kEndTimed:
      if (cpu.forget(me.found) == Word::kPolled) {
        cpu.compare_exchange(kReaderWord, Word::kPolled, Word::kTimed);
        return cpu.go(kLook);
      }
      cpu.compare_exchange(kReaderWord, Word::kTimed, Word::kAsleep);
      return cpu.go(rules.reader_looks_again_when_it_ends_its_timed_rest ? kEndTimedTail : kLook);
    case kEndTimedTail:
      cpu.fence();
      me.tail = cpu.load(kReplyTail);
      return cpu.go(kEndTimedHead);
    case kEndTimedHead:
      return cpu.go(cpu.load(kReplyHead) != cpu.forget(me.tail) ? kEndTimedTake : kLook);
    case kEndTimedTake:
      cpu.compare_exchange(kReaderWord, Word::kAsleep, Word::kAwake);
      return cpu.go(kLook);

    case kDrainLook:
      if (cpu.load(kReplyTail) != cpu.load(kReplyHead)) return cpu.go(kDrainPop);
      return cpu.pass(!rules.requests_fit(), kService, kRest);
    case kDrainPop:
      deliver_next(cpu);
      return cpu.go(kDrainLook);

    case kRest:
      if (rules.reader_times && cpu.either()) {
        me.found = Word::kTimed;
        if (rules.pollers > 0) cpu.store(kReaderLooks, 1);
        return cpu.go(kLetGo);
      }
      me.found = Word::kAwake;  // whether it may sleep is not known yet
      return cpu.go(rules.pollers > 0 ? kMaySleep : kLetGo);
    case kLetGo:
      if (me.found == Word::kAwake) me.found = Word::kAsleep;
      me.owns_ring = 0;
      if (rules.hostile) cpu.store(kHeld, 0);
      return cpu.go(kRestStore);
    case kRestStore:
      if (me.found == Word::kTimed && rules.pollers > 0 && cpu.either()) me.found = Word::kPolled;
      cpu.store(kReaderWord, me.found);
      return cpu.pass(
          !rules.replies_fit() && rules.consumers_wake_a_worker_that_waits_for_room, kRoomForWorker,
          rules.reader_looks_again && me.found != Word::kPolled ? kRestTail : (cpu.forget(me.found), kLook));
    case kRestTail:
      if (rules.reader_fences_before_it_looks_again) cpu.fence();
      me.tail = cpu.load(kReplyTail);
      return cpu.go(kRestHead);
    case kRestHead:
      return cpu.go(cpu.load(kReplyHead) != cpu.forget(me.tail) ? kRestBack : kLook);
    case kRestBack:
      cpu.compare_exchange(kReaderWord, cpu.forget(me.found), Word::kAwake);
      return cpu.go(kLook);
    default:
      return shared_passage(cpu, rules);
  }
}
}  // namespace reader

namespace worker {
enum Step : Byte {
  kLook,
  kPop,
  kRoomLook,
  kRoomTake,
  kRoomWake,
  kRoomWakeOther,
  kRoomFutex,
  kServe,
  kAskForRoom,
  kReplyAgain,
  kAwaitRoom,
  kRingLook,
  kRingWake,
  kRingFutex,
  kSleep,
  kSleepLook,
  kStayAwake,
  kWait,
  kWoken,
};

void run(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  State& state = cpu.state();
  const auto reply = [&] {
    const Byte tail = cpu.load(kReplyTail);
    if (tail - cpu.load(kReplyHead) >= rules.reply_ring) return false;
    state.replies[tail] = cpu.forget(me.found);
    cpu.store(kReplyTail, tail + 1);
    return true;
  };
  switch (me.step) {
    case kLook:
      return cpu.go(cpu.load(kRequestTail) != cpu.load(kRequestHead) ? kPop : kSleep);
    case kPop: {
      const Byte head = cpu.load(kRequestHead);
      me.found = cpu.forget(state.requests[head]);  // whom to answer
      cpu.store(kRequestHead, head + 1);
      return cpu.go(rules.requests_fit() ? kServe : kRoomLook);
    }

    // Callers that wait for room: the reader tells them.
    case kRoomLook:
      cpu.fence();
      if (2 * (cpu.load(kRequestTail) - cpu.load(kRequestHead)) > rules.request_ring) return cpu.go(kServe);
      return cpu.go(cpu.load(kRequestRoom) ? kRoomTake : kServe);
    case kRoomTake:
      return cpu.go(cpu.compare_exchange(kRequestRoom, 1, 0) ? kRoomWake : kServe);
    case kRoomWake: {
      const Byte first = rules.worker_tries_timed_before_asleep ? Word::kTimed : Word::kAsleep;
      const bool may = first == Word::kAsleep || rules.worker_wakes_a_timed_reader_for_room;
      return cpu.go(may && wake_from(cpu, rules, kReaderWord, first) ? kRoomFutex : kRoomWakeOther);
    }
    case kRoomWakeOther: {
      const Byte second = rules.worker_tries_timed_before_asleep ? Word::kAsleep : Word::kTimed;
      const bool may = second == Word::kAsleep || rules.worker_wakes_a_timed_reader_for_room;
      return cpu.go(may && wake_from(cpu, rules, kReaderWord, second) ? kRoomFutex : kServe);
    }
    case kRoomFutex:
      cpu.futex_wake(kReaderWord);
      return cpu.go(kServe);

    case kServe:
      if (me.found < kFirstCaller + rules.casters) return cpu.go((cpu.forget(me.found), kLook));
      return cpu.go(reply() ? kRingLook : kAskForRoom);
    case kAskForRoom:
      cpu.store(kReplyRoom, 1);
      return cpu.go(kReplyAgain);
    case kReplyAgain:
      cpu.fence();
      return cpu.go(reply() ? kRingLook : kAwaitRoom);
    case kAwaitRoom:
      cpu.futex_wait(kReplyRoom, 1, false);
      return cpu.go(kServe);

    case kRingLook:
      if (rules.worker_fences_before_it_looks_at_the_reader) cpu.fence();
      me.seen = cpu.load(kReaderWord);
      if (me.seen == Word::kAsleep) return cpu.go(kRingWake);
      // A wake of a timed reader may be put off: its limit will do.
      if (me.seen == Word::kTimed && cpu.either()) return cpu.go(kRingWake);
      return cpu.go((cpu.forget(me.seen), kLook));
    case kRingWake:
      return cpu.go(wake_from(cpu, rules, kReaderWord, cpu.forget(me.seen)) ? kRingFutex : kLook);
    case kRingFutex:
      cpu.futex_wake(kReaderWord);
      return cpu.go(kLook);

    case kSleep:
      cpu.store(kWorkerWord, Word::kAsleep);
      return cpu.go(rules.worker_looks_again ? kSleepLook : kWait);
    case kSleepLook:
      if (rules.worker_fences_before_it_looks_again) cpu.fence();
      return cpu.go(cpu.load(kRequestTail) != cpu.load(kRequestHead) ? kStayAwake : kWait);
    case kStayAwake:
      cpu.store(kWorkerWord, Word::kAwake);
      return cpu.go(kLook);
    case kWait:
      cpu.futex_wait(kWorkerWord, Word::kAsleep, false);
      return cpu.go(kWoken);
    case kWoken:
      return cpu.go(cpu.load(kWorkerWord) == Word::kAsleep ? kWait : kLook);
    default:
      return;
  }
}
}  // namespace worker

// --- The checker ---

struct Verdict {
  std::size_t states = 0;
  std::string fault;  // empty: none was found
};

class Checker {
 public:
  explicit Checker(const Rules& rules)
      : rules_(rules), actors_(kFirstCaller + rules.callers), table_(1 << 16) {}

  Verdict check() {
    add(initial(), kNone);
    for (std::uint32_t index = 0; index < states_.size(); ++index) {
      const State state = states_[index];
      if (two_consumers(state))
        return {states_.size(), "two consumers of the reply ring at once" + path(index)};
      if (!expand(state, index) && !rules_.hostile && !done(state)) {
        return {states_.size(), "everyone waits, and not all is done" + path(index)};
      }
      if (states_.size() > kLimit) return {states_.size(), "too many states to check"};
    }
    // What a hostile worker does to its own calls is its own affair.
    return {states_.size(), rules_.hostile ? "" : end_out_of_reach()};
  }

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  static constexpr std::size_t kLimit = 6'000'000;

  State initial() const {
    State state;
    std::memset(&state, 0, sizeof state);
    state.memory[kReaderWord] = Word::kAsleep;
    for (Actor& actor : state.actors) actor.blocked_on = kNowhere;
    for (int i = kFirstCaller; i < actors_; ++i) state.actors[i].left = static_cast<Byte>(rules_.frames_each);
    return state;
  }

  bool two_consumers(const State& state) const {
    int owners = 0;
    for (const Actor& actor : state.actors) owners += actor.owns_ring;
    return owners > 1;
  }

  bool done(const State& state) const {
    for (int i = kFirstCaller; i < actors_; ++i) {
      if (state.actors[i].step != caller::kFinished && state.actors[i].step != caller::kGone) return false;
    }
    return state.memory[kRequestTail] == state.memory[kRequestHead] &&
           state.memory[kReplyTail] == state.memory[kReplyHead];
  }

  // Adds every state that one move leads to. False when nobody can move.
  bool expand(const State& state, std::uint32_t from) {
    bool moved = false;
    for (int self = 0; self < actors_; ++self) {
      const Actor& actor = state.actors[self];
      if (actor.buffered > 0) {  // its oldest store becomes visible
        State next = state;
        Actor& me = next.actors[self];
        next.memory[me.buffer[0].cell] = me.buffer[0].value;
        for (int i = 1; i < kMaxBuffered; ++i) me.buffer[i - 1] = me.buffer[i];
        me.buffer[kMaxBuffered - 1] = {};
        me.buffered -= 1;
        add(next, from);
        moved = true;
      }
      if (actor.blocked_on != kNowhere) {
        if (!actor.limited) continue;
        State next = state;
        Cpu::resume(next.actors[self]);
        add(next, from);
        moved = true;
        continue;
      }
      if (self >= kFirstCaller && self < kFirstCaller + rules_.mortals && caller::may_vanish(actor.step)) {
        State next = state;
        vanish(next, self);
        add(next, from);
      }
      for (const bool choice : {false, true}) {
        State next = state;
        Cpu cpu(next, self, choice);
        if (self == kWorker) worker::run(cpu, rules_);
        if (self == kReader) reader::run(cpu, rules_);
        if (self >= kFirstCaller) caller::run(cpu, rules_);
        if (!cpu.stalled()) {
          add(next, from);
          moved = true;
        }
        if (!cpu.asked()) break;
      }
    }
    if (rules_.hostile) {
      for (const Word word : {kAwake, kAsleep, kSpin, kTimed, kPolled}) {
        State next = state;
        next.memory[kReaderWord] = static_cast<Byte>(word);
        add(next, from);
      }
    }
    return moved;
  }

  // Its reply is dropped, and its stores become visible as ever. That it polled is known until the reader has
  // looked.
  static void vanish(State& state, int self) {
    Actor& me = state.actors[self];
    const auto bit = static_cast<Byte>(1U << self);
    state.room_waiters = state.room_waiters & static_cast<Byte>(~bit);
    state.room_messages = state.room_messages & static_cast<Byte>(~bit);
    me.step = caller::kGone;
    me.seen = me.found = me.tail = me.then = me.left = 0;
  }

  void add(const State& state, std::uint32_t from) {
    if (2 * states_.size() > table_.size()) grow();
    std::uint32_t& place = find(state);
    if (place == 0) {
      states_.push_back(state);
      came_from_.push_back(from);
      place = static_cast<std::uint32_t>(states_.size());
    }
    if (from != kNone) edges_.push_back({place - 1, from});
  }

  // The table holds indices + 1; 0 is an empty place.
  std::uint32_t& find(const State& state) {
    std::uint64_t hash = 0xcbf29ce484222325U;
    const auto* bytes = reinterpret_cast<const Byte*>(&state);
    for (std::size_t i = 0; i < sizeof state; ++i) hash = (hash ^ bytes[i]) * 0x100000001b3U;
    hash ^= hash >> 29;
    for (std::size_t i = hash & (table_.size() - 1);; i = (i + 1) & (table_.size() - 1)) {
      if (table_[i] == 0 || states_[table_[i] - 1] == state) return table_[i];
    }
  }

  void grow() {
    table_.assign(table_.size() * 2, 0);
    for (std::uint32_t i = 0; i < states_.size(); ++i) find(states_[i]) = i + 1;
  }

  // Backwards from the ends: a state that is not met can never be left for one of them.
  std::string end_out_of_reach() {
    std::sort(edges_.begin(), edges_.end(), [](const Edge& a, const Edge& b) { return a.to < b.to; });
    std::vector<bool> good(states_.size());
    std::vector<std::uint32_t> open;
    for (std::uint32_t i = 0; i < states_.size(); ++i) {
      if (!done(states_[i])) continue;
      good[i] = true;
      open.push_back(i);
    }
    while (!open.empty()) {
      const std::uint32_t to = open.back();
      open.pop_back();
      auto edge = std::lower_bound(edges_.begin(), edges_.end(), to,
                                   [](const Edge& e, std::uint32_t t) { return e.to < t; });
      for (; edge != edges_.end() && edge->to == to; ++edge) {
        if (good[edge->from]) continue;
        good[edge->from] = true;
        open.push_back(edge->from);
      }
    }
    const auto bad = std::find(good.begin(), good.end(), false);
    if (bad == good.end()) return "";
    return "the end is out of reach" + path(static_cast<std::uint32_t>(bad - good.begin()));
  }

  // How a state was reached, for whoever has to understand a fault: the steps of each actor, and the shared
  // words.
  std::string path(std::uint32_t index) const {
    std::vector<std::uint32_t> way;
    for (; index != kNone; index = came_from_[index]) way.push_back(index);
    std::string text = "\n  worker, reader, callers | reader_word worker_word requests replies\n";
    for (auto at = way.rbegin(); at != way.rend(); ++at) {
      const State& state = states_[*at];
      for (int i = 0; i < actors_; ++i) {
        const Actor& actor = state.actors[i];
        text += "  " + std::to_string(actor.step) + (actor.buffered ? "*" : "") +
                (actor.blocked_on != kNowhere ? (actor.limited ? "t" : "z") : "") +
                (actor.owns_ring ? "!" : "");
      }
      text += "  |  " + std::to_string(state.memory[kReaderWord]) + " " +
              std::to_string(state.memory[kWorkerWord]) + " " + std::to_string(state.memory[kRequestHead]) +
              "/" + std::to_string(state.memory[kRequestTail]) + " " +
              std::to_string(state.memory[kReplyHead]) + "/" + std::to_string(state.memory[kReplyTail]) +
              "\n";
    }
    return text;
  }

  struct Edge {
    std::uint32_t to;
    std::uint32_t from;
  };

  Rules rules_;
  int actors_;
  std::vector<State> states_;
  std::vector<std::uint32_t> came_from_;
  std::vector<Edge> edges_;
  std::vector<std::uint32_t> table_;
};

Verdict check(const Rules& rules) { return Checker(rules).check(); }

// --- What holds ---

void expect_sound(const Rules& rules) {
  const Verdict verdict = check(rules);
  EXPECT_EQ(verdict.fault, "");
  std::printf("             %zu states\n", verdict.states);
}

TEST(ChannelProtocol, OneCallerManyCalls) { expect_sound({.callers = 1, .frames_each = 3}); }

TEST(ChannelProtocol, TwoCallersOfWhomOneSpins) {
  expect_sound({.callers = 2, .spinners = 0});
  expect_sound({.callers = 2, .spinners = 1});
}

TEST(ChannelProtocol, TwoCallersWhoSpin) {
  if (testing::kStressDivisor > 1) GTEST_SKIP() << "three million states: not under a sanitizer";
  expect_sound({.callers = 2, .spinners = 2});
}

TEST(ChannelProtocol, CallersWhoPoll) {
  expect_sound({.callers = 1, .frames_each = 2, .pollers = 1});
  expect_sound({.callers = 2, .spinners = 0, .pollers = 1});
  expect_sound({.callers = 2, .casters = 1, .spinners = 1, .pollers = 1});
}

TEST(ChannelProtocol, TwoCallersWhoPoll) {
  if (testing::kStressDivisor > 1) GTEST_SKIP() << "millions of states: not under a sanitizer";
  expect_sound({.callers = 2, .spinners = 0, .pollers = 2});
}

TEST(ChannelProtocol, CallersWhoPollAndFullRings) {
  expect_sound({.callers = 2, .spinners = 0, .pollers = 1, .reply_ring = 1});
  if (testing::kStressDivisor > 1) GTEST_SKIP() << "the rest has five million states: not under a sanitizer";
  expect_sound({.callers = 2, .casters = 1, .spinners = 0, .pollers = 1, .request_ring = 1});
}

TEST(ChannelProtocol, CallersWhoVanish) {
  expect_sound({.callers = 1, .frames_each = 2, .mortals = 1});
  expect_sound({.callers = 1, .frames_each = 2, .pollers = 1, .mortals = 1});
  expect_sound({.callers = 2, .spinners = 0, .pollers = 1, .mortals = 1});
  expect_sound({.callers = 2, .casters = 2, .mortals = 2, .request_ring = 1});
}

TEST(ChannelProtocol, TwoCallersWhoPollAndVanish) {
  if (testing::kStressDivisor > 1) GTEST_SKIP() << "millions of states: not under a sanitizer";
  expect_sound({.callers = 2, .spinners = 0, .pollers = 2, .mortals = 2});
}

TEST(ChannelProtocol, AHostileWorkerMakesNoSecondConsumer) { expect_sound({.callers = 1, .hostile = true}); }

TEST(ChannelProtocol, CastsAndACall) { expect_sound({.callers = 2, .casters = 1, .frames_each = 1}); }

TEST(ChannelProtocol, FullReplyRing) {
  expect_sound({.callers = 2, .spinners = 1, .reader_times = false, .reply_ring = 1});
}

TEST(ChannelProtocol, FullRequestRing) {
  expect_sound({.callers = 1, .frames_each = 2, .request_ring = 1});
  expect_sound({.callers = 2, .casters = 2, .request_ring = 1});
  expect_sound({.callers = 2, .casters = 1, .reader_times = false, .request_ring = 1});
}

// --- What each rule is for: without it, this is what happens ---

constexpr const char* kLost = "everyone waits";

void expect_fault(const Rules& rules, const std::string& fault) {
  const Verdict verdict = check(rules);
  EXPECT_EQ(verdict.fault.substr(0, fault.size()), fault) << verdict.fault << verdict.states << " states";
}

TEST(ChannelProtocolWithout, FenceOfTheWorkerBeforeItLooksAtTheReader) {
  expect_fault({.worker_fences_before_it_looks_at_the_reader = false}, kLost);
}

TEST(ChannelProtocolWithout, FenceOfTheWorkerBeforeItLooksAgain) {
  expect_fault({.worker_fences_before_it_looks_again = false}, kLost);
}

TEST(ChannelProtocolWithout, SecondLookOfTheWorker) { expect_fault({.worker_looks_again = false}, kLost); }

TEST(ChannelProtocolWithout, FenceOfTheCallerBeforeItLooksAtTheWorker) {
  expect_fault({.caller_fences_before_it_looks_at_the_worker = false}, kLost);
}

TEST(ChannelProtocolWithout, FenceOfTheReaderBeforeItLooksAgain) {
  expect_fault({.frames_each = 2, .reader_fences_before_it_looks_again = false}, kLost);
}

TEST(ChannelProtocolWithout, SecondLookOfTheReader) {
  expect_fault({.callers = 2, .spinners = 0, .reader_looks_again = false}, kLost);
}

TEST(ChannelProtocolWithout, SecondLookOfTheReaderWhenItEndsItsTimedRest) {
  expect_fault({.frames_each = 2, .reader_looks_again_when_it_ends_its_timed_rest = false}, kLost);
}

TEST(ChannelProtocolWithout, LimitOfTheReaderWhileACallerSpins) {
  // The caller stores kTimed back, the worker puts off its wake, and the reader waits for one.
  expect_fault({.frames_each = 2, .reader_limits_its_wait_while_a_caller_spins = false}, kLost);
}

TEST(ChannelProtocolWithout, LimitOfTheReaderWhileCallersPoll) {
  // The worker wakes nobody, and whoever polled waits for a message by now.
  expect_fault({.frames_each = 2, .pollers = 1, .reader_limits_its_wait_while_callers_poll = false}, kLost);
}

TEST(ChannelProtocolWithout, RingOfThePoller) {
  expect_fault({.frames_each = 2, .pollers = 1, .poller_rings_the_worker = false}, kLost);
}

TEST(ChannelProtocolWithout, RingForThoseWhoVanish) {
  expect_fault({.frames_each = 2, .pollers = 1, .mortals = 1, .reader_rings_for_those_who_vanish = false},
               kLost);
}

TEST(ChannelProtocolWithout, SayingWhetherTheReaderLooks) {
  // A caller polls, and is gone, while the reader sleeps without a limit.
  expect_fault({.pollers = 1, .mortals = 1, .reader_says_whether_it_looks = false}, kLost);
}

TEST(ChannelProtocolWithout, RoleInPrivateMemory) {
  expect_fault({.hostile = true, .role_is_held_in_private_memory = false}, "two consumers");
}

TEST(ChannelProtocolWithout, FenceOfTheLeavingCaller) {
  expect_fault({.leaver_fences_before_it_looks_again = false}, kLost);
}

TEST(ChannelProtocolWithout, SecondLookOfTheLeavingCaller) {
  expect_fault({.leaver_looks_again = false}, kLost);
}

TEST(ChannelProtocolWithout, ComparisonByWhoeverTakesTheReplyRing) {
  expect_fault({.callers = 2, .takers_compare_before_they_store = false}, "two consumers");
}

TEST(ChannelProtocolWithout, ComparisonByWhoeverWakes) {
  // Who finds kAsleep and simply stores kAwake overwrites whatever came between: a newer kAsleep, or a
  // caller's kSpin.
  expect_fault({.wakers_compare_before_they_store = false}, kLost);
}

TEST(ChannelProtocolWithout, WakingAWorkerThatWaitsForRoom) {
  expect_fault(
      {.callers = 2, .spinners = 0, .reply_ring = 1, .consumers_wake_a_worker_that_waits_for_room = false},
      kLost);
}

TEST(ChannelProtocolWithout, WakingATimedReaderForRoom) {
  // A reader whose timed wait ends looks at the reply ring alone.
  expect_fault({.callers = 1,
                .casters = 1,
                .frames_each = 3,
                .request_ring = 1,
                .worker_wakes_a_timed_reader_for_room = false},
               kLost);
}

TEST(ChannelProtocolWithout, TryingTimedBeforeAsleep) {
  // The reader goes from kTimed to kAsleep, never straight back: who tries in that order meets one of the
  // two.
  expect_fault({.callers = 1,
                .casters = 1,
                .frames_each = 3,
                .request_ring = 1,
                .worker_tries_timed_before_asleep = false},
               kLost);
}

TEST(ChannelProtocolWithout, SecondLookOnceRegisteredForRoom) {
  // The worker makes room, and the reader looks for waiters, before the caller is registered as one.
  expect_fault({.callers = 2,
                .casters = 2,
                .request_ring = 1,
                .waiter_for_room_looks_again_once_it_is_registered = false},
               kLost);
}

TEST(ChannelProtocolWithout, LeavingCallersLookForWaitersForRoom) {
  // The worker wakes nobody while a caller spins, also not for room.
  expect_fault({.callers = 2,
                .casters = 1,
                .reader_times = false,
                .request_ring = 1,
                .leaver_looks_for_waiters_for_room = false},
               kLost);
}

}  // namespace
}  // namespace typhon::channel
