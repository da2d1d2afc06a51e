// WorkerChannel: requests that have to wait for room, in the ring or for their segments.
#include "beam/worker_channel.h"

#include <atomic>
#include <mutex>
#include <optional>
#include <vector>

namespace typhon::beam {

void WorkerChannel::add_room_waiter(const ErlNifPid& caller, ERL_NIF_TERM ref, bool movable) noexcept {
  ErlNifEnv* env = enif_alloc_env();
  room_waiters_.push_back({caller, env, enif_make_copy(env, ref), movable});
  room_wanted_.store(true, std::memory_order_relaxed);
}

void WorkerChannel::service_room(ErlNifEnv* caller_env) noexcept {
  if (!room_wanted_.load(std::memory_order_relaxed)) return;
  std::vector<RoomWaiter> woken;
  bool released = false;
  {
    std::lock_guard lock(mutex_);
    if (!closed_.load(std::memory_order_relaxed)) {
      settle_casts();
      if (segment_bytes_ >= kSegmentBudget) {
        // A reply that frees some comes back here; a cast that is taken must be asked for.
        region_->header().request_room.value.store(1, std::memory_order_release);
        std::atomic_thread_fence(std::memory_order_seq_cst);
        settle_casts();
        if (segment_bytes_ >= kSegmentBudget) return;
      }
      if (requests_.used() > requests_.size() / 2) {
        region_->header().request_room.value.store(1, std::memory_order_release);
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if (requests_.used() > requests_.size() / 2) return;
      }
    }
    woken.swap(room_waiters_);
    room_wanted_.store(false, std::memory_order_relaxed);
    if (!closed_.load(std::memory_order_relaxed)) released = push_all_releases();
  }
  if (released) ring_worker();
  for (RoomWaiter& waiter : woken) {
    const ERL_NIF_TERM message = enif_make_tuple2(waiter.env, waiter.ref, state_.atoms.room);
    enif_send(caller_env, &waiter.caller, waiter.env, message);
    enif_free_env(waiter.env);
  }
}

void WorkerChannel::settle_casts() noexcept {
  const std::uint64_t taken = region_->header().request_head.value.load(std::memory_order_acquire);
  // The position is that of the frame's end: taken means wholly consumed.
  while (!cast_segments_.empty() && cast_segments_.front().end <= taken) {
    segment_bytes_ -= cast_segments_.front().bytes;
    cast_segments_.pop_front();
  }
}

bool WorkerChannel::wait_for_segments(const ErlNifPid& caller, ERL_NIF_TERM ref, bool movable) noexcept {
  std::lock_guard lock(mutex_);
  // Casts are not answered: it is the worker's taking them that makes room, so ask it to say so.
  region_->header().request_room.value.store(1, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  settle_casts();
  if (segment_bytes_ == 0 && !closed_.load(std::memory_order_relaxed)) return false;
  add_room_waiter(caller, ref, movable);
  return true;
}

void WorkerChannel::stop_waiting_for_room(ERL_NIF_TERM ref) noexcept {
  std::lock_guard lock(mutex_);
  for (auto waiter = room_waiters_.begin(); waiter != room_waiters_.end(); ++waiter) {
    if (enif_compare(waiter->ref, ref) != 0) continue;
    enif_free_env(waiter->env);
    room_waiters_.erase(waiter);
    return;
  }
}

std::optional<channel::Segment> WorkerChannel::allocate_segment(std::size_t bytes) noexcept {
  std::lock_guard lock(mutex_);
  request_arena_.reap();
  settle_casts();
  if (segment_bytes_ > 0 && segment_bytes_ + bytes > kSegmentBudget) return std::nullopt;
  return request_arena_.allocate(bytes);
}

bool WorkerChannel::may_lend(std::size_t bytes) noexcept {
  std::lock_guard lock(mutex_);
  settle_casts();
  return segment_bytes_ == 0 || segment_bytes_ + bytes <= kSegmentBudget;
}

bool WorkerChannel::grow_segment(channel::Segment& segment, std::size_t used, std::size_t bytes) noexcept {
  std::lock_guard lock(mutex_);
  return request_arena_.grow(segment, used, bytes);
}

void WorkerChannel::shrink_segment(channel::Segment& segment, std::size_t used) noexcept {
  std::lock_guard lock(mutex_);
  request_arena_.shrink(segment, used);
}

void WorkerChannel::discard_segment(const channel::Segment& segment) noexcept {
  std::lock_guard lock(mutex_);
  request_arena_.discard(segment);
}

}  // namespace typhon::beam
