// WorkerChannel: calls whose callers have given up, or ended.
#include "beam/worker_channel.h"

#include <sched.h>

#include <atomic>
#include <optional>
#include <utility>

namespace typhon::beam {

// Of a call that the worker has not begun, which is over then: its frame is passed over, and may lie there
// for long. False: it is the worker's.
bool WorkerChannel::take_back(ErlNifEnv* env, std::uint32_t index) noexcept {
  Slot& slot = slots_[index];
  if (!claims_.withdraw(slots_.id(index))) return false;
  const std::optional<channel::Segment> segment = slot.segment;
  free_slot(env, index);
  if (segment) requests_.discard(*segment);
  load_.in_flight.fetch_sub(1, std::memory_order_relaxed);
  return true;
}

// A worker that takes nothing may stand still. Its owner is told once for each request that it took.
bool WorkerChannel::first_untaken(std::uint64_t id) noexcept {
  const std::uint64_t taken = region_->header().request_head.value.load(std::memory_order_relaxed);
  if (std::exchange(untaken_.at, taken + 1) == taken + 1) return false;
  untaken_.id = id;
  return true;
}

// Nobody waits for this call any more. What the owner is to be told of it; 0: nothing.
ERL_NIF_TERM WorkerChannel::abandon(ErlNifEnv* env, std::uint32_t index) noexcept {
  const std::uint64_t id = slots_.id(index);
  if (take_back(env, index)) return first_untaken(id) ? state_.atoms.untaken : 0;
  slots_[index].state = Slot::State::kAbandoned;
  return state_.atoms.overdue;
}

// The same for a caller that looked: drop() what it has not seen, without the mutex.
ERL_NIF_TERM WorkerChannel::forget(ErlNifEnv* env, std::uint32_t index, Unseen& unseen) noexcept {
  Slot& slot = slots_[index];
  unseen = Unseen::take(slot);
  if (std::exchange(slot.polls, false)) pollers_.count.fetch_sub(1, std::memory_order_relaxed);
  if (slot.ended == Slot::Ended::kNot) return abandon(env, index);
  free_slot(env, index);
  return 0;
}

void WorkerChannel::drop(const Unseen& unseen) noexcept {
  if (!unseen.replied) return;
  const OwnedEnv env;
  drop_reply(env.get(), unseen.reply, unseen.reply_body);
}

void WorkerChannel::tell_abandoned(ErlNifEnv* caller_env, ERL_NIF_TERM what, std::uint64_t id) noexcept {
  service_room(caller_env);  // what was taken back may have made some
  if (what == 0) return;
  OwnedEnv message;
  ErlNifEnv* env = message.get();
  send_owner(caller_env, env, enif_make_tuple2(env, what, enif_make_uint64(env, id)));
}

Outcome WorkerChannel::cancel(ErlNifEnv* env, std::uint64_t id) noexcept {
  for (;;) {
    {
      Lock lock(mutex_);
      const std::uint32_t index = slots_.find(id);
      if (index == Slots::kNone || slots_[index].state == Slot::State::kAbandoned)
        return {Outcome::Is::kMessages, id};
      Slot& slot = slots_[index];
      if (slot.state != Slot::State::kDelivering) {
        for (const Ask& ask : slot.asks) ask.send(env, slot.caller, slot.ref);
        slot.asks.clear();
        if (slot.ended != Slot::Ended::kNot) return take_end(env, index, lock);
        const ERL_NIF_TERM what = abandon(env, index);
        lock.unlock();
        tell_abandoned(env, what, id);
        return {what == state_.atoms.overdue ? Outcome::Is::kAccepted : Outcome::Is::kNotStarted, id};
      }
    }
    ::sched_yield();  // being delivered at this moment
  }
}

void WorkerChannel::process_down(ErlNifEnv* env, const ErlNifMonitor& monitor) noexcept {
  if (enif_compare_monitors(&monitor, &owner_monitor_) == 0) {
    close(nullptr, state_.atoms.owner_down);
    return;
  }
  ERL_NIF_TERM what = 0;
  std::uint64_t id = 0;
  Unseen unseen{};
  {
    Lock lock(mutex_);
    const std::uint32_t index = slots_.find(monitor);
    if (index == Slots::kNone) return;
    slots_[index].monitored = false;
    if (!slots_[index].has_caller()) return;
    id = slots_.id(index);
    what = forget(env, index, unseen);
  }
  drop(unseen);
  tell_abandoned(env, what, id);
}

WorkerChannel::Abandoned WorkerChannel::abandoned(std::uint64_t id) noexcept {
  Lock lock(mutex_);
  const std::uint32_t index = slots_.find(id);
  if (index != Slots::kNone && slots_[index].state == Slot::State::kAbandoned)
    return imports_for(id) ? Abandoned::kImports : Abandoned::kRuns;
  const std::uint64_t taken = region_->header().request_head.value.load(std::memory_order_acquire);
  if (id != untaken_.id || untaken_.at != taken + 1) return Abandoned::kEnded;
  return runs_something() ? Abandoned::kWaits : Abandoned::kIgnored;
}

bool WorkerChannel::runs_something() const noexcept {
  if (casts() != 0) return true;
  for (std::uint32_t index = 0; index < slots_.size(); ++index) {
    const Slot& slot = slots_[index];
    if (slot.state != Slot::State::kFree && claims_.is_taken(slots_.id(index))) return true;
  }
  return false;
}

}  // namespace typhon::beam
