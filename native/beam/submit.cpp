// WorkerChannel: a request on its way into the ring, and what its caller does then.
#include "beam/worker_channel.h"

#include <algorithm>
#include <atomic>
#include <optional>

namespace typhon::beam {

using channel::Kind;

namespace {

// Bytes of small frames that are worth a wake-up, or a drain, while callers poll.
constexpr std::uint64_t kManyBytes = 3072;
constexpr std::uint64_t kManyBytesEach = 24;

}  // namespace

Outcome WorkerChannel::submit(Request& request) noexcept {
  return request.frame.kind == Kind::kCall ? submit_call(request) : submit_other(request);
}

// --- what both do; callers hold mutex_ ---

// It is not for this channel, or not now.
std::optional<Outcome> WorkerChannel::refuse(const Request& request) noexcept {
  if (life_.closed.load(std::memory_order_relaxed)) {
    if (request.frame.segment) requests_.discard(*request.frame.segment);
    return Outcome{Outcome::Is::kDown, 0, down_term(request.env)};
  }
  // Two callers may pick an idle worker at the same moment, and there may be another one. What idle means is
  // weight(), as for whoever picked it: else the two would never agree.
  if ((reserved_ && !request.named) || (request.was_idle && weight() != 0)) [[unlikely]] {
    if (request.frame.segment) requests_.discard(*request.frame.segment);
    return Outcome{Outcome::Is::kElsewhere};
  }
  return std::nullopt;
}

bool WorkerChannel::push(const Request& request) noexcept {
  if (!requests_.push_or_ask(request.frame)) return false;
  if (in_flight() == 0) load_.busy_since_ns.store(request.frame.now, std::memory_order_relaxed);
  return true;
}

// It did not fit. False: the worker has overwritten the ring's counters.
bool WorkerChannel::register_for_room(const Request& request) noexcept {
  if (request.frame.segment) requests_.discard(*request.frame.segment);
  if (requests_.broken()) return false;
  wait_for_room(request.caller, request.ref, request.movable);
  return true;
}

// `found`: of who has the role.
Outcome WorkerChannel::no_room(const Request& request, bool registered,
                               std::optional<std::uint32_t> found) noexcept {
  if (found) leave_role(*found);
  if (registered) {
    // Room may have been made, and the reader may have looked for waiters, before this one was registered;
    // and while the role was held, the worker woke nobody.
    service_room(request.env);
    return {Outcome::Is::kNoRoom};
  }
  fail_broken(request.env, "the worker overwrote the request ring's counters");
  Lock lock(mutex_);
  return {Outcome::Is::kDown, 0, down_term(request.env)};
}

// --- calls ---

// So many call at once that one who spins would be in the others' way.
bool WorkerChannel::is_crowded(std::uint64_t now) const noexcept {
  return in_flight() >= Patience::kCrowd ||
         pollers_.count.load(std::memory_order_relaxed) >= Patience::kCrowd || patience_.was_crowded(now);
}

// True with the role: its caller spins.
bool WorkerChannel::may_spin(const Request& request, bool crowded, std::uint32_t& found) noexcept {
  // A call that is made in the course of another one is what its worker waits for.
  const bool alone = in_flight() == 0 || request.frame.parent != 0;
  return !crowded && alone && patience_.call_pays() && try_take_role(found);
}

Outcome WorkerChannel::submit_call(Request& request) noexcept {
  std::uint64_t id = 0;
  std::uint32_t found = 0;
  bool spins = false;
  bool polls = false;
  ERL_NIF_TERM given_up = 0;
  {
    Lock lock(mutex_);
    if (const auto refused = refuse(request)) return *refused;
    requests_.push_releases();
    const std::uint32_t index = slots_.take();
    if (index == Slots::kNone) {
      if (request.frame.segment) requests_.discard(*request.frame.segment);
      wait_for_room(request.caller, request.ref, request.movable);
      return {Outcome::Is::kNoRoom};
    }
    Slot& slot = slots_[index];
    id = slots_.id(index);
    slot.movable = request.movable;
    slot.admitted = request.admitted;
    slot.caller = request.caller;
    slot.deadline = request.frame.deadline;
    slot.submitted = request.frame.now;
    slot.state = Slot::State::kLooks;
    const bool crowded = is_crowded(request.frame.now);
    spins = may_spin(request, crowded, found);
    polls = slot.polls = crowded && !spins && start_polling();
    if (!spins && !polls) slots_.set_waits(request.env, slot, request.ref);
    request.frame.id = id;
    if (!push(request)) {
      if (polls) pollers_.count.fetch_sub(1, std::memory_order_relaxed);
      requests_.give_back(slots_.free_unseen(request.env, index));
      const bool registered = register_for_room(request);
      lock.unlock();
      return no_room(request, registered, spins ? std::optional(found) : std::nullopt);
    }
    // Before the pool is asked whether calls wait (note_queue()): its Mover looks for them in that order.
    load_.in_flight.fetch_add(1, std::memory_order_seq_cst);
    slot.segment = request.frame.segment;
    requests_.hold(slot.segment ? slot.segment->capacity : 0);
    if (slot.state == Slot::State::kAbandoned) given_up = abandon(request.env, index);
  }
  if (request.frame.loans) requests_left_behind().look_after();
  if (given_up != 0) [[unlikely]]
    tell_abandoned(request.env, given_up, id);
  return polls ? begin_to_poll(request.env, id) : ring_and_look(request, id, spins, found);
}

// Who polls looks after the request itself when its turn comes.
Outcome WorkerChannel::begin_to_poll(ErlNifEnv* env, std::uint64_t id) noexcept {
  std::uint32_t timed = channel::kTimed;
  region_->header().reader_word.value.compare_exchange_strong(timed, channel::kPolled,
                                                              std::memory_order_acq_rel);
  if (requests_pending() >= many_bytes()) ring_worker();
  drain_for_others(env);
  return {Outcome::Is::kLook, id};
}

Outcome WorkerChannel::ring_and_look(const Request& request, std::uint64_t id, bool spins,
                                     std::uint32_t found) noexcept {
  const bool woke = ring_worker();
  if (!spins) {
    drain_for_others(request.env);
    return {Outcome::Is::kMessages, id};
  }
  const Outcome outcome = spin(request.env, id, request.ref, found, woke);
  if (outcome.is == Outcome::Is::kReply) patience_.call_found();
  return outcome;
}

std::uint64_t WorkerChannel::many_bytes() const noexcept {
  return std::max(kManyBytes, std::uint64_t{in_flight()} * kManyBytesEach);
}

// Others are in flight, so replies may lie there: drain them here rather than wake a thread for it.
void WorkerChannel::drain_for_others(ErlNifEnv* env) noexcept {
  const bool polled = region_->header().reader_word.value.load(std::memory_order_relaxed) == channel::kPolled;
  std::uint32_t found = 0;
  if (replies_pending() >= (polled ? many_bytes() : 1) && try_take_role(found)) {
    drain(env);
    leave_role(found);
  }
  service_room(env);
}

// --- casts, messages and answers ---

// True with the role: who answers spins for what comes next in its call.
bool WorkerChannel::may_spin_again(const Request& request, std::uint32_t& found) noexcept {
  const std::uint32_t index = request.call == 0 ? Slots::kNone : slots_.find(request.call);
  if (index == Slots::kNone || in_flight() >= Patience::kCrowd) return false;
  // What it was asked besides lies in its mailbox, or in the slot, and comes first.
  const Slot& slot = slots_[index];
  if (slot.has_news() || slot.unheard > 1) return false;
  if (slot.deadline != 0 && slot.deadline <= request.frame.now) return false;
  return slot.has_caller() && patience_.answer_pays() && try_take_role(found);
}

// The same of who answers for nobody that waits: what comes next is handed on from here, and no thread is
// woken for it.
bool WorkerChannel::may_watch(std::uint32_t& found) noexcept {
  return in_flight() < Patience::kCrowd && patience_.answer_pays() && try_take_role(found);
}

Outcome WorkerChannel::submit_other(const Request& request) noexcept {
  const bool answers = request.frame.kind == channel::Kind::kAnswer;
  const bool for_nobody = answers && request.call == 0;
  if (answers) patience_.answered(request.frame.now);
  std::uint32_t found = 0;
  bool spins = false;
  bool reached = false;
  {
    Lock lock(mutex_);
    if (const auto refused = refuse(request)) return *refused;
    requests_.push_releases();
    // Before the worker sees the answer: what it says next wakes nobody.
    spins = for_nobody ? may_watch(found) : may_spin_again(request, found);
    if (!push(request)) {
      const bool registered = register_for_room(request);
      lock.unlock();
      return no_room(request, registered, spins ? std::optional(found) : std::nullopt);
    }
    if (request.frame.held() != 0) requests_.hold_until_taken(request.frame.held());
    if (request.call != 0) {
      slots_.count_heard(request.call);
      if (spins) slots_[static_cast<std::uint32_t>(request.call)].state = Slot::State::kLooks;
    }
    // An answer or a message is neither served nor waited for.
    if (request.frame.kind == Kind::kCast) {
      load_.casts_sent.fetch_add(1, std::memory_order_relaxed);
      reached = count_served(1);
    }
  }
  if (request.frame.loans) requests_left_behind().look_after();
  if (reached) tell_served(request.env);
  const bool woke = ring_worker();
  if (request.call == 0) {
    if (spins) watch(request.env, found, woke);
    return {Outcome::Is::kAccepted};
  }
  if (!spins) return wait(request.env, request.call, request.ref);
  const Outcome outcome = spin(request.env, request.call, request.ref, found, woke);
  patience_.answer_found(outcome.is != Outcome::Is::kMessages);
  return outcome;
}

}  // namespace typhon::beam
