#include "beam/slots.h"

#include <utility>

namespace typhon::beam {

void Ask::send(ErlNifEnv* caller_env, const ErlNifPid& to, ERL_NIF_TERM ref) const noexcept {
  ErlNifEnv* message = env->get();
  enif_send(caller_env, &to, message, enif_make_tuple2(message, enif_make_copy(message, ref), term));
}

Unseen Unseen::take(Slot& slot) noexcept {
  return {slot.reply, std::move(slot.reply_body), std::exchange(slot.asks, {}),
          slot.ended == Slot::Ended::kReply};
}

Slots::~Slots() {
  for (Slot& slot : slots_) {
    if (slot.env) enif_free_env(slot.env);
  }
}

std::uint32_t Slots::take() noexcept {
  if (first_free_ != kNone) {
    const std::uint32_t index = first_free_;
    first_free_ = slots_[index].next_free;
    return index;
  }
  if (slots_.size() >= kMost) return kNone;
  slots_.emplace_back();
  return static_cast<std::uint32_t>(slots_.size() - 1);
}

std::size_t Slots::free(ErlNifEnv* env, std::uint32_t index) noexcept {
  Slot& slot = slots_[index];
  if (std::exchange(slot.monitored, false)) enif_demonitor_process(env, channel_, &slot.monitor);
  // 24 bits, never 0: an id is a small integer in the BEAM, and never 0.
  slot.generation = (slot.generation + 1) & 0xff'ffff;
  if (slot.generation == 0) slot.generation = 1;
  if (slot.ref != 0) enif_clear_env(slot.env);
  slot.ref = 0;
  slot.polls = false;
  slot.turns = 0;
  slot.ended = Slot::Ended::kNot;
  slot.reply_body.clear();
  slot.asks.clear();
  slot.unheard = 0;
  const std::size_t bytes = slot.segment ? slot.segment->capacity : 0;
  slot.segment.reset();
  slot.state = Slot::State::kFree;
  slot.next_free = first_free_;
  first_free_ = index;
  return bytes;
}

std::size_t Slots::free_unseen(ErlNifEnv* env, std::uint32_t index) noexcept {
  const std::uint32_t generation = slots_[index].generation;
  const std::size_t bytes = free(env, index);
  slots_[index].generation = generation;
  return bytes;
}

std::uint32_t Slots::find(std::uint64_t id) const noexcept {
  const auto index = static_cast<std::uint32_t>(id);
  if (index >= slots_.size()) return kNone;
  const Slot& slot = slots_[index];
  return slot.state != Slot::State::kFree && slot.generation == id >> 32 ? index : kNone;
}

std::uint32_t Slots::find(const ErlNifMonitor& monitor) const noexcept {
  for (std::uint32_t index = 0; index < slots_.size(); ++index) {
    const Slot& slot = slots_[index];
    if (slot.monitored && enif_compare_monitors(&monitor, &slot.monitor) == 0) return index;
  }
  return kNone;
}

bool Slots::watch(ErlNifEnv* env, Slot& slot, ERL_NIF_TERM ref) noexcept {
  if (!slot.env) slot.env = enif_alloc_env();
  if (slot.ref == 0) slot.ref = enif_make_copy(slot.env, ref);
  return monitor(env, slot);
}

bool Slots::monitor(ErlNifEnv* env, Slot& slot) noexcept {
  if (!slot.monitored) slot.monitored = enif_monitor_process(env, channel_, &slot.caller, &slot.monitor) == 0;
  return slot.monitored;
}

void Slots::set_waits(ErlNifEnv* env, Slot& slot, ERL_NIF_TERM ref) noexcept {
  slot.state = watch(env, slot, ref) ? Slot::State::kWaits : Slot::State::kAbandoned;
}

void Slots::count_heard(std::uint64_t id) noexcept {
  const std::uint32_t index = find(id);
  if (index != kNone && slots_[index].unheard > 0) --slots_[index].unheard;
}

}  // namespace typhon::beam
