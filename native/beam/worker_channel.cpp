#include "beam/worker_channel.h"

#include <sched.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <iterator>
#include <mutex>
#include <new>
#include <thread>

#include "beam/lender.h"
#include "beam/term_decoder.h"

namespace typhon::beam {

using channel::FrameHeader;
using channel::Kind;
using channel::monotonic_ns;
using channel::RingConsumer;
using channel::SegmentRef;

namespace {

// The reader's wait while replies are expected: short enough that a put-off wake costs nothing one would
// notice.
constexpr std::int64_t kTimedWaitNs = 100'000;
// After so many of them without a reply the reader sleeps for good.
constexpr int kTimedRounds = 8;
constexpr std::int64_t kTrimAfterNs = 5'000'000'000;
constexpr std::size_t kTrimStep = std::size_t{4} << 20;
// A call that took so many times the spin was not missed for a wake-up's sake: it is long. After some of
// those in a row a caller spins only now and then. (A miss alone says nothing: a worker that had to be woken
// misses the first spin, and if callers then stopped spinning it would fall asleep before each call.)
constexpr std::uint64_t kLongCall = 10;
constexpr std::uint32_t kSpinMisses = 8;
constexpr std::uint32_t kSpinRetryEvery = 16;
// After so many answers in a row that Python made nothing of at once, only one in some is spun after.
constexpr std::uint32_t kLingerMisses = 4;
constexpr int kDrainBatch = 256;
constexpr std::size_t kReleasesPerFrame = 512;
// So many replies at once are a crowd of callers; for so long after one, callers do not spin but poll.
constexpr std::uint32_t kCrowd = 4;
constexpr std::uint64_t kCrowdNs = 1'000'000;
// Turns without a reply after which a caller stops polling; after some such in a row only one in some polls.
constexpr std::uint32_t kPollsAtLeast = 4;
constexpr std::uint64_t kPollSpins = 2;
constexpr std::uint32_t kPollMisses = 16;
constexpr std::uint32_t kPollRetryEvery = 64;
constexpr std::uint64_t kReapEveryNs = 1'000'000'000;
// Bytes of small frames that are worth a wake-up, or a drain, while callers poll.
constexpr std::uint64_t kManyBytes = 3072;
constexpr std::uint64_t kManyBytesEach = 24;

std::uint64_t make_id(std::uint32_t generation, std::uint32_t index) noexcept {
  return (std::uint64_t{generation} << 32) | index;
}

}  // namespace

Result<WorkerChannel*> WorkerChannel::open(ErlNifEnv* env, State& state, const ErlNifPid& owner,
                                           const ChannelOptions& options) noexcept {
  state.registry->join_ended();
  if (options.embedded && !state.lender->ensure_thread())
    return Error{Code::kSystem, 0, "the thread that frees loans could not be started"};
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
      lends_(options.embedded),
      region_(std::move(region)),
      reply_arena_(region_->reply_arena(), region_->arena_size(), region_->header().reply_slots),
      mutex_("typhon.channel"),
      requests_(region_->request_ring(), region_->ring_size(), region_->header().request_tail.value,
                region_->header().request_head.value),
      request_arena_(region_->request_arena(), region_->arena_size(), region_->header().request_slots),
      replies_(region_->reply_ring(), region_->ring_size(), region_->header().reply_tail.value,
               region_->header().reply_head.value) {}

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
  const bool lingers = request.waits && may_linger();
  {
    std::unique_lock lock(mutex_);
    if (closed_.load(std::memory_order_relaxed)) {
      const ERL_NIF_TERM reply = down_term(request.env);
      if (request.segment) request_arena_.discard(*request.segment);
      return {Outcome::kDown, 0, reply};
    }
    // Two callers may pick an idle worker at the same moment, and there may be another one. What idle means
    // is load(), as for whoever picked it: else the two would never agree.
    if ((reserved_ && !request.named) || (request.was_idle && load() != 0)) [[unlikely]] {
      if (request.segment) request_arena_.discard(*request.segment);
      return {Outcome::kElsewhere};
    }
    push_releases();
    if (is_call) {
      index = take_slot();
      if (index == kNoSlot) {
        if (request.segment) request_arena_.discard(*request.segment);
        add_room_waiter(request.caller, request.ref);
        return {Outcome::kNoRoom};
      }
      Slot& slot = slots_[index];
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
      if (index != kNoSlot) free_slot(request.env, index);
      if (request.segment) request_arena_.discard(*request.segment);
      const bool broken = requests_.broken();
      if (!broken) add_room_waiter(request.caller, request.ref);
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
    if (is_call) {
      in_flight_.fetch_add(1, std::memory_order_relaxed);
      if (request.segment) {
        slots_[index].segment_bytes = request.segment->capacity;
        segment_bytes_ += request.segment->capacity;
      }
    } else if (const std::size_t held =
                   request.lent_bytes + (request.segment ? request.segment->capacity : 0);
               held != 0) {
      cast_segments_.push_back({requests_.published(), held});
      segment_bytes_ += held;
    }
    if (request.segment) ++segments_sent_;
    // An answer or a message is neither served nor waited for.
    if (request.kind == Kind::kCast) {
      ++casts_sent_;
      reached = count_served(1);
    }
  }
  if (request.loans) requests_left_behind().look_after();
  if (reached) tell_served(request.env);
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
    channel::cpu_relax();
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
    std::lock_guard lock(mutex_);
    set_waiting(request.env, slots_[slot_index], request.caller, request.ref);
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

// --- polling ---

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
  Slot& slot = slots_[static_cast<std::uint32_t>(id)];
  // Another thread may have left something there since take_parked() looked.
  if (slot.state != Slot::State::kPolling || !slot.asks.empty()) return {Outcome::kAgain, 0, 0};
  if (++slot.polls < kPollsAtLeast || monotonic_ns() - slot.submitted < spin_ns_ * kPollSpins) {
    lock.unlock();
    ::sched_yield();  // the worker may need this very core
    return {Outcome::kAgain, 0, 0};
  }
  // It takes long: wait for a message.
  set_waiting(env, slot, slot.caller, ref);
  deadline = slot.deadline;
  lock.unlock();
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
    if (slot.state == Slot::State::kWaiting) {
      const std::uint64_t deadline = slot.deadline;
      lock.unlock();
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

// The reader thread, before it waits without a limit: not while callers poll. Those that were killed do not
// count.
bool WorkerChannel::may_sleep() noexcept {
  reader_looks_.store(false, std::memory_order_seq_cst);
  if (polling_.load(std::memory_order_seq_cst) == 0 || polling(true) == 0) return true;
  reader_looks_.store(true, std::memory_order_seq_cst);
  return false;
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
        abandoned.emplace_back(abandon(slot), make_id(slot.generation, index));
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
  const std::uint64_t head = header.reply_head.value.load(std::memory_order_relaxed);
  const std::uint64_t now = monotonic_ns();
  if (now - reaped_ns_ > kReapEveryNs) {
    polling(true);
    reaped_ns_ = now;
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
    slot.position = requests_.published();
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

// --- slots ---

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
  segment_bytes_ -= slot.segment_bytes;
  slot.segment_bytes = 0;
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
  slot.state = Slot::State::kWaiting;
  if (!slot.monitored) slot.monitored = enif_monitor_process(env, this, &caller, &slot.monitor) == 0;
}

// Nobody wants the answer any more. While the request lies in the ring its deadline can be put into the past:
// the worker drops it then. False when it was taken, or may be being taken at this moment: the worker copies
// the frame at the head first, and moves the head after that.
bool WorkerChannel::withdraw(const Slot& slot) noexcept {
  const channel::Header& header = region_->header();
  if (slot.position < header.request_head.value.load(std::memory_order_acquire)) return false;
  std::uint8_t* frame = region_->request_ring() + (slot.position & (region_->ring_size() - 1));
  auto* deadline =
      reinterpret_cast<std::uint64_t*>(frame + offsetof(FrameHeader, times) + sizeof(std::uint64_t));
  std::atomic_ref<std::uint64_t>(*deadline).store(1, std::memory_order_seq_cst);
  return slot.position > header.request_head.value.load(std::memory_order_seq_cst);
}

// A worker that takes nothing may stand still. Its owner is told once for each request that it took.
bool WorkerChannel::first_untaken() noexcept {
  const std::uint64_t taken = region_->header().request_head.value.load(std::memory_order_relaxed);
  return std::exchange(untaken_at_, taken + 1) != taken + 1;
}

// Nobody waits for this call any more. What the owner is to be told of it; 0: nothing.
ERL_NIF_TERM WorkerChannel::abandon(Slot& slot) noexcept {
  slot.state = Slot::State::kAbandoned;
  if (!withdraw(slot)) return state_.atoms.overdue;
  return first_untaken() ? state_.atoms.untaken : 0;
}

void WorkerChannel::tell_abandoned(ErlNifEnv* caller_env, ERL_NIF_TERM what, std::uint64_t id) noexcept {
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
        const ERL_NIF_TERM what = abandon(slots_[index]);
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
    id = make_id(slot->generation, static_cast<std::uint32_t>(slot - slots_.begin()));
    what = abandon(*slot);
  }
  tell_abandoned(env, what, id);
}

WorkerChannel::Abandoned WorkerChannel::abandoned(std::uint64_t id) noexcept {
  std::lock_guard lock(mutex_);
  const std::uint32_t index = find_slot(id);
  if (index == kNoSlot || slots_[index].state != Slot::State::kAbandoned) return Abandoned::kEnded;
  const std::uint64_t taken = region_->header().request_head.value.load(std::memory_order_acquire);
  return slots_[index].position < taken ? Abandoned::kRuns : Abandoned::kWaits;
}

// --- room ---

void WorkerChannel::add_room_waiter(const ErlNifPid& caller, ERL_NIF_TERM ref) noexcept {
  ErlNifEnv* env = enif_alloc_env();
  room_waiters_.push_back({caller, env, enif_make_copy(env, ref)});
  room_wanted_.store(true, std::memory_order_relaxed);
}

void WorkerChannel::service_room(ErlNifEnv* caller_env) noexcept {
  if (!room_wanted_.load(std::memory_order_relaxed)) return;
  std::vector<RoomWaiter> woken;
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
  }
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

bool WorkerChannel::wait_for_segments(const ErlNifPid& caller, ERL_NIF_TERM ref) noexcept {
  std::lock_guard lock(mutex_);
  // Casts are not answered: it is the worker's taking them that makes room, so ask it to say so.
  region_->header().request_room.value.store(1, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  settle_casts();
  if (segment_bytes_ == 0 && !closed_.load(std::memory_order_relaxed)) return false;
  add_room_waiter(caller, ref);
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

// --- objects ---

void WorkerChannel::release_object(std::uint64_t id) noexcept {
  bool pushed = false;
  {
    std::lock_guard lock(mutex_);
    if (closed_.load(std::memory_order_relaxed)) return;
    pending_releases_.push_back(id);
    pushed = push_releases();
  }
  if (pushed) ring_worker();
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

// --- the reader role ---

bool WorkerChannel::try_take_role(std::uint32_t& found) noexcept {
  auto& word = region_->header().reader_word.value;
  found = word.load(std::memory_order_relaxed);
  if (found != channel::kAsleep && found != channel::kTimed && found != channel::kPolled) return false;
  return word.compare_exchange_strong(found, channel::kSpin, std::memory_order_acq_rel);
}

void WorkerChannel::leave_role(std::uint32_t found) noexcept {
  channel::Header& header = region_->header();
  header.reader_word.value.store(found, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  wake_worker_for_room();
  if ((found != channel::kPolled && replies_pending()) || closed_.load(std::memory_order_relaxed) ||
      stopping_.load(std::memory_order_relaxed)) {
    channel::wake_from(header.reader_word.value, found);
  }
}

void WorkerChannel::wake_worker_for_room() noexcept {
  auto& room = region_->header().reply_room.value;
  if (room.load(std::memory_order_relaxed) != 0 && room.exchange(0, std::memory_order_acq_rel) != 0) {
    channel::futex_wake(room, 1);
  }
}

std::uint64_t WorkerChannel::requests_pending() const noexcept {
  const channel::Header& header = region_->header();
  return header.request_tail.value.load(std::memory_order_relaxed) -
         header.request_head.value.load(std::memory_order_acquire);
}

std::uint64_t WorkerChannel::replies_pending() const noexcept {
  const channel::Header& header = region_->header();
  return header.reply_tail.value.load(std::memory_order_acquire) -
         header.reply_head.value.load(std::memory_order_relaxed);
}

WorkerChannel::Drained WorkerChannel::drain(ErlNifEnv* caller_env, std::uint64_t mine, ERL_NIF_TERM ref,
                                            ERL_NIF_TERM* reply, int limit) noexcept {
  Drained drained = Drained::kNothing;
  if (broken_.load(std::memory_order_relaxed)) return drained;
  std::array<Delivery, kDeliverAtOnce> batch;  // uninitialised on purpose
  std::size_t gathered = 0;
  const auto deliver_gathered = [&] {
    if (deliver(caller_env, {batch.data(), gathered}, mine, reply)) drained = Drained::kMine;
    gathered = 0;
  };
  for (int count = 0; count < limit; ++count) {
    Delivery& next = batch[gathered];
    const RingConsumer::State state = replies_.peek(next.header, next.body);
    if (state == RingConsumer::State::kEmpty) break;
    if (state == RingConsumer::State::kBroken) {
      broken_.store(true, std::memory_order_relaxed);
      fail_broken(caller_env, "the worker wrote a frame that breaks the protocol");
      break;
    }
    if (drained == Drained::kNothing) drained = Drained::kSome;
    const Kind kind = next.header.kind;
    if (kind == Kind::kReply || kind == Kind::kError) {
      replies_.skip();
      if (++gathered == batch.size()) deliver_gathered();
    } else if (kind == Kind::kAsk) {
      const FrameHeader header = next.header;
      const std::span<const std::uint8_t> body = next.body;
      deliver_gathered();  // in the order in which they were sent
      if (deliver_ask(caller_env, header, body, mine, ref)) {
        drained = Drained::kAsked;
        mine = 0;  // its reply is a message
      }
      replies_.skip();
    } else if (kind == Kind::kSend) {
      // A large one takes its time, and what follows must not overtake it: it is left to the reader.
      if (caller_env && (next.header.flags & channel::kInSegment) != 0) break;
      deliver_message(caller_env, next.header, next.body);
      replies_.skip();
    } else if (kind == Kind::kReady) {
      handle_ready(caller_env, next.body);
      replies_.skip();
    } else {
      broken_.store(true, std::memory_order_relaxed);
      fail_broken(caller_env, "the worker sent a frame of an unknown kind");
      break;
    }
  }
  if (gathered != 0) deliver_gathered();
  replies_.publish();
  return drained;
}

// True when the reply to `mine` was among them: it is in *reply.
bool WorkerChannel::deliver(ErlNifEnv* caller_env, std::span<Delivery> replies, std::uint64_t mine,
                            ERL_NIF_TERM* reply) noexcept {
  std::uint32_t ended = 0;
  bool reached = false;
  {
    std::lock_guard lock(mutex_);
    for (Delivery& next : replies) {
      next.slot = nullptr;
      next.wanted = false;
      next.parked = false;
      const std::uint32_t index = find_slot(next.header.id);
      if (index == kNoSlot) continue;
      Slot& slot = slots_[index];
      // A second answer to one call: the worker is not to be trusted, and nobody waits for it.
      if (slot.state == Slot::State::kDelivering || slot.state == Slot::State::kParked ||
          slot.state == Slot::State::kFailed) {
        continue;
      }
      ++ended;
      next.slot = &slot;
      next.submitted = slot.submitted;
      if (slot.state == Slot::State::kPolling && next.header.id != mine) {
        slot.state = Slot::State::kParked;
        slot.parked = next.header;
        slot.parked_body.assign(next.body.begin(), next.body.end());
        next.parked = true;
      } else {
        next.wanted = slot.state == Slot::State::kWaiting;
        slot.state = Slot::State::kDelivering;
      }
    }
    // Before anybody has his answer: his next call must find the worker as free as it is.
    in_flight_.fetch_sub(ended, std::memory_order_relaxed);
    reached = count_served(ended);
  }
  bool found_mine = false;
  for (const Delivery& next : replies) {
    if (mine != 0 && next.header.id == mine && next.slot) {
      *reply = reply_term(caller_env, next.header, next.body);
      found_mine = true;
    } else if (next.wanted) {
      // The slot's environment holds the reference already, and becomes the message.
      Slot& slot = *next.slot;
      const ERL_NIF_TERM term = reply_term(slot.env, next.header, next.body);
      enif_send(caller_env, &slot.caller, slot.env, enif_make_tuple2(slot.env, slot.ref, term));
    } else if (!next.parked) {
      drop_reply(message_env_.get(), next.header, next.body);
    }
  }
  const std::uint64_t now = monotonic_ns();
  bool long_call = false;
  {
    std::lock_guard lock(mutex_);
    for (const Delivery& next : replies) {
      if (!next.slot) continue;
      long_call = now - next.submitted > spin_ns_ * kLongCall;
      if (!next.parked) {  // else its slot may be somebody else's by now
        free_slot(caller_env, static_cast<std::uint32_t>(next.header.id));
      }
    }
  }
  if (reached) tell_served(caller_env);
  if (!found_mine && ended != 0) {
    const std::uint32_t misses = long_call ? spin_misses_.load(std::memory_order_relaxed) + 1 : 0;
    spin_misses_.store(misses, std::memory_order_relaxed);
  }
  if (ended >= kCrowd) crowded_until_ns_.store(now + kCrowdNs, std::memory_order_relaxed);
  return found_mine;
}

// {:ask, tag, {:ok, term} | {:segment, handle} | {:error, reason}}
ERL_NIF_TERM WorkerChannel::ask_term(ErlNifEnv* env, const FrameHeader& header,
                                     std::span<const std::uint8_t> body) noexcept {
  FrameHeader plain = header;
  plain.flags &= static_cast<std::uint8_t>(~channel::kTimings);
  return enif_make_tuple3(env, state_.atoms.ask, enif_make_uint64(env, header.times[0]),
                          reply_term(env, plain, body));
}

// True when it went to the caller of `mine`, who spins or polls, and who is to wait for messages now.
bool WorkerChannel::deliver_ask(ErlNifEnv* caller_env, const FrameHeader& header,
                                std::span<const std::uint8_t> body, std::uint64_t mine,
                                ERL_NIF_TERM ref) noexcept {
  Ask ask{std::make_unique<OwnedEnv>(), 0};
  ErlNifEnv* env = ask.env->get();
  ask.term = ask_term(env, header, body);
  {
    // Sent under the mutex: one who gives up finds in its mailbox all that it will ever be asked.
    std::lock_guard lock(mutex_);
    const std::uint32_t index = header.id == 0 ? kNoSlot : find_slot(header.id);
    if (index != kNoSlot) {
      Slot& slot = slots_[index];
      const bool is_mine = mine != 0 && header.id == mine;
      if (is_mine && (slot.state == Slot::State::kSpinning || slot.state == Slot::State::kPolling)) {
        set_waiting(caller_env, slot, slot.caller, ref);
        send_ask(caller_env, slot.caller, ref, ask);
        return true;
      }
      if (slot.state == Slot::State::kWaiting) {
        send_ask(caller_env, slot.caller, slot.ref, ask);
        return false;
      }
      if (slot.state == Slot::State::kPolling) {
        slot.asks.push_back(std::move(ask));
        return false;
      }
    }
  }
  // Nobody waits for it: a cast, a thread of Python's own, a caller that has given up.
  send_owner(caller_env, env, enif_make_tuple2(env, enif_make_uint64(env, header.id), ask.term));
  return false;
}

void WorkerChannel::send_ask(ErlNifEnv* caller_env, const ErlNifPid& to, ERL_NIF_TERM ref,
                             const Ask& ask) noexcept {
  ErlNifEnv* env = ask.env->get();
  enif_send(caller_env, &to, env, enif_make_tuple2(env, enif_make_copy(env, ref), ask.term));
}

ERL_NIF_TERM WorkerChannel::decode_segment(ErlNifEnv* env, SegmentHandle& segment) noexcept {
  if (segment.has_objects && waits_for_scheduler(segment.body)) return 0;
  TermDecoder decoder(env, *this);
  decoder.lend(&segment);
  decoder.borrow(segment.loans);
  const bool plain = segment.plain && on_scheduler();
  const ERL_NIF_TERM reply = plain ? decoder.decode_plain_reply(segment.body, segment.is_error)
                                   : decoder.decode_reply(segment.body, segment.is_error);
  if (decoder.needs_scheduler()) return 0;
  segment.decoded.store(true, std::memory_order_release);
  if (!segment.pinned.load(std::memory_order_relaxed)) release_segment(segment);
  return reply;
}

// {Pid, Message}. A process that is gone gets nothing, as ever.
void WorkerChannel::deliver_message(ErlNifEnv* caller_env, const FrameHeader& header,
                                    std::span<const std::uint8_t> body) noexcept {
  OwnedEnv message;
  ErlNifEnv* env = message.get();
  ERL_NIF_TERM term = reply_term(env, header, body);
  int arity = 0;
  const ERL_NIF_TERM* ok = nullptr;
  const ERL_NIF_TERM* pair = nullptr;
  void* object = nullptr;
  if (enif_get_tuple(env, term, &arity, &ok) && ok[0] == state_.atoms.segment &&
      enif_get_resource(env, ok[1], state_.segment_type, &object)) {
    const ERL_NIF_TERM decoded = decode_segment(env, *static_cast<SegmentHandle*>(object));
    if (decoded != 0) term = decoded;  // else it is for the owner to decode
  }
  ErlNifPid to;
  if (enif_get_tuple(env, term, &arity, &ok) && arity == 2 && ok[0] == state_.atoms.ok &&
      enif_get_tuple(env, ok[1], &arity, &pair) && arity == 2 && enif_get_local_pid(env, pair[0], &to)) {
    enif_send(caller_env, &to, env, pair[1]);
    return;
  }
  // One for another node, or one that cannot be decoded, or not here.
  send_owner(caller_env, env, enif_make_tuple2(env, state_.atoms.send, term));
}

// A reply that nobody waits for is still looked at: it may hold a segment, or handles of objects.
void WorkerChannel::drop_reply(ErlNifEnv* env, const FrameHeader& header,
                               std::span<const std::uint8_t> body) noexcept {
  channel::FrameLoans loans = loans_of(header, body);
  if ((header.flags & channel::kHasObjects) != 0) drop_objects(env, header, body, loans);
  if ((header.flags & channel::kInSegment) != 0) {
    FrameHeader without_loans = header;
    without_loans.flags &= static_cast<std::uint8_t>(~channel::kLends);
    reply_term(env, without_loans, body);
  }
  enif_clear_env(env);
}

void WorkerChannel::drop_objects(ErlNifEnv* env, const FrameHeader& header,
                                 std::span<const std::uint8_t> body, channel::FrameLoans& loans) noexcept {
  if ((header.flags & channel::kInSegment) != 0) {
    SegmentRef ref{};
    if (body.size() != sizeof ref) return;
    std::memcpy(&ref, body.data(), sizeof ref);
    const auto view = reply_arena_.view(ref);
    if (!view) return;
    body = *view;
  }
  drop_objects(env, body, loans);
}

// The handles become garbage of `env` at once; their destructors send the releases.
void WorkerChannel::drop_objects(ErlNifEnv* env, std::span<const std::uint8_t> body,
                                 channel::FrameLoans& loans) noexcept {
  TermDecoder decoder(env, *this);
  decoder.borrow(loans);
  decoder.want_objects_only();
  decoder.decode(body);
}

void WorkerChannel::forget_segment(SegmentHandle& segment) noexcept {
  if (segment.has_objects && !segment.decoded.load(std::memory_order_acquire)) {
    ErlNifEnv* const env = enif_alloc_env();
    drop_objects(env, segment.body, segment.loans);
    enif_free_env(env);
  }
  release_segment(segment);
}

ERL_NIF_TERM WorkerChannel::reply_term(ErlNifEnv* env, const FrameHeader& header,
                                       std::span<const std::uint8_t> body) noexcept {
  const Atoms& atoms = state_.atoms;
  const bool is_error = header.kind == Kind::kError;
  const bool timed = (header.flags & channel::kTimings) != 0;
  channel::FrameLoans loans = loans_of(header, body);
  if ((header.flags & channel::kInSegment) != 0) {
    SegmentRef ref{};
    if (body.size() == sizeof ref) {
      std::memcpy(&ref, body.data(), sizeof ref);
      if (const auto view = reply_arena_.view(ref)) {
        return enif_make_tuple2(env, atoms.segment,
                                make_segment(env, header, ref, *view, std::move(loans), {}));
      }
    }
    const ERL_NIF_TERM bad = enif_make_tuple2(
        env, atoms.bad_frame, make_binary(env, "the worker named a segment outside of its arena"));
    return enif_make_tuple2(env, atoms.error, bad);
  }
  const auto put_off = [&] {
    std::vector<std::uint8_t> own(body.begin(), body.end());
    return enif_make_tuple2(env, atoms.segment,
                            make_segment(env, header, {}, {}, std::move(loans), std::move(own)));
  };
  if ((header.flags & channel::kHasObjects) != 0 && waits_for_scheduler(body)) return put_off();
  TermDecoder decoder(env, *this);
  decoder.borrow(loans);
  ERL_NIF_TERM reply = decoder.decode_reply(body, is_error);
  if (decoder.needs_scheduler()) [[unlikely]]
    return put_off();
  return timed ? timed_term(env, atoms, reply, header.times) : reply;
}

ERL_NIF_TERM WorkerChannel::make_segment(ErlNifEnv* env, const FrameHeader& header, const SegmentRef& ref,
                                         std::span<const std::uint8_t> body, channel::FrameLoans loans,
                                         std::vector<std::uint8_t> own) noexcept {
  void* memory = enif_alloc_resource(state_.segment_type, sizeof(SegmentHandle));
  auto* handle = new (memory) SegmentHandle{.channel = this,
                                            .ref = ref,
                                            .body = body,
                                            .times = {},
                                            .is_error = header.kind == Kind::kError,
                                            .timed = (header.flags & channel::kTimings) != 0,
                                            .plain = (header.flags & channel::kPlain) != 0,
                                            .has_objects = (header.flags & channel::kHasObjects) != 0,
                                            .decoded = false,
                                            .pinned = false,
                                            .released = false,
                                            .loans = std::move(loans),
                                            .own = std::move(own)};
  if (!handle->own.empty()) handle->body = handle->own;
  std::copy(std::begin(header.times), std::end(header.times), std::begin(handle->times));
  enif_keep_resource(this);
  const ERL_NIF_TERM term = enif_make_resource(env, handle);
  enif_release_resource(handle);
  return term;
}

ERL_NIF_TERM timed_term(ErlNifEnv* env, const Atoms& atoms, ERL_NIF_TERM reply,
                        const std::uint64_t (&times)[5]) noexcept {
  const std::uint64_t now = monotonic_ns();
  const std::uint64_t transfer = now > times[4] ? now - times[4] : 0;
  const ERL_NIF_TERM measured = enif_make_tuple5(
      env, enif_make_uint64(env, times[0]), enif_make_uint64(env, times[1]), enif_make_uint64(env, times[2]),
      enif_make_uint64(env, times[3]), enif_make_uint64(env, transfer));
  return enif_make_tuple3(env, atoms.timed, reply, measured);
}

void WorkerChannel::send_owner(ErlNifEnv* caller_env, ErlNifEnv* env, ERL_NIF_TERM event) noexcept {
  const ERL_NIF_TERM self = enif_make_resource(env, this);
  enif_send(caller_env, &owner_, env, enif_make_tuple3(env, state_.atoms.typhon, self, event));
  enif_clear_env(env);
}

bool WorkerChannel::busy() const noexcept {
  return in_flight() != 0 || holds_.load(std::memory_order_relaxed) != 0 ||
         region_->header().casts_done.value.load(std::memory_order_acquire) != casts_sent_;
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
  ErlNifEnv* env = message_env_.get();
  TermDecoder decoder(env, *this);
  if (!decoder.decode(body)) {
    fail_broken(caller_env, "the worker's greeting cannot be decoded");
    return;
  }
  const ERL_NIF_TERM map = decoder.term();
  ERL_NIF_TERM pid_term = 0;
  int os_pid = 0;
  if (enif_get_map_value(env, map, make_binary(env, "os_pid"), &pid_term) &&
      enif_get_int(env, pid_term, &os_pid) && os_pid > 1 && os_pid != ::getpid()) {
    worker_os_pid_.store(os_pid, std::memory_order_release);
  }
  send_owner(caller_env, env, enif_make_tuple2(env, state_.atoms.ready, map));
}

void WorkerChannel::fail_broken(ErlNifEnv* caller_env, const char* what) noexcept {
  OwnedEnv reason;
  const ERL_NIF_TERM term =
      enif_make_tuple2(reason.get(), state_.atoms.bad_frame, make_binary(reason.get(), what));
  close(nullptr, term);
  send_owner(caller_env, reason.get(), term);
}

// --- closing ---

ERL_NIF_TERM WorkerChannel::down_term(ErlNifEnv* env) const noexcept {
  return enif_make_tuple2(env, state_.atoms.down, enif_make_copy(env, close_reason_));
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

void WorkerChannel::wake_reader() noexcept {
  // In kSpin the leaving caller looks at closed_ and stopping_; in kAwake the reader does before it waits.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  channel::wake_reader(region_->header().reader_word.value);
}

void WorkerChannel::fail_calls_in_flight() noexcept {
  struct Failed {
    ErlNifPid caller;
    ErlNifEnv* env;
    ERL_NIF_TERM ref;
    bool started;
    std::uint64_t deadline;
  };
  std::vector<Failed> failed;
  {
    std::lock_guard lock(mutex_);
    // A worker takes a request out of the ring before it runs it: what still lies there can safely go to
    // another one.
    // A worker that lives looks at `closing` after it has taken one (fence on both sides): then it does not
    // run it.
    region_->header().closing.value.store(1, std::memory_order_seq_cst);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const std::uint64_t taken = region_->header().request_head.value.load(std::memory_order_acquire);
    for (std::uint32_t index = 0; index < slots_.size(); ++index) {
      Slot& slot = slots_[index];
      if (slot.state == Slot::State::kFree || slot.state == Slot::State::kParked) continue;
      if (slot.state == Slot::State::kPolling) {
        slot.state = Slot::State::kFailed;
        slot.started = slot.position < taken;
        in_flight_.fetch_sub(1, std::memory_order_relaxed);
        continue;
      }
      if (slot.state == Slot::State::kWaiting) {
        failed.push_back({slot.caller, slot.env, slot.ref, slot.position < taken, slot.deadline});
        slot.env = nullptr;  // goes away with the message
        slot.ref = 0;
      }
      free_slot(nullptr, index);
      in_flight_.fetch_sub(1, std::memory_order_relaxed);
    }
  }
  for (Failed& call : failed) {
    ERL_NIF_TERM down = 0;
    if (call.started) {
      std::lock_guard lock(mutex_);
      down = down_term(call.env);
    } else {
      const std::uint64_t left = call.deadline - std::min(call.deadline, monotonic_ns());
      down = enif_make_tuple2(
          call.env, state_.atoms.not_started,
          call.deadline == 0 ? state_.atoms.infinity : enif_make_uint64(call.env, left / 1'000'000));
    }
    enif_send(nullptr, &call.caller, call.env, enif_make_tuple2(call.env, call.ref, down));
    enif_free_env(call.env);
  }
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

// --- the reader thread ---

bool WorkerChannel::start_reader() noexcept {
  stopping_.store(false, std::memory_order_seq_cst);
  enif_keep_resource(this);
  ErlNifThreadOpts* options = enif_thread_opts_create(const_cast<char*>("typhon_reader"));
  if (options) options->suggested_stack_size = 64;  // kilowords
  char name[] = "typhon_reader";
  const int failed = enif_thread_create(name, &reader_, &WorkerChannel::reader_main, this, options);
  if (options) enif_thread_opts_destroy(options);
  if (failed) enif_release_resource(this);
  return failed == 0;
}

bool WorkerChannel::stop_reader() noexcept {
  if (!state_.registry->remove(this)) return false;
  stopping_.store(true, std::memory_order_seq_cst);
  wake_reader();
  enif_thread_join(reader_, nullptr);
  state_.registry->add(this);
  return true;
}

void WorkerChannel::join_reader() noexcept {
  if (state_.registry->remove(this)) enif_thread_join(reader_, nullptr);
}

void* WorkerChannel::reader_main(void* self) noexcept {
  auto* channel = static_cast<WorkerChannel*>(self);
  State& state = channel->state_;
  channel->reader_loop();
  // Whoever took the channel out of the registry joins this thread.
  if (state.registry->remove(channel)) state.registry->bury(enif_thread_self());
  enif_release_resource(channel);
  return nullptr;
}

bool WorkerChannel::wait_for_role(int& timed_rounds) noexcept {
  auto& word = region_->header().reader_word.value;
  for (;;) {
    std::uint32_t state = word.load(std::memory_order_acquire);
    if (state == channel::kAwake) return true;
    if (closed_.load(std::memory_order_seq_cst) || stopping_.load(std::memory_order_seq_cst)) {
      if (state != channel::kSpin) {
        word.compare_exchange_strong(state, channel::kAwake, std::memory_order_acq_rel);
        continue;
      }
    }
    const bool briefly = state != channel::kAsleep;
    const std::optional<std::uint64_t> idle_since = briefly ? std::nullopt : idle_pages_since();
    channel::futex_wait(word, state, briefly ? kTimedWaitNs : idle_since ? kTrimAfterNs : -1);
    const std::uint32_t now = word.load(std::memory_order_acquire);
    if (idle_since && now == channel::kAsleep && idle_since == idle_pages_since()) idle_trim();
    if (briefly && (now == channel::kTimed || now == channel::kPolled)) look_after_callers(now, timed_rounds);
  }
}

void WorkerChannel::reader_loop() noexcept {
  auto& word = region_->header().reader_word.value;
  int timed_rounds = 0;
  while (wait_for_role(timed_rounds)) {
    // One batch: while callers submit, they drain, which costs far less than messages from this thread.
    bool some = false;
    if (drain(nullptr, 0, 0, nullptr, kDrainBatch) != Drained::kNothing) {
      some = true;
      std::atomic_thread_fence(std::memory_order_seq_cst);
      wake_worker_for_room();
    }
    if (some) timed_rounds = 0;
    if (closed_.load(std::memory_order_seq_cst)) {
      while (drain(nullptr, 0, 0, nullptr, kDrainBatch) != Drained::kNothing) {
      }
      // The word stays kAwake for good: nobody takes the role of a closed channel.
      fail_calls_in_flight();
      if (lends_) replies_left_behind().leave();
      return;
    }
    const bool stop = stopping_.load(std::memory_order_seq_cst);
    head_seen_ = region_->header().reply_head.value.load(std::memory_order_relaxed);
    head_seen_ns_ = monotonic_ns();
    const bool expects = in_flight() > 0 || head_seen_ns_ < crowded_until_ns_.load(std::memory_order_relaxed);
    std::uint32_t rest = channel::kAsleep;
    if (!stop && ((expects && timed_rounds < kTimedRounds) || !may_sleep())) {
      reader_looks_.store(true, std::memory_order_seq_cst);
      const bool crowd = polling_.load(std::memory_order_relaxed) >= kCrowd;
      rest = crowd ? channel::kPolled : channel::kTimed;
    } else if (stop) {
      reader_looks_.store(false, std::memory_order_seq_cst);
    }
    word.store(rest, std::memory_order_release);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    wake_worker_for_room();
    // Not before: a worker that makes room finds the reader awake until here, and would wake nobody.
    service_room(nullptr);
    const bool others_drain = rest == channel::kPolled;
    if ((!others_drain && replies_pending() != 0) || closed_.load(std::memory_order_relaxed)) {
      std::uint32_t expected = rest;
      word.compare_exchange_strong(expected, channel::kAwake, std::memory_order_acq_rel);
    }
    if (stop) return;  // the next reader takes over what the word says
  }
}

// Nothing when there are no idle pages; else a count that grows with each segment sent. Spinning callers
// never wake the reader, so that it slept does not mean that nothing happened.
std::optional<std::uint64_t> WorkerChannel::idle_pages_since() noexcept {
  std::lock_guard lock(mutex_);
  request_arena_.reap();
  if (!request_arena_.has_idle_pages()) return std::nullopt;
  return segments_sent_;
}

void WorkerChannel::idle_trim() noexcept {
  bool more = true;
  while (more && !closed_.load(std::memory_order_relaxed)) {
    {
      std::lock_guard lock(mutex_);
      more = request_arena_.trim(kTrimStep);
    }
    ::sched_yield();
  }
}

ERL_NIF_TERM WorkerChannel::info(ErlNifEnv* env) noexcept {
  const Atoms& atoms = state_.atoms;
  std::lock_guard lock(mutex_);
  const std::uint64_t taken = region_->header().request_head.value.load(std::memory_order_acquire);
  const auto running = std::count_if(slots_.begin(), slots_.end(), [taken](const Slot& slot) {
    return slot.state != Slot::State::kFree && slot.position < taken;
  });
  const ERL_NIF_TERM keys[] = {atoms.running,   atoms.in_flight,  atoms.polling,       atoms.waiting,
                               atoms.ring_size, atoms.arena_size, atoms.request_arena, atoms.os_pid,
                               atoms.closed,    atoms.served,     atoms.busy,          atoms.lent,
                               atoms.borrowed};
  const ERL_NIF_TERM values[] = {
      enif_make_int64(env, running),
      enif_make_uint(env, in_flight()),
      enif_make_uint(env, polling_.load(std::memory_order_relaxed)),
      enif_make_uint64(env, room_waiters_.size()),
      enif_make_uint64(env, region_->ring_size()),
      enif_make_uint64(env, region_->arena_size()),
      enif_make_uint64(env, request_arena_.bytes_in_use()),
      enif_make_int(env, worker_os_pid()),
      closed_.load(std::memory_order_relaxed) ? atoms.true_ : atoms.false_,
      enif_make_uint64(env, served_),
      busy() ? atoms.true_ : atoms.false_,
      tally_term(env, lent_),
      tally_term(env, borrowed_),
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

// --- registry ---

void Registry::add(WorkerChannel* channel) noexcept {
  std::lock_guard lock(mutex_);
  channels_.push_back(channel);
}

bool Registry::remove(WorkerChannel* channel) noexcept {
  std::lock_guard lock(mutex_);
  return std::erase(channels_, channel) != 0;
}

void Registry::bury(ErlNifTid thread) noexcept {
  std::lock_guard lock(mutex_);
  ended_.push_back(thread);
}

void Registry::join_ended() noexcept {
  std::vector<ErlNifTid> ended;
  {
    std::lock_guard lock(mutex_);
    ended.swap(ended_);
  }
  for (ErlNifTid thread : ended) enif_thread_join(thread, nullptr);
}

std::vector<WorkerChannel*> Registry::keep_all() noexcept {
  std::lock_guard lock(mutex_);
  for (WorkerChannel* channel : channels_) enif_keep_resource(channel);
  return channels_;
}

}  // namespace typhon::beam
