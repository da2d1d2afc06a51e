// WorkerChannel: callers that look for their replies when their turn comes (kPolling, kParked, kFailed).
#include "beam/worker_channel.h"
#include "os/clock.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <iterator>
#include <mutex>
#include <utility>
#include <vector>

namespace typhon::beam {

using channel::FrameHeader;
using os::monotonic_ns;

namespace {

// Turns without a reply after which a caller stops polling; after some such in a row only one in some polls.
constexpr std::uint32_t kPollsAtLeast = 4;
constexpr std::uint64_t kPollSpins = 2;
constexpr std::uint32_t kPollMisses = 16;
constexpr std::uint32_t kPollRetryEvery = 64;
// How often the reader thread looks for callers that were killed. It looks at every call in flight for that,
// with the mutex, so that it waits for so many times what it took.
constexpr std::uint64_t kReapEveryNs = 20'000'000;
constexpr std::uint64_t kReapShare = 100;
// For so many of the reader thread's timed waits a worker may take nothing of what lies in its ring, before
// it is rung for callers that may have been killed.
constexpr int kUntakenRounds = 20;

}  // namespace

// While polls find no replies, only one caller in some tries.
bool WorkerChannel::start_polling() noexcept {
  const std::uint32_t misses = poll_misses_.load(std::memory_order_relaxed);
  if (misses >= kPollMisses) {
    poll_misses_.store(misses + 1, std::memory_order_relaxed);
    if (misses % kPollRetryEvery != 0) return false;
  }
  // Only while the reader looks after those who poll (see may_sleep()), and while the channel can be found by
  // its place in the pool (see retire()): both look at polling_ after they have said so.
  polling_.fetch_add(1, std::memory_order_seq_cst);
  if (reader_looks_.load(std::memory_order_seq_cst) && !retired_.load(std::memory_order_seq_cst)) return true;
  polling_.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

Polled WorkerChannel::poll(ErlNifEnv* env, std::uint64_t id, ERL_NIF_TERM ref) noexcept {
  using Outcome = Polled::Outcome;
  if (const Polled parked = take_parked(env, id, ref); parked.outcome != Outcome::kAgain) return parked;

  ERL_NIF_TERM reply = 0;
  std::uint32_t found = 0;
  if (replies_pending() != 0 && try_take_role(found)) {
    // What somebody else has left in the slot since that look comes before what lies in the ring.
    if (left_in_slot(id)) {
      leave_role(found);
      return {Outcome::kAgain, 0, 0};
    }
    const Drained drained = drain(env, id, ref, &reply, kDrainBatch);
    leave_role(found);
    if (drained == Drained::kMine) {
      stop_polling(true);
      service_room(env);
      return {Outcome::kReplied, reply, 0};
    }
    if (drained == Drained::kAsked) {
      stop_polling(true);
      service_room(env);
      std::lock_guard lock(mutex_);
      const std::uint32_t index = find_slot(id);
      return {Outcome::kWaiting, 0, index == kNoSlot ? 0 : slots_[index].deadline};
    }
  }
  if (requests_pending() != 0) ring_worker();
  service_room(env);
  std::uint64_t deadline = 0;
  std::unique_lock lock(mutex_);
  const std::uint32_t index = find_slot(id);
  // Another thread may have left something there since take_parked() looked.
  if (index == kNoSlot || slots_[index].state != Slot::State::kPolling || !slots_[index].asks.empty())
    return {Outcome::kAgain, 0, 0};
  Slot& slot = slots_[index];
  if (++slot.polls < kPollsAtLeast || monotonic_ns() - slot.submitted < spin_ns_ * kPollSpins) {
    lock.unlock();
    ::sched_yield();  // the worker may need this very core
    return {Outcome::kAgain, 0, 0};
  }
  // It takes long: wait for a message.
  set_waiting(env, slot, slot.caller, ref);
  deadline = slot.deadline;
  const ERL_NIF_TERM what = slot.state == Slot::State::kAbandoned ? abandon(env, index) : 0;
  lock.unlock();
  tell_abandoned(env, what, id);
  stop_polling(false);
  return {Outcome::kWaiting, 0, deadline};
}

bool WorkerChannel::left_in_slot(std::uint64_t id) noexcept {
  std::lock_guard lock(mutex_);
  const std::uint32_t index = find_slot(id);
  return index == kNoSlot || slots_[index].state != Slot::State::kPolling || !slots_[index].asks.empty();
}

// What somebody else has left in the slot of a caller that polls; kAgain when there is nothing.
Polled WorkerChannel::take_parked(ErlNifEnv* env, std::uint64_t id, ERL_NIF_TERM ref) noexcept {
  using Outcome = Polled::Outcome;
  std::vector<Ask> asks;
  FrameHeader header{};
  std::array<std::uint8_t, 512> few;  // uninitialised on purpose
  std::vector<std::uint8_t> many;
  std::span<const std::uint8_t> body;
  {
    std::unique_lock lock(mutex_);
    const std::uint32_t index = find_slot(id);
    if (index == kNoSlot)
      return {Outcome::kReplied, enif_make_tuple2(env, state_.atoms.down, state_.atoms.closed), 0};
    Slot& slot = slots_[index];
    asks.swap(slot.asks);
    switch (slot.state) {
      case Slot::State::kParked:
        break;
      case Slot::State::kFailed: {
        const Polled failed{slot.started ? Outcome::kReplied : Outcome::kNotStarted,
                            slot.started ? down_term(env) : 0, slot.deadline};
        free_slot(env, index);
        polling_.fetch_sub(1, std::memory_order_relaxed);
        return failed;
      }
      default:
        if (asks.empty()) return {Outcome::kAgain, 0, 0};
        set_waiting(env, slot, slot.caller, ref);
    }
    for (const Ask& ask : asks) send_ask(env, slot.caller, ref, ask);
    if (slot.state == Slot::State::kWaiting || slot.state == Slot::State::kAbandoned) {
      const std::uint64_t deadline = slot.deadline;
      const ERL_NIF_TERM what = slot.state == Slot::State::kAbandoned ? abandon(env, index) : 0;
      lock.unlock();
      tell_abandoned(env, what, id);
      stop_polling(true);
      return {Outcome::kWaiting, 0, deadline};
    }
    header = slot.parked;
    if (slot.parked_body.size() <= few.size()) {
      std::copy(slot.parked_body.begin(), slot.parked_body.end(), few.begin());
      body = {few.data(), slot.parked_body.size()};
    } else {
      many.swap(slot.parked_body);
      body = many;
    }
    free_slot(env, index);
  }
  stop_polling(true);
  const ERL_NIF_TERM reply = reply_term(env, header, body);
  if (asks.empty()) return {Outcome::kReplied, reply, 0};
  // What it was asked lies in its mailbox, and comes first.
  ErlNifPid self;
  OwnedEnv message;
  ErlNifEnv* to = message.get();
  enif_send(env, enif_self(env, &self), to,
            enif_make_tuple2(to, enif_make_copy(to, ref), enif_make_copy(to, reply)));
  return {Outcome::kWaiting, 0, 0};
}

void WorkerChannel::stop_polling(bool found) noexcept {
  poll_misses_.store(found ? 0 : poll_misses_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (polling_.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
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
  reader_looks_.store(false, std::memory_order_seq_cst);
  if (polling_.load(std::memory_order_seq_cst) == 0 || polling(true) == 0) {
    ring_worker_for_others();
    return true;
  }
  reader_looks_.store(true, std::memory_order_seq_cst);
  return false;
}

// The reader thread: for a caller that polls and was killed before the turn in which it would have rung.
void WorkerChannel::ring_worker_for_others() noexcept {
  if (requests_pending() != 0) ring_worker();
}

// Gives back the slots of callers that were killed while they polled; what runs for them is called off.
void WorkerChannel::reap_dead_callers(bool is_reader) noexcept {
  struct Dropped {
    FrameHeader header;
    std::vector<std::uint8_t> body;
  };
  std::vector<Dropped> dropped;
  std::vector<Ask> asks;
  std::vector<std::pair<ERL_NIF_TERM, std::uint64_t>> abandoned;
  {
    std::lock_guard lock(mutex_);
    for (std::uint32_t index = 0; index < slots_.size(); ++index) {
      Slot& slot = slots_[index];
      const bool polls = slot.state == Slot::State::kPolling || slot.state == Slot::State::kParked ||
                         slot.state == Slot::State::kFailed;
      if (!polls || enif_is_process_alive(nullptr, &slot.caller)) continue;
      polling_.fetch_sub(1, std::memory_order_relaxed);
      std::move(slot.asks.begin(), slot.asks.end(), std::back_inserter(asks));
      slot.asks.clear();
      if (slot.state == Slot::State::kPolling) {
        const std::uint64_t id = make_id(slot.generation, index);
        abandoned.emplace_back(abandon(nullptr, index), id);
        continue;
      }
      if (slot.state == Slot::State::kParked) dropped.push_back({slot.parked, std::move(slot.parked_body)});
      free_slot(nullptr, index);
    }
  }
  // Not under the mutex: handles of objects that go with a reply, or with an ask, take it.
  for (const Dropped& reply : dropped) {
    const OwnedEnv env;
    drop_reply(env.get(), reply.header, reply.body);
  }
  // Else the channel has lost its place, and is about to be closed.
  if (!is_reader) return;
  for (const auto& [what, id] : abandoned) tell_abandoned(nullptr, what, id);
}

std::uint32_t WorkerChannel::polling(bool is_reader) noexcept {
  if (polling_.load(std::memory_order_relaxed) != 0) reap_dead_callers(is_reader);
  return polling_.load(std::memory_order_relaxed);
}

// The reader thread, after a timed wait: looks whether those drain who were to.
void WorkerChannel::look_after_callers(std::uint32_t state, int& timed_rounds) noexcept {
  channel::Header& header = region_->header();
  auto& word = header.reader_word.value;
  if (state == channel::kPolled) service_room(nullptr);  // the worker does not wake the reader for it
  // Callers that poll ring at their turn's end, for all that have published by then: to ring sooner costs
  // many callers a twentieth of their calls.
  const std::uint64_t taken = header.request_head.value.load(std::memory_order_relaxed);
  untaken_rounds_ = taken == taken_seen_ && requests_pending() != 0 ? untaken_rounds_ + 1 : 0;
  taken_seen_ = taken;
  if (untaken_rounds_ > kUntakenRounds) ring_worker();
  const std::uint64_t head = header.reply_head.value.load(std::memory_order_relaxed);
  const std::uint64_t now = monotonic_ns();
  if (now >= reap_at_ns_) {
    polling(true);
    reap_at_ns_ = std::max(now + kReapEveryNs, now + (monotonic_ns() - now) * kReapShare);
  }
  if (head != head_seen_ || now - head_seen_ns_ < kTimedWaitNs / 2) {
    if (head != head_seen_) head_seen_ns_ = now;
    head_seen_ = head;
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
