#include "beam/worker_channel.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <iterator>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "beam/lender.h"
#include "beam/registry.h"
#include "beam/results.h"
#include "beam/term_decoder.h"
#include "os/clock.h"
#include "os/thread.h"

namespace typhon::beam {

using channel::FrameHeader;
using channel::Kind;
using channel::SegmentRef;
using os::monotonic_ns;

namespace {

// After some calls in a row that took too long to be worth a spin, a caller spins only now and then. (A miss
// alone says nothing: a worker that had to be woken misses the first spin, and if callers then stopped
// spinning it would fall asleep before each call.)
constexpr std::uint32_t kSpinMisses = 8;
constexpr std::uint32_t kSpinRetryEvery = 16;
// After so many answers in a row that Python made nothing of at once, only one in some is spun after.
constexpr std::uint32_t kLingerMisses = 4;
constexpr std::size_t kReleasesPerFrame = 512;
// Bytes of small frames that are worth a wake-up, or a drain, while callers poll.
constexpr std::uint64_t kManyBytes = 3072;
constexpr std::uint64_t kManyBytesEach = 24;

}  // namespace

Result<WorkerChannel*> WorkerChannel::open(ErlNifEnv* env, State& state, const ErlNifPid& owner,
                                           const ChannelOptions& options) noexcept {
  state.registry->join_ended();
  if (options.embedded && !state.lender->ensure_thread())
    return Error{Code::kSystem, 0, "the thread that frees loans could not be started"};
  if (!state.results->ensure_thread())
    return Error{Code::kSystem, 0, "the thread that keeps results could not be started"};
  channel::RegionOptions wanted = options.region;
  if (options.embedded) wanted.flags |= channel::kFlagLoans;
  auto region = channel::Region::create(wanted);
  if (!region.ok()) return std::move(region).error();
  void* memory = enif_alloc_resource(state.channel_type, sizeof(WorkerChannel));
  if (!memory) return Error{Code::kSystem, 0, "out of memory"};
  auto* self = new (memory) WorkerChannel(state, owner, options, std::move(region).value());
  state.registry->add(self);
  if (!self->start_reader()) {
    state.registry->remove(self);
    enif_release_resource(self);
    return Error{Code::kSystem, 0, "the reader thread could not be started"};
  }
  if (enif_monitor_process(env, self, &owner, &self->owner_monitor_) != 0) {
    self->close(env, state.atoms.owner_down);
    enif_release_resource(self);
    return Error{Code::kClosed, 0, "the owner of the channel is not alive"};
  }
  return self;
}

WorkerChannel::WorkerChannel(State& state, const ErlNifPid& owner, const ChannelOptions& options,
                             std::unique_ptr<channel::Region> region) noexcept
    : state_(state),
      serial_(state.channels_opened.fetch_add(1, std::memory_order_relaxed)),
      owner_(owner),
      spin_ns_(std::thread::hardware_concurrency() > 1 ? std::uint64_t{options.spin_us} * 1000 : 0),
      create_atoms_(options.create_atoms),
      raw_(options.raw),
      text_(options.text),
      lends_(options.embedded),
      handed_(options.handed),
      shared_results_(options.shared),
      account_(std::make_shared<channel::ResultAccount>()),
      region_(std::move(region)),
      claims_(region_->claims()),
      reply_arena_(region_->reply_arena(), region_->arena_size(), region_->header().reply_slots),
      mutex_("typhon.channel"),
      requests_(region_->request_ring(), region_->ring_size(), region_->header().request_tail.value,
                region_->header().request_head.value),
      request_arena_(region_->request_arena(), region_->arena_size(), region_->header().request_slots),
      role_(region_->header().reader_word.value),
      replies_(region_->reply_ring(), region_->ring_size(), region_->header().reply_tail.value,
               region_->header().reply_head.value) {
  account_->limit = options.max_held != 0 ? options.max_held : state.results->memory().limit() / 2;
}

WorkerChannel::~WorkerChannel() {
  for (Slot& slot : slots_) {
    if (slot.env) enif_free_env(slot.env);
    if (slot.state == Slot::State::kParked) {
      std::span<const std::uint8_t> body = slot.parked_body;
      loans_of(slot.parked, body).clear();
    }
  }
  for (RoomWaiter& waiter : room_waiters_) enif_free_env(waiter.env);
}

// --- submitting ---

Submitted WorkerChannel::submit(const Request& request) noexcept {
  using Outcome = Submitted::Outcome;
  const bool is_call = request.kind == Kind::kCall;
  std::uint32_t index = kNoSlot;
  std::uint64_t id = 0;
  std::uint32_t found = 0;
  bool has_role = false;
  bool polls = false;
  bool reached = false;
  ERL_NIF_TERM given_up = 0;
  const bool lingers = request.waits && may_linger();
  {
    std::unique_lock lock(mutex_);
    if (closed_.load(std::memory_order_relaxed)) {
      const ERL_NIF_TERM reply = down_term(request.env);
      if (request.segment) request_arena_.discard(*request.segment);
      return {Outcome::kDown, 0, reply};
    }
    // Two callers may pick an idle worker at the same moment, and there may be another one. What idle means
    // is weight(), as for whoever picked it: else the two would never agree.
    if ((reserved_ && !request.named) || (request.was_idle && weight() != 0)) [[unlikely]] {
      if (request.segment) request_arena_.discard(*request.segment);
      return {Outcome::kElsewhere};
    }
    push_releases();
    if (is_call) {
      index = take_slot();
      if (index == kNoSlot) {
        if (request.segment) request_arena_.discard(*request.segment);
        add_room_waiter(request.caller, request.ref, request.movable);
        return {Outcome::kNoRoom};
      }
      Slot& slot = slots_[index];
      slot.movable = request.movable;
      slot.admitted = request.admitted;
      id = make_id(slot.generation, index);
      const std::uint32_t misses = spin_misses_.load(std::memory_order_relaxed);
      const bool worth_it = misses < kSpinMisses || misses % kSpinRetryEvery == 0;
      if (!worth_it) spin_misses_.store(misses + 1, std::memory_order_relaxed);
      const bool crowded = in_flight() >= kCrowd || polling_.load(std::memory_order_relaxed) >= kCrowd ||
                           request.now < crowded_until_ns_.load(std::memory_order_relaxed);
      // A call that is made in the course of another one is what its worker waits for.
      const bool alone = in_flight() == 0 || request.parent != 0;
      has_role = spin_ns_ != 0 && worth_it && !crowded && alone && spin_guard_.spin_allowed() &&
                 try_take_role(found);
      polls = crowded && !has_role && start_polling();
      if (has_role) {
        slot.state = Slot::State::kSpinning;
        slot.caller = request.caller;
      } else if (polls) {
        slot.state = Slot::State::kPolling;
        slot.caller = request.caller;
        slot.polls = 0;
      } else {
        set_waiting(request.env, slot, request.caller, request.ref);
      }
    }
    // Before the worker sees the answer: what it says next wakes nobody.
    if (lingers) has_role = try_take_role(found);
    bool pushed = push_request(request, id);
    if (!pushed && !requests_.broken()) {
      // Ask for room, then look again: the worker may have made some before it could see the question.
      region_->header().request_room.value.store(1, std::memory_order_release);
      std::atomic_thread_fence(std::memory_order_seq_cst);
      pushed = push_request(request, id);
    }
    if (!pushed) {
      if (polls) polling_.fetch_sub(1, std::memory_order_relaxed);
      if (index != kNoSlot) {
        free_slot(request.env, index);
        slots_[index].generation = static_cast<std::uint32_t>(id >> 32);  // nobody has seen it
      }
      if (request.segment) request_arena_.discard(*request.segment);
      const bool broken = requests_.broken();
      if (!broken) add_room_waiter(request.caller, request.ref, request.movable);
      lock.unlock();
      if (has_role) leave_role(found);
      if (!broken) {
        // Room may have been made, and the reader may have looked for waiters, before this one was
        // registered; and while the role was held, the worker woke nobody.
        service_room(request.env);
        return {Outcome::kNoRoom};
      }
      fail_broken(request.env, "the worker overwrote the request ring's counters");
      std::lock_guard relock(mutex_);
      return {Outcome::kDown, 0, down_term(request.env)};
    }
    if (in_flight() == 0) busy_since_ns_.store(request.now, std::memory_order_relaxed);
    if (is_call) {
      // Before the pool is asked whether calls wait (note_queue()): its Mover looks for them in that order.
      in_flight_.fetch_add(1, std::memory_order_seq_cst);
      if (request.segment) {
        slots_[index].segment = *request.segment;
        segment_bytes_ += request.segment->capacity;
      }
    } else if (const std::size_t held =
                   request.lent_bytes + (request.segment ? request.segment->capacity : 0);
               held != 0) {
      cast_segments_.push_back({requests_.published(), held});
      segment_bytes_ += held;
    }
    if (request.segment) ++segments_sent_;
    if (is_call && slots_[index].state == Slot::State::kAbandoned) given_up = abandon(request.env, index);
    // An answer or a message is neither served nor waited for.
    if (request.kind == Kind::kCast) {
      casts_sent_.fetch_add(1, std::memory_order_relaxed);
      reached = count_served(1);
    }
  }
  if (request.loans) requests_left_behind().look_after();
  if (reached) tell_served(request.env);
  tell_abandoned(request.env, given_up, id);
  auto& word = region_->header().reader_word.value;
  if (polls) {
    std::uint32_t timed = channel::kTimed;
    word.compare_exchange_strong(timed, channel::kPolled, std::memory_order_acq_rel);
  }
  const bool polled = word.load(std::memory_order_relaxed) == channel::kPolled;
  const std::uint64_t many = std::max(kManyBytes, std::uint64_t{in_flight()} * kManyBytesEach);
  // A caller that polls looks after its request itself when its turn comes.
  const bool woke = (!polls || requests_pending() >= many) && ring_worker();
  if (!is_call) {
    if (has_role) linger(request.env, found, woke);
    return {Outcome::kAccepted};
  }
  if (has_role) return spin(request, index, id, found, woke);

  // Others are in flight, so replies may lie there: drain them here rather than wake a thread for it.
  if (replies_pending() >= (polled ? many : 1) && try_take_role(found)) {
    drain(request.env, 0, 0, nullptr, kDrainBatch);
    leave_role(found);
  }
  service_room(request.env);
  return {polls ? Outcome::kPolling : Outcome::kWaiting, id};
}

void WorkerChannel::reserve(bool reserved) noexcept {
  std::lock_guard lock(mutex_);
  reserved_ = reserved;
}

// Watches the reply ring, with the role, for the time of a spin. `came()` drains; true when it has come.
template <class Came>
bool WorkerChannel::watch_ring(bool woke_worker, Came came) noexcept {
  // Waking the worker takes longer than a small call: wait that out, too, rather than be woken in turn.
  const std::uint64_t at_most = woke_worker ? spin_ns_ * 5 / 2 : spin_ns_;
  std::uint64_t began = 0;
  for (unsigned round = 1;; ++round) {
    if (came()) return true;
    if (round % 8 == 0) {
      const std::uint64_t now = monotonic_ns();
      if (began == 0) began = now;
      if (now - began > at_most || closed_.load(std::memory_order_relaxed)) return false;
    }
    // A worker that was just woken may be waiting for this very core.
    if (woke_worker && round % 4 == 0 && !spin_guard_.yield([&] { return replies_pending() != 0; }))
      return false;
    os::cpu_relax();
  }
}

Submitted WorkerChannel::spin(const Request& request, std::uint32_t slot_index, std::uint64_t id,
                              std::uint32_t found, bool woke_worker) noexcept {
  using Outcome = Submitted::Outcome;
  ERL_NIF_TERM reply = 0;
  Drained drained = Drained::kNothing;
  watch_ring(woke_worker, [&] {
    drained = drain(request.env, id, request.ref, &reply, kDrainBatch);
    return drained == Drained::kMine || drained == Drained::kAsked;
  });
  if (drained == Drained::kMine) {
    spin_misses_.store(0, std::memory_order_relaxed);
  } else if (drained != Drained::kAsked) {
    ERL_NIF_TERM given_up = 0;
    {
      std::lock_guard lock(mutex_);
      Slot& slot = slots_[slot_index];
      set_waiting(request.env, slot, request.caller, request.ref);
      if (slot.state == Slot::State::kAbandoned) given_up = abandon(request.env, slot_index);
    }
    tell_abandoned(request.env, given_up, id);
  }
  leave_role(found);
  service_room(request.env);
  return {drained == Drained::kMine ? Outcome::kReplied : Outcome::kWaiting, id, reply};
}

bool WorkerChannel::may_linger() noexcept {
  if (spin_ns_ == 0 || in_flight() >= kCrowd) return false;
  const std::uint32_t misses = linger_misses_.load(std::memory_order_relaxed);
  if (misses >= kLingerMisses) {
    linger_misses_.store(misses + 1, std::memory_order_relaxed);
    if (misses % kSpinRetryEvery != 0) return false;
  }
  return spin_guard_.spin_allowed();
}

// For a caller that has answered: until something comes, which is sent on as ever. It finds its message when
// it looks for it, and the reader thread sleeps on.
void WorkerChannel::linger(ErlNifEnv* env, std::uint32_t found, bool woke_worker) noexcept {
  const bool came =
      watch_ring(woke_worker, [&] { return drain(env, 0, 0, nullptr, kDrainBatch) != Drained::kNothing; });
  linger_misses_.store(came ? 0 : linger_misses_.load(std::memory_order_relaxed) + 1,
                       std::memory_order_relaxed);
  leave_role(found);
  service_room(env);
}

bool WorkerChannel::push_request(const Request& request, std::uint64_t id) noexcept {
  const std::size_t body_size = request.segment ? sizeof(SegmentRef) : request.body.size();
  const std::size_t size = sizeof(FrameHeader) + body_size + (request.loans ? channel::kLoansSize : 0);
  std::uint8_t* at = requests_.reserve(channel::align8(size));
  if (!at) return false;
  FrameHeader header{};
  header.size = static_cast<std::uint32_t>(size);
  header.kind = request.kind;
  header.flags = static_cast<std::uint8_t>(
      (request.segment ? channel::kInSegment : 0) | (request.timings ? channel::kTimings : 0) |
      (request.failed ? channel::kFailed : 0) | (request.loans ? channel::kLends : 0));
  header.id = request.kind == Kind::kAnswer ? request.tag : id;
  header.times[0] = request.timings ? monotonic_ns() : request.now;
  header.times[1] = request.deadline;
  header.times[2] = request.parent;
  header.times[3] = request.captures ? 1 : 0;
  std::memcpy(at, &header, sizeof header);
  if (request.segment) {
    const SegmentRef ref{request.segment->slot, request.segment->offset, request.segment_length};
    std::memcpy(at + sizeof header, &ref, sizeof ref);
  } else if (body_size > 0) {
    std::memcpy(at + sizeof header, request.body.data(), body_size);
  }
  if (request.loans)
    std::memcpy(at + sizeof header + body_size, static_cast<const void*>(&request.loans),
                channel::kLoansSize);
  if (request.kind == Kind::kCall) {
    Slot& slot = slots_[static_cast<std::uint32_t>(id)];
    slot.deadline = request.deadline;
    slot.submitted = request.now;
  }
  requests_.commit(size);
  return true;
}

bool WorkerChannel::ring_worker() noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  auto& word = region_->header().worker_word.value;
  if (word.load(std::memory_order_relaxed) != channel::kAsleep) return false;
  return channel::wake_from(word, channel::kAsleep);
}

// --- objects ---

void WorkerChannel::release_object(std::uint64_t id) noexcept {
  bool pushed = false;
  {
    std::lock_guard lock(mutex_);
    if (closed_.load(std::memory_order_relaxed)) return;
    pending_releases_.push_back(id);
    pushed = push_all_releases();
  }
  if (pushed) ring_worker();
}

// What does not fit waits for room, as callers do.
bool WorkerChannel::push_all_releases() noexcept {
  bool pushed = false;
  while (push_releases()) pushed = true;
  if (pending_releases_.empty()) return pushed;
  region_->header().request_room.value.store(1, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  while (push_releases()) pushed = true;
  if (!pending_releases_.empty()) room_wanted_.store(true, std::memory_order_relaxed);
  return pushed;
}

bool WorkerChannel::push_releases() noexcept {
  if (pending_releases_.empty()) return false;
  const std::size_t count = std::min(pending_releases_.size(), kReleasesPerFrame);
  const std::size_t size = sizeof(FrameHeader) + count * sizeof(std::uint64_t);
  std::uint8_t* at = requests_.reserve(channel::align8(size));
  if (!at) return false;
  FrameHeader header{};
  header.size = static_cast<std::uint32_t>(size);
  header.kind = Kind::kRelease;
  std::memcpy(at, &header, sizeof header);
  const auto first = pending_releases_.end() - static_cast<std::ptrdiff_t>(count);
  std::memcpy(at + sizeof header, &*first, count * sizeof(std::uint64_t));
  requests_.commit(size);
  pending_releases_.erase(first, pending_releases_.end());
  return true;
}

// --- the owner ---

void WorkerChannel::send_owner(ErlNifEnv* caller_env, ErlNifEnv* env, ERL_NIF_TERM event) noexcept {
  const ERL_NIF_TERM self = enif_make_resource(env, this);
  enif_send(caller_env, &owner_, env, enif_make_tuple3(env, state_.atoms.typhon, self, event));
  enif_clear_env(env);
}

bool WorkerChannel::busy() const noexcept {
  return in_flight() != 0 || holds_.load(std::memory_order_relaxed) != 0 ||
         region_->header().casts_done.value.load(std::memory_order_acquire) !=
             casts_sent_.load(std::memory_order_relaxed);
}

// True when the owner is to be told.
bool WorkerChannel::count_served(std::uint64_t count) noexcept {
  served_ += count;
  if (notify_at_ == 0 || served_ < notify_at_) return false;
  notify_at_ = 0;
  return true;
}

bool WorkerChannel::notify_at(std::uint64_t count) noexcept {
  std::lock_guard lock(mutex_);
  notify_at_ = served_ < count ? count : 0;
  return notify_at_ != 0;
}

void WorkerChannel::tell_served(ErlNifEnv* caller_env) noexcept {
  OwnedEnv message;
  send_owner(caller_env, message.get(), state_.atoms.served);
}

void WorkerChannel::handle_ready(ErlNifEnv* caller_env, std::span<const std::uint8_t> body) noexcept {
  // What it says of itself is believed once; whether that is true the owner finds out (OwnProcess).
  if (std::exchange(greeted_, true)) {
    broken_.store(true, std::memory_order_relaxed);
    fail_broken(caller_env, "the worker greeted a second time");
    return;
  }
  ErlNifEnv* env = message_env_.get();
  TermDecoder decoder(env, *this);
  if (!decoder.decode(body) || !enif_is_map(env, decoder.term())) {
    broken_.store(true, std::memory_order_relaxed);
    fail_broken(caller_env, "the worker's greeting cannot be decoded");
    return;
  }
  send_owner(caller_env, env, enif_make_tuple2(env, state_.atoms.ready, decoder.term()));
}

void WorkerChannel::fail_broken(ErlNifEnv* caller_env, const char* what) noexcept {
  fail(caller_env, state_.atoms.bad_frame, what);
}

void WorkerChannel::fail(ErlNifEnv* caller_env, ERL_NIF_TERM reason, const char* what) noexcept {
  OwnedEnv message;
  const ERL_NIF_TERM term = enif_make_tuple2(message.get(), reason, make_binary(message.get(), what));
  close(nullptr, term);
  send_owner(caller_env, message.get(), term);
}

// --- closing ---

ERL_NIF_TERM WorkerChannel::down_term(ErlNifEnv* env) const noexcept {
  return enif_make_tuple2(env, state_.atoms.down, enif_make_copy(env, close_reason_));
}

// {:not_started, left}: the call has not run, and its caller may make it again.
ERL_NIF_TERM WorkerChannel::not_started_term(ErlNifEnv* env, std::uint64_t deadline,
                                             std::uint64_t now) const noexcept {
  const std::uint64_t left = deadline - std::min(deadline, now);
  return enif_make_tuple2(
      env, state_.atoms.not_started,
      deadline == 0 ? state_.atoms.infinity : enif_make_uint64(env, (left + 999'999) / 1'000'000));
}

void WorkerChannel::close(ErlNifEnv* env, ERL_NIF_TERM reason) noexcept {
  {
    std::lock_guard lock(mutex_);
    if (closed_.load(std::memory_order_relaxed)) return;
    close_reason_ = enif_make_copy(close_env_.get(), reason);
    closed_.store(true, std::memory_order_seq_cst);
  }
  finish_close(env);
}

bool WorkerChannel::close_if_idle(ErlNifEnv* env, ERL_NIF_TERM reason) noexcept {
  {
    std::lock_guard lock(mutex_);
    if (closed_.load(std::memory_order_relaxed)) return true;
    if (busy()) return false;
    close_reason_ = enif_make_copy(close_env_.get(), reason);
    closed_.store(true, std::memory_order_seq_cst);
  }
  finish_close(env);
  return true;
}

void WorkerChannel::finish_close(ErlNifEnv* env) noexcept {
  if (env) enif_demonitor_process(env, this, &owner_monitor_);
  channel::Header& header = region_->header();
  header.closing.value.store(1, std::memory_order_seq_cst);
  wake_reader();
  ring_worker();
}

void WorkerChannel::fail_calls_in_flight() noexcept {
  struct Failed {
    std::uint32_t index;
    ErlNifPid caller;
    ErlNifEnv* env;
    ERL_NIF_TERM ref;
    bool started;
    std::uint64_t deadline;
  };
  std::vector<Failed> failed;
  {
    std::lock_guard lock(mutex_);
    // What the worker has not begun, nor can begin any more, can safely go to another one.
    for (std::uint32_t index = 0; index < slots_.size(); ++index) {
      Slot& slot = slots_[index];
      if (slot.state == Slot::State::kFree || slot.state == Slot::State::kParked) continue;
      if (slot.state == Slot::State::kPolling) {
        slot.state = Slot::State::kFailed;
        slot.started = !claims_.withdraw(make_id(slot.generation, index));
        in_flight_.fetch_sub(1, std::memory_order_relaxed);
        continue;
      }
      in_flight_.fetch_sub(1, std::memory_order_relaxed);
      if (slot.state != Slot::State::kWaiting) {
        free_slot(nullptr, index);
        continue;
      }
      const bool started = !claims_.withdraw(make_id(slot.generation, index));
      failed.push_back({index, slot.caller, slot.env, slot.ref, started, slot.deadline});
      slot.env = nullptr;  // goes away with the message
      slot.ref = 0;
      slot.state = Slot::State::kDelivering;  // who gives up now waits until it has been sent
    }
  }
  for (Failed& call : failed) {
    ERL_NIF_TERM down = 0;
    if (call.started) {
      std::lock_guard lock(mutex_);
      down = down_term(call.env);
    } else {
      down = not_started_term(call.env, call.deadline, monotonic_ns());
    }
    enif_send(nullptr, &call.caller, call.env, enif_make_tuple2(call.env, call.ref, down));
    enif_free_env(call.env);
    std::lock_guard lock(mutex_);
    free_slot(nullptr, call.index);
  }
  settled_.store(true, std::memory_order_release);
  service_room(nullptr);
  // Terms may keep the channel for long; the memory of requests that nobody will read need not stay. But a
  // view that an interpreter of this VM has kept outlives its worker.
  if (!lends_) region_->drop_request_arena();
}

channel::LeftBehind WorkerChannel::requests_left_behind() noexcept {
  channel::Header& header = region_->header();
  return {header.request_leavings.value, header.request_swept.value, region_->request_ring(),
          region_->ring_size(),          header.request_tail.value,  header.request_head.value};
}

channel::LeftBehind WorkerChannel::replies_left_behind() noexcept {
  channel::Header& header = region_->header();
  return {header.reply_leavings.value, header.reply_swept.value, region_->reply_ring(),
          region_->ring_size(),        header.reply_tail.value,  header.reply_head.value};
}

ERL_NIF_TERM WorkerChannel::info(ErlNifEnv* env) noexcept {
  const Atoms& atoms = state_.atoms;
  std::lock_guard lock(mutex_);
  std::uint64_t running = 0;
  for (std::uint32_t index = 0; index < slots_.size(); ++index) {
    const Slot& slot = slots_[index];
    if (slot.state != Slot::State::kFree && claims_.is_taken(make_id(slot.generation, index))) ++running;
  }
  const ERL_NIF_TERM keys[] = {atoms.running,   atoms.in_flight,  atoms.polling,       atoms.waiting,
                               atoms.ring_size, atoms.arena_size, atoms.request_arena, atoms.os_pid,
                               atoms.closed,    atoms.served,     atoms.busy,          atoms.lent,
                               atoms.borrowed,  atoms.heard,      atoms.results,       atoms.shared,
                               atoms.moved,     atoms.settled,    atoms.owner};
  const ERL_NIF_TERM values[] = {
      enif_make_uint64(env, running),
      enif_make_uint(env, in_flight()),
      enif_make_uint(env, polling_.load(std::memory_order_relaxed)),
      enif_make_uint64(env, room_waiters_.size()),
      enif_make_uint64(env, region_->ring_size()),
      enif_make_uint64(env, region_->arena_size()),
      enif_make_uint64(env, request_arena_.bytes_in_use()),
      enif_make_int(env, process_.pid()),
      closed_.load(std::memory_order_relaxed) ? atoms.true_ : atoms.false_,
      enif_make_uint64(env, served_),
      busy() ? atoms.true_ : atoms.false_,
      tally_term(env, lent_),
      tally_term(env, borrowed_),
      enif_make_uint64(env, quota_.dealt_with()),
      enif_make_tuple2(env, enif_make_uint64(env, account_->count.load()),
                       enif_make_uint64(env, account_->bytes.load())),
      tally_term(env, pinned_),
      enif_make_uint64(env, moved_in_all_.load(std::memory_order_relaxed)),
      settled() ? atoms.true_ : atoms.false_,
      enif_make_pid(env, &owner_),
  };
  ERL_NIF_TERM map = 0;
  enif_make_map_from_arrays(env, const_cast<ERL_NIF_TERM*>(keys), const_cast<ERL_NIF_TERM*>(values),
                            std::size(keys), &map);
  return map;
}

ERL_NIF_TERM tally_term(ErlNifEnv* env, const channel::Tally& tally) noexcept {
  return enif_make_tuple2(env, enif_make_uint64(env, tally.count.load(std::memory_order_relaxed)),
                          enif_make_uint64(env, tally.bytes.load(std::memory_order_relaxed)));
}

}  // namespace typhon::beam
