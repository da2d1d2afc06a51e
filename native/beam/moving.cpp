#include "beam/moving.h"

#include <algorithm>
#include <cstddef>
#include <tuple>

#include "beam/pool.h"
#include "beam/worker_channel.h"
#include "channel/doorbell.h"
#include "os/clock.h"
#include "os/wait.h"

namespace typhon::beam {

using os::monotonic_ns;

namespace {

// Between two looks at pools in which calls wait.
constexpr std::uint64_t kLookEveryNs = 1'000'000;
// A call goes to a worker that is busy when it has waited so many times as long as one waits there.
constexpr std::uint64_t kTimesAsLong = 4;
// Nor before it has waited so long.
constexpr std::uint64_t kWaitedNs = 1'000'000;

}  // namespace

// --- the thread ---

void Mover::add(Pool& pool) noexcept {
  Lock lock(mutex_);
  pools_.push_back(&pool);
}

void Mover::remove(Pool& pool) noexcept {
  Lock lock(mutex_);
  std::erase(pools_, &pool);
}

void Mover::wake() noexcept {
  std::uint32_t idle = kIdle;
  if (state_.compare_exchange_strong(idle, kLooks, std::memory_order_seq_cst)) os::wake_word(state_, 1);
  if (runs_.load(std::memory_order_acquire)) return;
  const Lock lock(opening_);
  if (runs_.load(std::memory_order_relaxed)) return;
  char name[] = "typhon_mover";
  // If there is no thread to be had calls wait where they are.
  const bool started = enif_thread_create(name, &thread_, &Mover::thread_main, this, nullptr) == 0;
  runs_.store(started, std::memory_order_release);
}

bool Mover::stop_thread() noexcept {
  const Lock lock(opening_);
  if (!runs_.load(std::memory_order_relaxed)) return false;
  state_.store(kStops, std::memory_order_seq_cst);
  os::wake_word(state_, 1);
  enif_thread_join(thread_, nullptr);
  state_.store(kLooks, std::memory_order_seq_cst);  // whoever runs next looks first
  runs_.store(false, std::memory_order_release);
  return true;
}

void* Mover::thread_main(void* self) noexcept {
  static_cast<Mover*>(self)->run();
  return nullptr;
}

void Mover::run() noexcept {
  for (;;) {
    switch (state_.load(std::memory_order_seq_cst)) {
      case kStops:
        return;
      case kIdle:
        os::wait_word(state_, kIdle, -1);
        break;
      default:
        if (look()) {
          os::wait_word(state_, kLooks, static_cast<std::int64_t>(kLookEveryNs));
          break;
        }
        // Rest, then look once more: a queue that was noted meanwhile has woken nobody.
        std::uint32_t looks = kLooks;
        state_.compare_exchange_strong(looks, kIdle, std::memory_order_seq_cst);
        if (look()) {
          std::uint32_t idle = kIdle;
          state_.compare_exchange_strong(idle, kLooks, std::memory_order_seq_cst);
        }
    }
  }
}

// True while calls wait somewhere.
bool Mover::look() noexcept {
  Lock lock(mutex_);
  bool queued = false;
  for (Pool* pool : pools_) {
    if (!pool->queued()) continue;
    pool->move_calls(monotonic_ns());
    queued |= pool->queued();
  }
  return queued;
}

// --- a pool ---

std::vector<Pool::Seen> Pool::see_all() noexcept {
  std::vector<Seen> seen;
  seen.reserve(size_ + 4);
  const auto see = [&seen](WorkerChannel* channel, bool open) {
    if (!channel || channel->closed() || channel->raw()) return;
    enif_keep_resource(channel);
    seen.push_back({channel, open, false, 0, 0});
  };
  enter();
  for (std::size_t i = 0; i < size_; ++i)
    see(places_[i].channel.load(std::memory_order_acquire), open_channel(i) != nullptr);
  for (WorkerChannel* channel : retired_) see(channel, false);
  leave();
  return seen;
}

void Pool::move_calls(std::uint64_t now) noexcept {
  queued_.store(false, std::memory_order_seq_cst);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  std::vector<Seen> seen = see_all();
  bool any_still = false;
  for (Seen& one : seen) {
    const bool waits = one.channel->weight() > concurrency_;
    one.still = waits && one.channel->stands_still(now);
    any_still |= one.still;
    if (waits) queued_.store(true, std::memory_order_seq_cst);
  }
  on_their_way_ = any_still ? move_between(seen, now) : 0;
  for (const Seen& one : seen) enif_release_resource(one.channel);
}

void Pool::measure_room(Seen& seen, std::uint64_t now) const noexcept {
  if (!seen.open || seen.still) return;
  const std::uint32_t weight = seen.channel->weight();
  if (weight < concurrency_) {
    seen.room = concurrency_ - weight;
  } else {
    seen.room = weight;
    seen.patience = std::max<std::uint64_t>(seen.channel->longest_wait(now), 1);
  }
}

// How many were moved.
std::size_t Pool::move_between(std::vector<Seen>& seen, std::uint64_t now) noexcept {
  for (Seen& one : seen) measure_room(one, now);
  // The free ones first. Calls that were moved a moment ago may not have arrived yet.
  std::sort(seen.begin(), seen.end(), [](const Seen& a, const Seen& b) { return a.patience < b.patience; });
  for (Seen& one : seen) {
    const std::size_t expected = std::min(one.room, on_their_way_);
    one.room -= expected;
    on_their_way_ -= expected;
  }
  if (std::none_of(seen.begin(), seen.end(), [](const Seen& one) { return one.room != 0; })) return 0;
  const bool some_free = std::any_of(seen.begin(), seen.end(),
                                     [](const Seen& one) { return one.room != 0 && one.patience == 0; });

  std::vector<WorkerChannel::Movable> calls;
  for (const Seen& one : seen) {
    if (!one.still) continue;
    one.channel->add_movable(calls);
    if (some_free) one.channel->move_waiters_away();
  }
  std::sort(calls.begin(), calls.end(), [](const WorkerChannel::Movable& a, const WorkerChannel::Movable& b) {
    return std::tuple(!a.admitted, a.submitted) < std::tuple(!b.admitted, b.submitted);
  });
  std::size_t moved = 0;
  auto next = calls.begin();
  for (Seen& one : seen) {
    for (; one.room != 0 && next != calls.end(); ++next) {
      const std::uint64_t waited = now - std::min(now, next->submitted);
      if (one.patience != 0 && waited < std::max(kWaitedNs, kTimesAsLong * one.patience)) break;
      if (!next->channel->move_away(next->id, now)) continue;
      --one.room;
      ++moved;
    }
  }
  return moved;
}

// --- a channel ---

std::uint64_t WorkerChannel::longest_wait(std::uint64_t now) noexcept {
  Lock lock(mutex_);
  std::uint64_t oldest = now;
  for (std::uint32_t index = 0; index < slots_.size(); ++index) {
    const Slot& slot = slots_[index];
    if (slot.state != Slot::State::kFree) oldest = std::min(oldest, slot.submitted);
  }
  return now - oldest;
}

void WorkerChannel::add_movable(std::vector<Movable>& calls) noexcept {
  Lock lock(mutex_);
  if (life_.closed.load(std::memory_order_relaxed)) return;
  for (std::uint32_t index = 0; index < slots_.size(); ++index) {
    const Slot& slot = slots_[index];
    // One that looks waits for messages soon.
    if (slot.state != Slot::State::kWaits || !slot.movable) continue;
    const std::uint64_t id = slots_.id(index);
    if (claims_.state(id) == channel::Claim::kOpen)
      calls.push_back({this, id, slot.submitted, slot.admitted});
  }
}

bool WorkerChannel::move_away(std::uint64_t id, std::uint64_t now) noexcept {
  {
    // Told under the mutex: one who gives up finds in its mailbox what it was told.
    Lock lock(mutex_);
    const std::uint32_t index = slots_.find(id);
    if (index == Slots::kNone || slots_[index].state != Slot::State::kWaits || !slots_[index].movable)
      return false;
    Slot& slot = slots_[index];
    const ErlNifPid caller = slot.caller;
    ErlNifEnv* env = slot.env;
    const ERL_NIF_TERM ref = slot.ref;
    const std::uint64_t deadline = slot.deadline;
    slot.env = nullptr;  // it becomes the message
    slot.ref = 0;
    if (!take_back(nullptr, index)) {
      slot.env = env;
      slot.ref = ref;
      return false;
    }
    load_.moved_away.fetch_add(1, std::memory_order_relaxed);
    load_.moved_in_all.fetch_add(1, std::memory_order_relaxed);
    enif_send(nullptr, &caller, env, enif_make_tuple2(env, ref, not_started_term(env, deadline, now)));
    enif_free_env(env);
  }
  service_room(nullptr);
  return true;
}

void WorkerChannel::move_waiters_away() noexcept {
  if (!load_.room_wanted.load(std::memory_order_relaxed)) return;
  std::vector<RoomQueue::Waiter> moved;
  {
    Lock lock(mutex_);
    moved = room_.take_movable();
  }
  RoomQueue::tell(nullptr, state_.atoms, moved);
}

}  // namespace typhon::beam
