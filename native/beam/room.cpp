#include "beam/room.h"

#include <algorithm>
#include <utility>

namespace typhon::beam {

RoomQueue::~RoomQueue() {
  for (const Waiter& waiter : waiters_) enif_free_env(waiter.env);
}

void RoomQueue::add(const ErlNifPid& caller, ERL_NIF_TERM ref, bool movable) noexcept {
  ErlNifEnv* env = enif_alloc_env();
  ++added_;
  waiters_.push_back({caller, env, enif_make_copy(env, ref), movable});
}

void RoomQueue::remove(ERL_NIF_TERM ref) noexcept {
  const auto waiter = std::find_if(waiters_.begin(), waiters_.end(),
                                   [&](const Waiter& one) { return enif_compare(one.ref, ref) == 0; });
  if (waiter == waiters_.end()) return;
  enif_free_env(waiter->env);
  waiters_.erase(waiter);
}

std::vector<RoomQueue::Waiter> RoomQueue::take_all() noexcept { return std::exchange(waiters_, {}); }

std::vector<RoomQueue::Waiter> RoomQueue::take_movable() noexcept {
  const auto first = std::stable_partition(waiters_.begin(), waiters_.end(),
                                           [](const Waiter& waiter) { return !waiter.movable; });
  std::vector<Waiter> taken(first, waiters_.end());
  waiters_.erase(first, waiters_.end());
  return taken;
}

void RoomQueue::tell(ErlNifEnv* caller_env, const Atoms& atoms, std::vector<Waiter>& waiters) noexcept {
  for (const Waiter& waiter : waiters) {
    enif_send(caller_env, &waiter.caller, waiter.env, enif_make_tuple2(waiter.env, waiter.ref, atoms.room));
    enif_free_env(waiter.env);
  }
  waiters.clear();
}

}  // namespace typhon::beam
