// WorkerChannel: the one wait. A caller looks in its slot and in the ring: it spins, or polls, until there is
// something for it, or until messages are to come.
#include "beam/worker_channel.h"
#include "os/clock.h"
#include "os/thread.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <iterator>
#include <utility>
#include <vector>

namespace typhon::beam {

using channel::FrameHeader;
using os::monotonic_ns;

namespace {

// How often the reader thread looks for callers that were killed. It looks at every call in flight for that,
// with the mutex, so that it waits for so many times what it took.
constexpr std::uint64_t kReapEveryNs = 20'000'000;
constexpr std::uint64_t kReapShare = 100;
// For so many of the reader thread's timed waits a worker may take nothing of what lies in its ring, before
// it is rung for callers that may have been killed.
constexpr int kUntakenRounds = 20;

}  // namespace

// --- spinning ---

// Watches the reply ring, with the role, for the time of a spin: until there is something for the looker, or
// for anybody where there is none.
WorkerChannel::Drained WorkerChannel::watch_ring(ErlNifEnv* env, Looker* looker, bool woke_worker) noexcept {
  // Waking the worker takes longer than a small call: wait that out, too, rather than be woken in turn.
  const std::uint64_t at_most = woke_worker ? patience_.spin_ns() * 5 / 2 : patience_.spin_ns();
  std::uint64_t began = 0;
  for (unsigned round = 1;; ++round) {
    const Drained drained = drain(env, looker);
    if (drained == Drained::kMine || drained == Drained::kAsked) return drained;
    if (looker == nullptr && drained == Drained::kSome) return drained;
    if (round % 8 == 0) {
      const std::uint64_t now = monotonic_ns();
      if (began == 0) began = now;
      if (now - began > at_most || life_.closed.load(std::memory_order_relaxed)) return Drained::kNothing;
    }
    // A worker that was just woken may be waiting for this very core.
    if (woke_worker && round % 4 == 0 && !patience_.guard.yield([&] { return replies_pending() != 0; }))
      return Drained::kNothing;
    os::cpu_relax();
  }
}

Outcome WorkerChannel::spin(ErlNifEnv* env, std::uint64_t id, ERL_NIF_TERM ref, std::uint32_t found,
                            bool woke_worker) noexcept {
  Looker looker{id, ref};
  const std::optional<Outcome> seen = came(looker, watch_ring(env, &looker, woke_worker));
  // Before the role is given back: what comes then is for a caller that waits.
  const Outcome outcome = seen ? *seen : wait(env, id, ref);
  if (outcome.is == Outcome::Is::kMessages) patience_.count_missed_spin();
  leave_role(found);
  service_room(env);
  return outcome;
}

// For others, with the role.
void WorkerChannel::watch(ErlNifEnv* env, std::uint32_t found, bool woke_worker) noexcept {
  const bool came = watch_ring(env, nullptr, woke_worker) != Drained::kNothing;
  leave_role(found);
  service_room(env);
  patience_.answer_found(came);
}

// What came for the looker, if that is how it ended.
std::optional<Outcome> WorkerChannel::came(const Looker& looker, Drained drained) noexcept {
  if (drained == Drained::kMine) return Outcome{Outcome::Is::kReply, looker.id, looker.term};
  if (drained == Drained::kAsked) return Outcome{Outcome::Is::kAsk, looker.id, looker.term, looker.deadline};
  return std::nullopt;
}

// --- polling ---

// While polls find no replies, only one caller in some tries.
bool WorkerChannel::start_polling() noexcept {
  if (!patience_.polling_pays()) return false;
  // Only while the reader looks after those who poll (see may_sleep()), and while the channel can be found by
  // its place in the pool (see retire()): both look at the count after they have said so.
  pollers_.count.fetch_add(1, std::memory_order_seq_cst);
  if (pollers_.reader_looks.load(std::memory_order_seq_cst) &&
      !pollers_.retired.load(std::memory_order_seq_cst))
    return true;
  pollers_.count.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

Outcome WorkerChannel::look(ErlNifEnv* env, std::uint64_t id, ERL_NIF_TERM ref) noexcept {
  if (const auto news = take_news(env, id, ref)) return *news;
  std::uint32_t found = 0;
  if (replies_pending() != 0 && try_take_role(found)) {
    Looker looker{id, ref};
    // What somebody else has left in the slot since that look comes before what lies in the ring.
    const Drained drained = has_news(id) ? Drained::kNothing : drain(env, &looker);
    leave_role(found);
    if (const auto seen = came(looker, drained)) {
      stop_polling(true);
      service_room(env);
      return *seen;
    }
  }
  if (requests_pending() != 0) ring_worker();
  service_room(env);
  bool pays = false;
  {
    Lock lock(mutex_);
    const std::uint32_t index = slots_.find(id);
    if (index == Slots::kNone)
      return {Outcome::Is::kReply, id, enif_make_tuple2(env, state_.atoms.down, state_.atoms.closed)};
    Slot& slot = slots_[index];
    if (slot.has_news()) return {Outcome::Is::kLook, id};
    pays = patience_.another_turn_pays(++slot.turns, monotonic_ns() - slot.submitted);
  }
  if (!pays) return wait(env, id, ref);
  ::sched_yield();  // the worker may need this very core
  return {Outcome::Is::kLook, id};
}

// --- what lies in the slot ---

Outcome WorkerChannel::next(ErlNifEnv* env, std::uint64_t id, ERL_NIF_TERM ref) noexcept {
  Lock lock(mutex_);
  slots_.count_heard(id);
  return wait(env, id, ref, lock);
}

// Looking does not pay any more: from here on messages come. Or what others have left in the slot meanwhile.
Outcome WorkerChannel::wait(ErlNifEnv* env, std::uint64_t id, ERL_NIF_TERM ref) noexcept {
  Lock lock(mutex_);
  return wait(env, id, ref, lock);
}

Outcome WorkerChannel::wait(ErlNifEnv* env, std::uint64_t id, ERL_NIF_TERM ref, Lock<Mutex>& lock) noexcept {
  const std::uint32_t index = slots_.find(id);
  if (index == Slots::kNone) return {Outcome::Is::kMessages, id};
  Slot& slot = slots_[index];
  if (slot.has_news()) return take_first(env, index, ref, lock);
  const std::uint64_t deadline = slot.deadline;
  if (slot.state != Slot::State::kLooks) return {Outcome::Is::kMessages, id, 0, deadline};
  const bool polled = std::exchange(slot.polls, false);
  slots_.set_waits(env, slot, ref);
  const ERL_NIF_TERM what = slot.state == Slot::State::kAbandoned ? abandon(env, index) : 0;
  lock.unlock();
  if (what != 0) tell_abandoned(env, what, id);
  if (polled) stop_polling(false);
  return {Outcome::Is::kMessages, id, 0, deadline};
}

bool WorkerChannel::has_news(std::uint64_t id) noexcept {
  Lock lock(mutex_);
  const std::uint32_t index = slots_.find(id);
  return index != Slots::kNone && slots_[index].has_news();
}

// What somebody else has left in the slot of a caller that looks.
std::optional<Outcome> WorkerChannel::take_news(ErlNifEnv* env, std::uint64_t id, ERL_NIF_TERM ref) noexcept {
  Lock lock(mutex_);
  const std::uint32_t index = slots_.find(id);
  if (index == Slots::kNone || !slots_[index].has_news()) return std::nullopt;
  return take_first(env, index, ref, lock);
}

Outcome WorkerChannel::take_first(ErlNifEnv* env, std::uint32_t index, ERL_NIF_TERM ref,
                                  Lock<Mutex>& lock) noexcept {
  return slots_[index].asks.empty() ? take_end(env, index, lock) : take_ask(env, index, ref, lock);
}

Outcome WorkerChannel::take_ask(ErlNifEnv* env, std::uint32_t index, ERL_NIF_TERM ref,
                                Lock<Mutex>& lock) noexcept {
  Slot& slot = slots_[index];
  const std::uint64_t id = slots_.id(index);
  const Ask ask = std::move(slot.asks.front());
  slot.asks.pop_front();
  const Outcome outcome{Outcome::Is::kAsk, id, enif_make_copy(env, ask.term), slot.deadline};
  const bool polled = std::exchange(slot.polls, false);
  Unseen unseen{};
  const ERL_NIF_TERM what = slots_.watch(env, slot, ref) ? 0 : forget(env, index, unseen);
  lock.unlock();
  drop(unseen);
  if (what != 0) tell_abandoned(env, what, id);
  if (polled) stop_polling(true);
  return outcome;
}

Outcome WorkerChannel::take_end(ErlNifEnv* env, std::uint32_t index, Lock<Mutex>& lock) noexcept {
  Slot& slot = slots_[index];
  const std::uint64_t id = slots_.id(index);
  const bool polled = slot.polls;
  if (slot.ended == Slot::Ended::kFailed) {
    const Outcome outcome = slot.started ? Outcome{Outcome::Is::kReply, id, down_term(env)}
                                         : Outcome{Outcome::Is::kNotStarted, id, 0, slot.deadline};
    free_slot(env, index);
    if (polled) pollers_.count.fetch_sub(1, std::memory_order_relaxed);
    return outcome;
  }
  const FrameHeader header = slot.reply;
  std::array<std::uint8_t, 512> few;  // uninitialised on purpose
  std::vector<std::uint8_t> many;
  std::span<const std::uint8_t> body;
  if (slot.reply_body.size() <= few.size()) {
    std::copy(slot.reply_body.begin(), slot.reply_body.end(), few.begin());
    body = {few.data(), slot.reply_body.size()};
  } else {
    many.swap(slot.reply_body);
    body = many;
  }
  free_slot(env, index);
  lock.unlock();
  if (polled) stop_polling(true);
  return {Outcome::Is::kReply, id, reply_term(env, header, body)};
}

// --- the end of polling ---

void WorkerChannel::stop_polling(bool found) noexcept {
  patience_.polling_found(found);
  if (pollers_.count.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  // Nobody looks any more: the worker has to wake the reader for the calls that wait for messages.
  std::uint32_t polled = channel::kPolled;
  auto& word = region_->header().reader_word.value;
  if (!word.compare_exchange_strong(polled, channel::kTimed, std::memory_order_seq_cst)) return;
  if (requests_pending() != 0) ring_worker();
  if (in_flight() != 0 && replies_pending() != 0) channel::wake_from(word, channel::kTimed);
}

// The reader thread, before it sleeps: not while callers poll. Those that were killed do not count; what they
// published and rang nobody for is not left behind.
bool WorkerChannel::may_sleep() noexcept {
  pollers_.reader_looks.store(false, std::memory_order_seq_cst);
  if (pollers_.count.load(std::memory_order_seq_cst) == 0 || polling(true) == 0) {
    ring_worker_for_others();
    return true;
  }
  pollers_.reader_looks.store(true, std::memory_order_seq_cst);
  return false;
}

// The reader thread: for a caller that polls and was killed before the turn in which it would have rung.
void WorkerChannel::ring_worker_for_others() noexcept {
  if (requests_pending() != 0) ring_worker();
}

// Gives back the slots of callers that were killed while they polled; what runs for them is called off.
void WorkerChannel::reap_dead_callers(bool is_reader) noexcept {
  std::vector<Unseen> unseen;
  std::vector<std::pair<ERL_NIF_TERM, std::uint64_t>> abandoned;
  {
    Lock lock(mutex_);
    for (std::uint32_t index = 0; index < slots_.size(); ++index) {
      Slot& slot = slots_[index];
      if (!slot.polls || enif_is_process_alive(nullptr, &slot.caller)) continue;
      const std::uint64_t id = slots_.id(index);
      unseen.emplace_back();
      abandoned.emplace_back(forget(nullptr, index, unseen.back()), id);
    }
  }
  for (const Unseen& one : unseen) drop(one);
  // Else the channel has lost its place, and is about to be closed.
  if (!is_reader) return;
  for (const auto& [what, id] : abandoned) tell_abandoned(nullptr, what, id);
}

std::uint32_t WorkerChannel::polling(bool is_reader) noexcept {
  if (pollers_.count.load(std::memory_order_relaxed) != 0) reap_dead_callers(is_reader);
  return pollers_.count.load(std::memory_order_relaxed);
}

// The reader thread, after a timed wait: looks whether those drain who were to.
void WorkerChannel::look_after_callers(std::uint32_t state, int& timed_rounds) noexcept {
  channel::Header& header = region_->header();
  auto& word = header.reader_word.value;
  if (state == channel::kPolled) service_room(nullptr);  // the worker does not wake the reader for it
  // Callers that poll ring at their turn's end, for all that have published by then: to ring sooner costs
  // many callers a twentieth of their calls.
  const std::uint64_t taken = header.request_head.value.load(std::memory_order_relaxed);
  reader_.untaken_rounds = taken == reader_.taken && requests_pending() != 0 ? reader_.untaken_rounds + 1 : 0;
  reader_.taken = taken;
  if (reader_.untaken_rounds > kUntakenRounds) ring_worker();
  const std::uint64_t head = header.reply_head.value.load(std::memory_order_relaxed);
  const std::uint64_t now = monotonic_ns();
  if (now >= reader_.reap_at_ns) {
    polling(true);
    reader_.reap_at_ns = std::max(now + kReapEveryNs, now + (monotonic_ns() - now) * kReapShare);
  }
  if (head != reader_.head || now - reader_.head_ns < kTimedWaitNs / 2) {
    if (head != reader_.head) reader_.head_ns = now;
    reader_.head = head;
    return;
  }
  if (replies_pending() != 0) {
    word.compare_exchange_strong(state, channel::kAwake, std::memory_order_acq_rel);
  } else if (++timed_rounds >= kTimedRounds) {
    timed_rounds = 0;
    if (state == channel::kTimed && !may_sleep()) return;
    const std::uint32_t rest = state == channel::kPolled ? channel::kTimed : channel::kAsleep;
    word.compare_exchange_strong(state, rest, std::memory_order_acq_rel);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (rest == channel::kAsleep && replies_pending() != 0) channel::wake_from(word, channel::kAsleep);
  }
}

}  // namespace typhon::beam
