// The doorbells of a channel as a model (testing/model.h): the worker, the reader thread of the BEAM, and
// callers in the BEAM, each step by step as native/beam and native/executor do it. docs/protocol.md says it
// in prose.
//
// Proved, for the numbers of calls and the ring sizes given in the tests:
//   - at most one actor at a time consumes the reply ring, also when the worker writes into the reader's word
//     whatever it likes, whenever it likes;
//   - no wake-up is lost, and every call is answered and every cast taken;
//   - the same when callers vanish: one that was killed stops between two calls of the library, and never
//     does what it was about to do.
// A caller that answers what it was asked does to the words what one does that calls: it takes the role, and
// publishes. So an answer is a call here. What is said besides replies, and how it finds its caller, is in
// slot_protocol_test.cpp. The worker of this model has one thread, which reads the ring itself;
// worker_protocol_test.cpp has one with several. Loans are in loan_protocol_test.cpp.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "channel/layout.h"
#include "testing/channel.h"
#include "testing/model.h"

namespace typhon::channel {
namespace {

using model::Byte;
using model::kLost;
using model::kTwoConsumers;

// --- The state ---

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

struct Actor : model::Actor {
  Byte seen;   // what it found in a word
  Byte found;  // callers: the state to store back; reader: the state it rests in
  Byte tail;   // what it saw of a count
  Byte left;   // callers: frames still to send
  Byte polls;  // callers: looks for its reply itself, turn by turn
};

struct State {
  Byte memory[kCells];
  Byte requests[kMaxFrames];  // who sent the frame
  Byte replies[kMaxFrames];   // who gets it
  Byte answered;              // a bit for each caller: its reply has been delivered
  Byte room_waiters;          // guarded by kMutex
  Byte room_messages;         // {ref, :room} lies in its mailbox
  Actor actors[kMaxActors];
};

using Cpu = model::Cpu<State>;

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
      cpu.lock(kMutex);
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
      cpu.unlock(kMutex);
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
      cpu.lock(kMutex);
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
      cpu.unlock(kMutex);
      return cpu.go(me.owns_ring ? kLetGo : kLeft);

    case kUnlock:
      cpu.unlock(kMutex);
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

// --- The model ---

// Its reply is dropped, and its stores become visible as ever. That it polled is known until the reader has
// looked.
void vanish(State& state, int self) {
  Actor& me = state.actors[self];
  const auto bit = static_cast<Byte>(1U << self);
  state.room_waiters = state.room_waiters & static_cast<Byte>(~bit);
  state.room_messages = state.room_messages & static_cast<Byte>(~bit);
  me.step = caller::kGone;
  me.seen = me.found = me.tail = me.then = me.left = 0;
}

struct Doorbells {
  Rules rules;

  [[nodiscard]] int actors() const { return kFirstCaller + rules.callers; }

  void begin(State& state) const {
    state.memory[kReaderWord] = Word::kAsleep;
    for (int i = kFirstCaller; i < actors(); ++i) state.actors[i].left = static_cast<Byte>(rules.frames_each);
  }

  void run(Cpu& cpu) const {
    if (cpu.self() == kWorker) return worker::run(cpu, rules);
    if (cpu.self() == kReader) return reader::run(cpu, rules);
    caller::run(cpu, rules);
  }

  template <class Add>
  void happen(const State& state, Add add) const {
    for (int self = kFirstCaller; self < kFirstCaller + rules.mortals; ++self) {
      const Actor& actor = state.actors[self];
      if (actor.blocked_on != model::kNowhere || !caller::may_vanish(actor.step)) continue;
      State next = state;
      vanish(next, self);
      add(next);
    }
    if (!rules.hostile) return;
    for (const Word word : {kAwake, kAsleep, kSpin, kTimed, kPolled}) {
      State next = state;
      next.memory[kReaderWord] = static_cast<Byte>(word);
      add(next);
    }
  }

  [[nodiscard]] bool done(const State& state) const {
    for (int i = kFirstCaller; i < actors(); ++i) {
      if (state.actors[i].step != caller::kFinished && state.actors[i].step != caller::kGone) return false;
    }
    return state.memory[kRequestTail] == state.memory[kRequestHead] &&
           state.memory[kReplyTail] == state.memory[kReplyHead];
  }

  [[nodiscard]] static const char* wrong(const State& /*state*/) { return nullptr; }
  // What a hostile worker does to its own calls is its own affair.
  [[nodiscard]] bool ends() const { return !rules.hostile; }

  [[nodiscard]] static std::string show(const State& state) {
    const Byte* memory = state.memory;
    return "reader_word " + std::to_string(memory[kReaderWord]) + ", worker_word " +
           std::to_string(memory[kWorkerWord]) + ", requests " + std::to_string(memory[kRequestHead]) + "/" +
           std::to_string(memory[kRequestTail]) + ", replies " + std::to_string(memory[kReplyHead]) + "/" +
           std::to_string(memory[kReplyTail]);
  }
};

void expect_sound(const Rules& rules) { model::expect_sound<State>(Doorbells{rules}); }

void expect_fault(const Rules& rules, const char* fault) {
  model::expect_fault<State>(Doorbells{rules}, fault);
}

// --- What holds ---

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
  expect_fault({.hostile = true, .role_is_held_in_private_memory = false}, kTwoConsumers);
}

TEST(ChannelProtocolWithout, FenceOfTheLeavingCaller) {
  expect_fault({.leaver_fences_before_it_looks_again = false}, kLost);
}

TEST(ChannelProtocolWithout, SecondLookOfTheLeavingCaller) {
  expect_fault({.leaver_looks_again = false}, kLost);
}

TEST(ChannelProtocolWithout, ComparisonByWhoeverTakesTheReplyRing) {
  expect_fault({.callers = 2, .takers_compare_before_they_store = false}, kTwoConsumers);
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
