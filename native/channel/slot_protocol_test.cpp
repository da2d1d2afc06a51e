// Conversations as a model (testing/model.h): how a reply, and what Python asks or says before it, finds the
// caller. The actors are the worker, the reader thread of the BEAM, and callers. Each call has a slot, as in
// native/beam/slots.h; the steps are those of native/beam/submit.cpp, looking.cpp, delivery.cpp and
// giving_up.cpp. Who takes the reader role when, and who is woken for it, protocol_test.cpp proves: here the
// role is free or held, and the reader thread takes it whenever there is something to read.
//
// Proved, for the numbers of calls and questions given in the tests, whether callers spin, poll or wait:
//   - each caller gets what was said to it in the order in which it was said, all of it, and nothing twice:
//     also when a second question or a statement comes while it answers the first;
//   - each call ends, and its slot is free again: also when its caller vanishes while it looks, waits or
//     answers, or gives up;
//   - no message comes when its call has ended.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <string>

#include "testing/model.h"

namespace typhon::channel {
namespace {

using model::Byte;
using model::kLost;

// --- The state ---

enum Cell : Byte {
  kMutex,
  kRole,
  kReplyTail,
  kReplyHead,
  kCells,
};

constexpr int kWorker = 0;
constexpr int kReader = 1;
constexpr int kFirstCaller = 2;
constexpr int kCallers = 2;
constexpr int kMaxActors = kFirstCaller + kCallers;
constexpr int kSlots = kCallers + 1;  // one may be being delivered when its caller calls again
constexpr int kMaxFrames = 8;
constexpr int kMaxAsks = 2;

constexpr const char* kOutOfOrder = "a caller misses something";

// What the worker says: to whom, in which of its calls, as its how-manieth word, and whether it is the last.
constexpr Byte frame_of(int caller, int generation, int number, bool reply) {
  return static_cast<Byte>(caller | (generation << 1) | (number << 3) | (reply ? 0x20 : 0));
}
constexpr int caller_of(Byte frame) { return frame & 1; }
constexpr int generation_of(Byte frame) { return (frame >> 1) & 3; }
constexpr int number_of(Byte frame) { return (frame >> 3) & 3; }
constexpr bool is_reply(Byte frame) { return (frame & 0x20) != 0; }

enum Owner : Byte { kFree, kLooks, kWaits, kAbandoned, kDelivering };

// Guarded by kMutex.
struct Slot {
  Byte owner;
  Byte caller;
  Byte generation;
  Byte ended;  // the reply that its caller will find, or 0
  Byte asks[kMaxAsks];
  Byte asked;    // how many of them there are
  Byte unheard;  // of what its caller was asked or told
  Byte polls;

  [[nodiscard]] bool has_news() const { return asked != 0 || ended != 0; }
  [[nodiscard]] bool looks() const { return owner == kLooks && ended == 0; }
};

// What runs for a caller.
struct Work {
  Byte runs;
  Byte begun;
  Byte cancelled;
  Byte sent;   // of what it asks or says
  Byte heard;  // answers that came
};

struct Actor : model::Actor {
  Byte is_looker;  // it drains for its own slot, too
  Byte found;      // that slot's news, as it drains
  Byte frame;      // that it delivers
  Byte what;       // becomes of it
  Byte slot;       // whose it is
  Byte got;        // callers: the number of the last word that it saw
  Byte last;       // that word
  Byte left;       // callers: calls still to make
  Byte wrong;      // it saw another word than the next one
};

struct State {
  Byte memory[kCells];
  Byte replies[kMaxFrames];
  Slot slots[kSlots];
  Work work[kCallers];
  Byte mailbox[kCallers][kMaxAsks + 1];
  Byte mails[kCallers];
  Actor actors[kMaxActors];
};

using Cpu = model::Cpu<State>;

struct Rules {
  int callers = 1;
  int calls_each = 1;
  int asks = 1;           // of each call of the first caller
  int questions = 1;      // so many of them, the first ones, want an answer
  bool polls = false;     // who looks polls, else it spins
  bool mortal = false;    // the first caller may vanish
  bool gives_up = false;  // or give up while it waits

  bool waiter_looks_in_its_slot_under_the_mutex = true;
  bool questions_are_delivered_under_the_mutex = true;
  bool questions_are_sent_under_the_mutex = true;
  bool poller_looks_in_its_slot_once_it_has_the_role = true;
  bool answerer_takes_the_role_before_it_publishes = true;
  bool answerer_looks_what_else_it_was_asked = true;
  bool what_follows_a_question_lies_in_the_slot = true;
  bool kept_replies_are_freed_by_their_callers = true;
  bool who_gives_up_waits_while_its_reply_is_delivered = true;
};

enum Step : Byte {
  kTop,
  kEnded,
  kGone,
  kGoneDown,

  // Callers
  kSubmit,
  kSubmitPush,
  kMail,
  kDeal,
  kAnswer,
  kAnswerPush,
  kAnswerLate,
  kWait,
  kWaitSet,
  kTurn,
  kTurnTake,
  kTurnLook,
  kTurnAgain,
  kSaw,
  kCancel,
  kFlush,

  // Whoever has the role
  kDrain,
  kDeliverReply,
  kDeliverSend,
  kDeliverFree,
  kDeliverAsk,
  kDeliverAskPut,
  kDrained,
  kLeave,
};

// --- Slots ---

// A slot's index and generation make a call's id; here it is the caller and the number of the call.
Slot* find(State& state, int caller, int generation) {
  for (Slot& slot : state.slots) {
    if (slot.owner != kFree && slot.caller == caller && slot.generation == generation) return &slot;
  }
  return nullptr;
}

Slot* find(State& state, Byte frame) { return find(state, caller_of(frame), generation_of(frame)); }

Slot* own_slot(Cpu& cpu) { return find(cpu.state(), cpu.self() - kFirstCaller, cpu.me().left); }

Slot& take_slot(State& state) {
  for (Slot& slot : state.slots) {
    if (slot.owner == kFree) return slot;
  }
  return state.slots[0];  // there are enough
}

void free_slot(Slot& slot) { slot = {}; }

void send(State& state, Byte frame) {
  const int caller = caller_of(frame);
  if (state.actors[kFirstCaller + caller].step == kGone) return;
  state.mailbox[caller][state.mails[caller]++] = frame;
}

template <std::size_t kSize>
Byte take_first(Byte (&queue)[kSize], Byte& count) {
  const Byte first = queue[0];
  for (std::size_t i = 1; i < kSize; ++i) queue[i - 1] = queue[i];
  queue[kSize - 1] = 0;
  --count;
  return first;
}

// WorkerChannel::abandon(): nobody waits for this call any more.
void abandon(State& state, Slot& slot) {
  Work& work = state.work[slot.caller];
  if (!work.begun) {
    work = {};
    return free_slot(slot);
  }
  slot.owner = kAbandoned;
  work.cancelled = 1;
}

// --- The worker ---

// It serves all calls at once, and says the next word of one of them.
void run_worker(Cpu& cpu, const Rules& rules) {
  State& state = cpu.state();
  const int caller = rules.callers > 1 && cpu.either() ? 1 : 0;
  Work& work = state.work[caller];
  if (!work.runs) return cpu.stall();
  if (!work.begun) {
    work.begun = 1;
    return;
  }
  const int asks = caller == 0 ? rules.asks : 0;
  const int questions = caller == 0 ? rules.questions : 0;
  const bool reply = work.sent == asks;
  if (reply && work.heard < questions && !work.cancelled) return cpu.stall();
  const Byte tail = cpu.load(kReplyTail);
  state.replies[tail] = frame_of(caller, work.runs, work.sent + 1, reply);
  state.memory[kReplyTail] = static_cast<Byte>(tail + 1);
  ++work.sent;
  if (reply) work = {};
}

// --- Whoever has the role ---

void leave(Cpu& cpu, Byte then) { cpu.pass(cpu.me().owns_ring, kLeave, then); }

// Who asked in the name of a call that nobody waits for is told so.
void refuse(State& state, Byte frame) { ++state.work[caller_of(frame)].heard; }

enum What : Byte { kDrop, kSend, kKeep, kMine };

Byte to_whom(const Slot* slot, bool is_lookers) {
  if (!slot || (slot->owner != kWaits && !slot->looks())) return kDrop;
  if (is_lookers) return slot->looks() ? kMine : kDrop;
  return slot->owner == kWaits ? kSend : kKeep;
}

void put_ask(Cpu& cpu, const Rules& rules, Byte what, bool now) {
  Actor& me = cpu.me();
  State& state = cpu.state();
  Slot& slot = state.slots[me.slot];
  if (what == kDrop) {
    refuse(state, me.frame);
  } else if (what == kMine) {
    ++slot.unheard;
    slot.polls = 0;
    me.found = me.frame;
    if (rules.what_follows_a_question_lies_in_the_slot) me.is_looker = 0;
  } else if (what == kKeep) {
    ++slot.unheard;
    slot.asks[slot.asked++] = me.frame;
  } else if (now) {
    ++slot.unheard;
    send(state, me.frame);
  }
}

Byte index_of(const State& state, const Slot* slot) {
  return slot ? static_cast<Byte>(slot - state.slots) : Byte{0};
}

void deliver_reply(Cpu& cpu, bool is_lookers) {
  Actor& me = cpu.me();
  cpu.locked(kMutex);
  Slot* const slot = find(cpu.state(), me.frame);
  if (!slot || slot->owner == kDelivering || slot->ended) {
    me.what = kDrop;
    return cpu.go(kDrained);
  }
  me.slot = index_of(cpu.state(), slot);
  if (slot->owner == kLooks && !is_lookers) {
    slot->ended = me.frame;
    me.what = kKeep;
  } else {
    me.what = is_lookers ? kMine : slot->owner == kWaits ? kSend : kDrop;
    slot->owner = kDelivering;
  }
  cpu.go(kDeliverSend);
}

void run_drain(Cpu& cpu, const Rules& rules, Byte after) {
  Actor& me = cpu.me();
  State& state = cpu.state();
  const bool is_lookers = me.is_looker && caller_of(me.frame) == cpu.self() - kFirstCaller;
  switch (me.step) {
    case kDrain: {
      const Byte head = cpu.load(kReplyHead);
      if (cpu.load(kReplyTail) == head) return cpu.go(after);
      if (me.found && cpu.either()) return cpu.go(after);  // it takes out so many at a time
      me.frame = cpu.forget(state.replies[head]);
      return cpu.go(is_reply(me.frame) ? kDeliverReply : kDeliverAsk);
    }
    case kDeliverReply:
      return deliver_reply(cpu, is_lookers);
    case kDeliverSend:
      if (me.what == kSend) send(state, me.frame);
      if (me.what == kMine) me.found = me.frame;
      return cpu.go(kDeliverFree);
    case kDeliverFree:
      cpu.locked(kMutex);
      if (me.what != kKeep || !rules.kept_replies_are_freed_by_their_callers) free_slot(state.slots[me.slot]);
      return cpu.go(kDrained);

    case kDeliverAsk:
      if (rules.questions_are_delivered_under_the_mutex) cpu.locked(kMutex);
      me.slot = index_of(state, find(state, me.frame));
      me.what = to_whom(find(state, me.frame), is_lookers);
      if (!rules.questions_are_delivered_under_the_mutex) return cpu.go(kDeliverAskPut);
      put_ask(cpu, rules, me.what, rules.questions_are_sent_under_the_mutex);
      return cpu.go(me.what == kSend && !rules.questions_are_sent_under_the_mutex ? kDeliverAskPut
                                                                                  : kDrained);
    case kDeliverAskPut:
      put_ask(cpu, rules, me.what, true);
      return cpu.go(kDrained);

    case kDrained:
      cpu.forget(me.frame);
      cpu.forget(me.what);
      cpu.forget(me.slot);
      ++state.memory[kReplyHead];
      return cpu.go(kDrain);
    case kLeave:
    default:
      me.owns_ring = 0;
      me.is_looker = 0;
      state.memory[kRole] = 0;
      return cpu.go_on();
  }
}

bool take_role(Cpu& cpu, bool looks) {
  if (!cpu.compare_exchange(kRole, 0, 1)) return false;
  cpu.me().owns_ring = 1;
  cpu.me().is_looker = looks;
  return true;
}

void run_reader(Cpu& cpu) {
  switch (cpu.me().step) {
    case kTop:
      if (cpu.load(kReplyTail) == cpu.load(kReplyHead) || !take_role(cpu, false)) return cpu.stall();
      return cpu.go(kDrain);
    default:
      return leave(cpu, kTop);
  }
}

// --- Callers ---

// It has the next word: from the ring, its slot or its mailbox.
void see(Cpu& cpu, Byte frame) {
  Actor& me = cpu.me();
  me.wrong = generation_of(frame) != me.left || number_of(frame) != me.got + 1;
  me.got = static_cast<Byte>(number_of(frame));
  me.last = frame;
  leave(cpu, kSaw);
}

bool take_news(Cpu& cpu) {
  Slot* const slot = own_slot(cpu);
  if (!slot || !slot->has_news()) return false;
  if (slot->asked) {
    slot->polls = 0;
    see(cpu, take_first(slot->asks, slot->asked));
  } else {
    const Byte reply = slot->ended;
    free_slot(*slot);
    see(cpu, reply);
  }
  return true;
}

void submit(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  const bool looks = cpu.either();
  cpu.lock(kMutex);
  Slot& slot = take_slot(cpu.state());
  slot.caller = static_cast<Byte>(cpu.self() - kFirstCaller);
  slot.generation = me.left;
  slot.polls = looks && rules.polls;
  const bool spins = looks && !rules.polls && take_role(cpu, true);
  slot.owner = spins || slot.polls ? kLooks : kWaits;
  cpu.go(kSubmitPush);
}

// WorkerChannel::may_spin_again()
bool may_spin_again(Cpu& cpu, const Rules& rules) {
  const Slot* const slot = own_slot(cpu);
  if (!slot || (slot->owner != kLooks && slot->owner != kWaits) || !cpu.either()) return false;
  return !rules.answerer_looks_what_else_it_was_asked || (!slot->has_news() && slot->unheard <= 1);
}

void hear(Cpu& cpu) {
  Slot* const slot = own_slot(cpu);
  if (slot && slot->unheard) --slot->unheard;
}

// WorkerChannel::submit_other(), and next() for what wants no answer.
void run_answer(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  State& state = cpu.state();
  const int caller = cpu.self() - kFirstCaller;
  switch (me.step) {
    case kDeal:
      if (me.got <= rules.questions) return cpu.go(kAnswer);
      cpu.locked(kMutex);
      hear(cpu);
      cpu.forget(me.last);
      return cpu.go(kWait);
    case kAnswer: {
      cpu.lock(kMutex);
      const bool spins = may_spin_again(cpu, rules);
      if (!rules.answerer_takes_the_role_before_it_publishes) {
        me.what = spins;
      } else if (spins) {
        take_role(cpu, true);
      }
      return cpu.go(kAnswerPush);
    }
    case kAnswerPush:
      if (state.work[caller].runs == me.left) ++state.work[caller].heard;
      hear(cpu);
      cpu.forget(me.last);
      if (me.owns_ring && own_slot(cpu)) own_slot(cpu)->owner = kLooks;
      cpu.unlock(kMutex);
      return cpu.go(me.owns_ring ? kDrain : cpu.forget(me.what) ? kAnswerLate : kWait);
    case kAnswerLate:
    default:
      cpu.locked(kMutex);
      if (!own_slot(cpu) || own_slot(cpu)->owner != kWaits || !take_role(cpu, true)) return cpu.go(kWait);
      own_slot(cpu)->owner = kLooks;
      return cpu.go(kDrain);
  }
}

// WorkerChannel::look() and wait()
void run_looking(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  switch (me.step) {
    case kWait:
      cpu.locked(kMutex);
      return take_news(cpu) ? void() : cpu.go(kWaitSet);
    case kWaitSet: {
      cpu.locked(kMutex);
      Slot* const slot = own_slot(cpu);
      if (slot && slot->has_news() && rules.waiter_looks_in_its_slot_under_the_mutex) return cpu.go(kWait);
      if (slot && slot->owner == kLooks) {
        slot->polls = 0;
        slot->owner = kWaits;
      }
      return leave(cpu, kMail);
    }
    case kTurn:
      cpu.locked(kMutex);
      return take_news(cpu) ? void() : cpu.go(kTurnTake);
    case kTurnTake:
      if (cpu.load(kReplyTail) == cpu.load(kReplyHead) || !take_role(cpu, true)) return cpu.go(kTurnAgain);
      return cpu.go(rules.poller_looks_in_its_slot_once_it_has_the_role ? kTurnLook : kDrain);
    case kTurnLook:
      cpu.locked(kMutex);
      return own_slot(cpu) && own_slot(cpu)->has_news() ? leave(cpu, kTurnAgain) : cpu.go(kDrain);
    case kTurnAgain:
    default:
      cpu.locked(kMutex);
      if (!own_slot(cpu)) return cpu.go(kWait);
      return cpu.go(own_slot(cpu)->has_news() || cpu.either() ? kTurn : kWait);
  }
}

// WorkerChannel::cancel()
void run_giving_up(Cpu& cpu, const Rules& rules) {
  State& state = cpu.state();
  const int caller = cpu.self() - kFirstCaller;
  if (cpu.me().step == kFlush) {
    while (state.mails[caller]) take_first(state.mailbox[caller], state.mails[caller]);
    return cpu.go(kEnded);
  }
  cpu.locked(kMutex);
  Slot* const slot = own_slot(cpu);
  if (!slot) return cpu.go(kFlush);
  if (slot->owner == kDelivering && rules.who_gives_up_waits_while_its_reply_is_delivered) return cpu.stall();
  if (slot->ended) {
    free_slot(*slot);
  } else if (slot->owner != kAbandoned) {
    *slot->asks = {};
    slot->asked = 0;
    abandon(state, *slot);
  }
  cpu.go(kFlush);
}

void run_caller(Cpu& cpu, const Rules& rules) {
  Actor& me = cpu.me();
  State& state = cpu.state();
  const int caller = cpu.self() - kFirstCaller;
  const auto polls = [&] { return own_slot(cpu) && own_slot(cpu)->polls; };
  switch (me.step) {
    case kTop:
      return submit(cpu, rules);
    case kSubmitPush: {
      state.work[caller].runs = me.left;
      cpu.unlock(kMutex);
      return cpu.go(me.owns_ring ? kDrain : polls() ? kTurn : kMail);
    }
    case kMail:
      if (rules.gives_up && caller == 0 && cpu.either()) return cpu.go(kCancel);
      if (state.mails[caller] == 0) return cpu.stall();
      return see(cpu, take_first(state.mailbox[caller], state.mails[caller]));
    // After drain(): it has found something, or waits for messages now, or has its next turn.
    case kSaw:
      if (me.found) return see(cpu, cpu.forget(me.found));
      if (me.last == 0) return polls() ? leave(cpu, kTurnAgain) : cpu.go(kWait);
      if (!is_reply(me.last)) return cpu.go(kDeal);
      me.last = me.got = 0;
      return cpu.go(--me.left ? kTop : kEnded);
    case kGoneDown:
      cpu.locked(kMutex);
      me.step = kGone;
      if (Slot* const slot = own_slot(cpu); slot && (slot->owner == kLooks || slot->owner == kWaits)) {
        const bool ended = slot->ended != 0;
        slot->asks[0] = slot->asks[1] = slot->asked = 0;
        ended ? free_slot(*slot) : abandon(state, *slot);
      }
      me.left = 0;
      return;
    default:
      return cpu.stall();
  }
}

// --- The model ---

struct Conversations {
  Rules rules;

  [[nodiscard]] int actors() const { return kFirstCaller + rules.callers; }

  void begin(State& state) const {
    for (int i = kFirstCaller; i < actors(); ++i) state.actors[i].left = static_cast<Byte>(rules.calls_each);
  }

  void run(Cpu& cpu) const {
    const Byte step = cpu.me().step;
    if (cpu.self() == kWorker) return run_worker(cpu, rules);
    if (step >= kDrain) return run_drain(cpu, rules, cpu.self() == kReader ? Byte{kEnded} : Byte{kSaw});
    if (cpu.self() == kReader) return run_reader(cpu);
    if (step >= kDeal && step <= kAnswerLate) return run_answer(cpu, rules);
    if (step >= kWait && step <= kTurnAgain) return run_looking(cpu, rules);
    if (step == kCancel || step == kFlush) return run_giving_up(cpu, rules);
    run_caller(cpu, rules);
  }

  // Between two calls of the library a caller may be killed.
  template <class Add>
  void happen(const State& state, Add add) const {
    const Byte step = state.actors[kFirstCaller].step;
    if (!rules.mortal || (step != kMail && step != kDeal && step != kTurn)) return;
    State next = state;
    Actor& me = next.actors[kFirstCaller];
    me.step = kGoneDown;
    me.got = me.last = 0;
    std::memset(next.mailbox[0], 0, sizeof next.mailbox[0]);
    next.mails[0] = 0;
    add(next);
  }

  [[nodiscard]] bool done(const State& state) const {
    for (int i = 0; i < rules.callers; ++i) {
      const Byte step = state.actors[kFirstCaller + i].step;
      if (step != kEnded && step != kGone) return false;
    }
    for (const Slot& slot : state.slots) {
      if (slot.owner != kFree) return false;
    }
    return state.memory[kReplyTail] == state.memory[kReplyHead];
  }

  [[nodiscard]] const char* wrong(const State& state) const {
    for (int i = 0; i < rules.callers; ++i) {
      const Actor& actor = state.actors[kFirstCaller + i];
      if (actor.wrong) return "a caller misses something, or gets it twice or in another order";
      if ((actor.step == kTop || actor.step == kEnded) && state.mails[i] != 0)
        return "a message comes when its call has ended";
    }
    return nullptr;
  }

  [[nodiscard]] static bool ends() { return true; }

  [[nodiscard]] static std::string show(const State& state) {
    std::string text = "replies " + std::to_string(state.memory[kReplyHead]) + "/" +
                       std::to_string(state.memory[kReplyTail]);
    for (const Slot& slot : state.slots) {
      text += ", slot " + std::to_string(slot.owner) + " of " + std::to_string(slot.caller) + " asked " +
              std::to_string(slot.asked) + " ended " + std::to_string(slot.ended) + " unheard " +
              std::to_string(slot.unheard);
    }
    for (const Byte mails : state.mails) text += ", mails " + std::to_string(mails);
    return text;
  }
};

void expect_sound(const Rules& rules) { model::expect_sound<State>(Conversations{rules}); }

void expect_fault(const Rules& rules, const char* fault) {
  model::expect_fault<State>(Conversations{rules}, fault);
}

// --- What holds ---

TEST(SlotProtocol, AQuestion) {
  expect_sound({});
  expect_sound({.polls = true});
}

TEST(SlotProtocol, ASecondQuestionWhileTheFirstIsAnswered) {
  expect_sound({.asks = 2, .questions = 2});
  expect_sound({.asks = 2, .questions = 2, .polls = true});
}

TEST(SlotProtocol, AStatementAndTheReplyWhileAQuestionIsAnswered) {
  expect_sound({.asks = 2, .questions = 1});
  expect_sound({.asks = 2, .questions = 0, .polls = true});
}

TEST(SlotProtocol, CallersThatFindEachOthersWords) {
  expect_sound({.callers = 2, .asks = 2, .questions = 2});
  expect_sound({.callers = 2, .asks = 2, .questions = 1, .polls = true});
}

TEST(SlotProtocol, CallsOneAfterTheOther) {
  expect_sound({.callers = 2, .calls_each = 2});
  expect_sound({.callers = 2, .calls_each = 2, .polls = true});
}

TEST(SlotProtocol, CallersThatVanish) {
  expect_sound({.callers = 2, .asks = 2, .questions = 2, .mortal = true});
  expect_sound({.callers = 2, .asks = 2, .questions = 1, .polls = true, .mortal = true});
}

TEST(SlotProtocol, CallersThatGiveUp) {
  expect_sound({.callers = 2, .asks = 2, .questions = 2, .gives_up = true});
  expect_sound({.callers = 2, .asks = 2, .questions = 1, .polls = true, .gives_up = true});
}

// --- What each rule is for: without it, this is what happens ---

TEST(SlotProtocolWithout, LookIntoTheSlotUnderTheMutex) {
  expect_fault({.callers = 2, .polls = true, .waiter_looks_in_its_slot_under_the_mutex = false}, kLost);
}

TEST(SlotProtocolWithout, DeliveryUnderTheMutex) {
  expect_fault({.polls = true, .questions_are_delivered_under_the_mutex = false}, kLost);
}

TEST(SlotProtocolWithout, SendingUnderTheMutex) {
  expect_fault({.gives_up = true, .questions_are_sent_under_the_mutex = false}, "a message comes");
}

TEST(SlotProtocolWithout, LookIntoTheSlotWithTheRole) {
  expect_fault(
      {.asks = 2, .questions = 0, .polls = true, .poller_looks_in_its_slot_once_it_has_the_role = false},
      kOutOfOrder);
}

TEST(SlotProtocolWithout, TheRoleBeforeTheAnswer) {
  expect_fault({.asks = 2, .questions = 1, .answerer_takes_the_role_before_it_publishes = false},
               kOutOfOrder);
}

TEST(SlotProtocolWithout, LookForWhatElseWasAsked) {
  expect_fault({.asks = 2, .questions = 1, .answerer_looks_what_else_it_was_asked = false}, kOutOfOrder);
}

TEST(SlotProtocolWithout, WhatFollowsAQuestionInTheSlot) {
  expect_fault({.asks = 2, .what_follows_a_question_lies_in_the_slot = false}, kOutOfOrder);
}

TEST(SlotProtocolWithout, KeptRepliesLeftToTheirCallers) {
  expect_fault({.calls_each = 2,
                .asks = 0,
                .questions = 0,
                .polls = true,
                .kept_replies_are_freed_by_their_callers = false},
               kLost);
}

TEST(SlotProtocolWithout, WaitingWhileTheReplyIsDelivered) {
  expect_fault({.gives_up = true, .who_gives_up_waits_while_its_reply_is_delivered = false},
               "a message comes");
}

}  // namespace
}  // namespace typhon::channel
