// WorkerChannel: the calls in flight, and those whose callers have given up or ended.
#include "beam/worker_channel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <utility>

namespace typhon::beam {

std::uint32_t WorkerChannel::take_slot() noexcept {
  if (first_free_slot_ != kNoSlot) {
    const std::uint32_t index = first_free_slot_;
    first_free_slot_ = slots_[index].next_free;
    return index;
  }
  if (slots_.size() >= kMaxSlots) return kNoSlot;
  slots_.emplace_back();
  return static_cast<std::uint32_t>(slots_.size() - 1);
}

void WorkerChannel::free_slot(ErlNifEnv* env, std::uint32_t index) noexcept {
  Slot& slot = slots_[index];
  if (std::exchange(slot.monitored, false)) enif_demonitor_process(env, this, &slot.monitor);
  // 24 bits, never 0: an id is a small integer in the BEAM, and never 0.
  slot.generation = (slot.generation + 1) & 0xff'ffff;
  if (slot.generation == 0) slot.generation = 1;
  if (slot.ref != 0) enif_clear_env(slot.env);
  slot.ref = 0;
  slot.parked_body.clear();
  slot.asks.clear();
  slot.unheard = 0;
  if (slot.segment) segment_bytes_ -= slot.segment->capacity;
  slot.segment.reset();
  slot.state = Slot::State::kFree;
  slot.next_free = first_free_slot_;
  first_free_slot_ = index;
}

std::uint32_t WorkerChannel::find_slot(std::uint64_t id) const noexcept {
  const auto index = static_cast<std::uint32_t>(id);
  if (index >= slots_.size()) return kNoSlot;
  const Slot& slot = slots_[index];
  return slot.state != Slot::State::kFree && slot.generation == id >> 32 ? index : kNoSlot;
}

void WorkerChannel::set_waiting(ErlNifEnv* env, Slot& slot, const ErlNifPid& caller,
                                ERL_NIF_TERM ref) noexcept {
  if (!slot.env) slot.env = enif_alloc_env();
  slot.ref = enif_make_copy(slot.env, ref);
  slot.caller = caller;
  if (!slot.monitored) slot.monitored = enif_monitor_process(env, this, &caller, &slot.monitor) == 0;
  // One that was killed while it ran a dirty NIF has ended already, and nobody would tell.
  slot.state = slot.monitored ? Slot::State::kWaiting : Slot::State::kAbandoned;
}

// Of a call that the worker has not begun, which is over then: its frame is passed over, and may lie there
// for long. False: it is the worker's.
bool WorkerChannel::take_back(ErlNifEnv* env, std::uint32_t index) noexcept {
  Slot& slot = slots_[index];
  if (!claims_.withdraw(make_id(slot.generation, index))) return false;
  const std::optional<channel::Segment> segment = slot.segment;
  free_slot(env, index);
  if (segment) request_arena_.discard(*segment);
  in_flight_.fetch_sub(1, std::memory_order_relaxed);
  return true;
}

// A worker that takes nothing may stand still. Its owner is told once for each request that it took.
bool WorkerChannel::first_untaken(std::uint64_t id) noexcept {
  const std::uint64_t taken = region_->header().request_head.value.load(std::memory_order_relaxed);
  if (std::exchange(untaken_at_, taken + 1) == taken + 1) return false;
  untaken_id_ = id;
  return true;
}

// Nobody waits for this call any more. What the owner is to be told of it; 0: nothing.
ERL_NIF_TERM WorkerChannel::abandon(ErlNifEnv* env, std::uint32_t index) noexcept {
  const std::uint64_t id = make_id(slots_[index].generation, index);
  if (take_back(env, index)) return first_untaken(id) ? state_.atoms.untaken : 0;
  slots_[index].state = Slot::State::kAbandoned;
  return state_.atoms.overdue;
}

void WorkerChannel::tell_abandoned(ErlNifEnv* caller_env, ERL_NIF_TERM what, std::uint64_t id) noexcept {
  service_room(caller_env);  // what was taken back may have made some
  if (what == 0) return;
  OwnedEnv message;
  ErlNifEnv* env = message.get();
  send_owner(caller_env, env, enif_make_tuple2(env, what, enif_make_uint64(env, id)));
}

WorkerChannel::Cancel WorkerChannel::cancel(ErlNifEnv* env, std::uint64_t id) noexcept {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      const std::uint32_t index = find_slot(id);
      if (index == kNoSlot || slots_[index].state == Slot::State::kAbandoned) return Cancel::kDelivered;
      if (slots_[index].state == Slot::State::kWaiting) {
        const ERL_NIF_TERM what = abandon(env, index);
        lock.unlock();
        tell_abandoned(env, what, id);
        return Cancel::kCancelled;
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
  {
    std::lock_guard lock(mutex_);
    const auto slot = std::find_if(slots_.begin(), slots_.end(), [&](const Slot& candidate) {
      return candidate.monitored && enif_compare_monitors(&monitor, &candidate.monitor) == 0;
    });
    if (slot == slots_.end()) return;
    slot->monitored = false;
    if (slot->state != Slot::State::kWaiting) return;
    const auto index = static_cast<std::uint32_t>(slot - slots_.begin());
    id = make_id(slot->generation, index);
    what = abandon(env, index);
  }
  tell_abandoned(env, what, id);
}

WorkerChannel::Abandoned WorkerChannel::abandoned(std::uint64_t id) noexcept {
  std::lock_guard lock(mutex_);
  const std::uint32_t index = find_slot(id);
  if (index != kNoSlot && slots_[index].state == Slot::State::kAbandoned)
    return imports_for(id) ? Abandoned::kImports : Abandoned::kRuns;
  const std::uint64_t taken = region_->header().request_head.value.load(std::memory_order_acquire);
  if (id != untaken_id_ || untaken_at_ != taken + 1) return Abandoned::kEnded;
  return runs_something() ? Abandoned::kWaits : Abandoned::kIgnored;
}

bool WorkerChannel::runs_something() const noexcept {
  if (region_->header().casts_done.value.load(std::memory_order_acquire) != casts_sent_) return true;
  for (std::uint32_t index = 0; index < slots_.size(); ++index) {
    const Slot& slot = slots_[index];
    if (slot.state != Slot::State::kFree && claims_.is_taken(make_id(slot.generation, index))) return true;
  }
  return false;
}

}  // namespace typhon::beam
