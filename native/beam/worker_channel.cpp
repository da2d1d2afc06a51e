#include "beam/worker_channel.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <iterator>
#include <new>
#include <thread>
#include <utility>

#include "beam/binary_loans.h"
#include "beam/decoder.h"
#include "beam/open_channels.h"
#include "beam/results.h"
#include "os/clock.h"

namespace typhon::beam {

using os::monotonic_ns;

Result<WorkerChannel*> WorkerChannel::open(ErlNifEnv* env, State& state, const ErlNifPid& owner,
                                           const ChannelOptions& options) noexcept {
  state.open_channels->join_ended();
  if (options.embedded && !state.binary_loans->ensure_thread())
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
  state.open_channels->add(self);
  if (!self->start_reader()) {
    state.open_channels->remove(self);
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
      options_(options),
      region_(std::move(region)),
      claims_(region_->claims()),
      patience_(std::thread::hardware_concurrency() > 1 ? std::uint64_t{options.spin_us} * 1000 : 0),
      role_(region_->header().reader_word.value),
      shared_{.replies = {region_->reply_arena(), region_->arena_size(), region_->header().reply_slots}},
      mutex_("typhon.channel"),
      requests_(*region_),
      slots_(this),
      replies_{.ring = {region_->reply_ring(), region_->ring_size(), region_->header().reply_tail.value,
                        region_->header().reply_head.value}} {
  shared_.account->limit = options.max_held != 0 ? options.max_held : state.results->memory().limit() / 2;
}

WorkerChannel::~WorkerChannel() {
  Lock lock(mutex_);
  for (std::uint32_t index = 0; index < slots_.size(); ++index) {
    const Slot& slot = slots_[index];
    if (slot.ended != Slot::Ended::kReply) continue;
    std::span<const std::uint8_t> body = slot.reply_body;
    loans_of(slot.reply, body).clear();
  }
}

void WorkerChannel::reserve(bool reserved) noexcept {
  Lock lock(mutex_);
  reserved_ = reserved;
}

bool WorkerChannel::ring_worker() noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  auto& word = region_->header().worker_word.value;
  if (word.load(std::memory_order_relaxed) != channel::kAsleep) return false;
  if (!channel::wake_from(word, channel::kAsleep)) return false;
  load_.wakes.fetch_add(1, std::memory_order_relaxed);
  return true;
}

// --- objects ---

void WorkerChannel::release_object(std::uint64_t id) noexcept {
  bool pushed = false;
  {
    Lock lock(mutex_);
    if (closed()) return;
    requests_.add_release(id);
    pushed = push_all_releases();
  }
  if (pushed) ring_worker();
}

// What does not fit waits for room, as callers do.
bool WorkerChannel::push_all_releases() noexcept {
  bool room_wanted = false;
  const bool pushed = requests_.push_all_releases(room_wanted);
  if (room_wanted) load_.room_wanted.store(true, std::memory_order_relaxed);
  return pushed;
}

// --- room ---

void WorkerChannel::wait_for_room(const ErlNifPid& caller, ERL_NIF_TERM ref, bool movable) noexcept {
  room_.add(caller, ref, movable);
  load_.room_wanted.store(true, std::memory_order_relaxed);
}

void WorkerChannel::service_room(ErlNifEnv* caller_env) noexcept {
  if (!load_.room_wanted.load(std::memory_order_relaxed)) return;
  std::vector<RoomQueue::Waiter> woken;
  bool released = false;
  {
    Lock lock(mutex_);
    if (!closed() && !requests_.has_room_or_ask()) return;
    woken = room_.take_all();
    load_.room_wanted.store(false, std::memory_order_relaxed);
    if (!closed()) released = push_all_releases();
  }
  if (released) ring_worker();
  RoomQueue::tell(caller_env, state_.atoms, woken);
}

bool WorkerChannel::wait_for_segments(const ErlNifPid& caller, ERL_NIF_TERM ref, bool movable) noexcept {
  Lock lock(mutex_);
  // Casts are not answered: it is the worker's taking them that makes room.
  if (requests_.asks_in_vain() && !closed()) return false;
  wait_for_room(caller, ref, movable);
  return true;
}

void WorkerChannel::stop_waiting_for_room(ERL_NIF_TERM ref) noexcept {
  Lock lock(mutex_);
  room_.remove(ref);
}

std::optional<channel::Segment> WorkerChannel::allocate_segment(std::size_t bytes) noexcept {
  Lock lock(mutex_);
  return requests_.allocate(bytes);
}

bool WorkerChannel::may_lend(std::size_t bytes) noexcept {
  Lock lock(mutex_);
  return requests_.may_lend(bytes);
}

bool WorkerChannel::grow_segment(channel::Segment& segment, std::size_t used, std::size_t bytes) noexcept {
  Lock lock(mutex_);
  return requests_.grow(segment, used, bytes);
}

void WorkerChannel::shrink_segment(channel::Segment& segment, std::size_t used) noexcept {
  Lock lock(mutex_);
  requests_.shrink(segment, used);
}

void WorkerChannel::discard_segment(const channel::Segment& segment) noexcept {
  Lock lock(mutex_);
  requests_.discard(segment);
}

// --- the owner ---

void WorkerChannel::send_owner(ErlNifEnv* caller_env, ErlNifEnv* env, ERL_NIF_TERM event) noexcept {
  const ERL_NIF_TERM self = enif_make_resource(env, this);
  enif_send(caller_env, &owner_, env, enif_make_tuple3(env, state_.atoms.typhon, self, event));
  enif_clear_env(env);
}

void WorkerChannel::note_answers(std::uint64_t now) noexcept {
  load_.busy_since_ns.store(now, std::memory_order_relaxed);
  if (load_.moved_away.load(std::memory_order_relaxed) != 0)
    load_.moved_away.store(0, std::memory_order_relaxed);
}

bool WorkerChannel::busy() const noexcept {
  return in_flight() != 0 || casts() != 0 || load_.holds.load(std::memory_order_relaxed) != 0;
}

// True when the owner is to be told.
bool WorkerChannel::count_served(std::uint64_t count) noexcept {
  served_.count += count;
  if (served_.notify_at == 0 || served_.count < served_.notify_at) return false;
  served_.notify_at = 0;
  return true;
}

bool WorkerChannel::notify_at(std::uint64_t count) noexcept {
  Lock lock(mutex_);
  served_.notify_at = served_.count < count ? count : 0;
  return served_.notify_at != 0;
}

void WorkerChannel::tell_served(ErlNifEnv* caller_env) noexcept {
  OwnedEnv message;
  send_owner(caller_env, message.get(), state_.atoms.served);
}

void WorkerChannel::handle_ready(ErlNifEnv* caller_env, std::span<const std::uint8_t> body) noexcept {
  // What it says of itself is believed once; whether that is true the owner finds out (OwnProcess).
  if (std::exchange(replies_.greeted, true)) {
    life_.broken.store(true, std::memory_order_relaxed);
    fail_broken(caller_env, "the worker greeted a second time");
    return;
  }
  ErlNifEnv* env = replies_.env.get();
  Decoder decoder(env, *this);
  if (!decoder.decode(body) || !enif_is_map(env, decoder.term())) {
    life_.broken.store(true, std::memory_order_relaxed);
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
  return enif_make_tuple2(env, state_.atoms.down, enif_make_copy(env, closing_.reason));
}

// {:not_started, left}: the call has not run, and its caller may make it again.
ERL_NIF_TERM WorkerChannel::not_started_term(ErlNifEnv* env, std::uint64_t deadline,
                                             std::uint64_t now) const noexcept {
  const std::uint64_t left = deadline - std::min(deadline, now);
  return enif_make_tuple2(
      env, state_.atoms.not_started,
      deadline == 0 ? state_.atoms.infinity : enif_make_uint64(env, (left + 999'999) / 1'000'000));
}

void WorkerChannel::set_closed(ERL_NIF_TERM reason) noexcept {
  closing_.reason = enif_make_copy(closing_.env.get(), reason);
  life_.closed.store(true, std::memory_order_seq_cst);
}

void WorkerChannel::close(ErlNifEnv* env, ERL_NIF_TERM reason) noexcept {
  {
    Lock lock(mutex_);
    if (life_.closed.load(std::memory_order_relaxed)) return;
    set_closed(reason);
  }
  finish_close(env);
}

bool WorkerChannel::close_if_idle(ErlNifEnv* env, ERL_NIF_TERM reason) noexcept {
  {
    Lock lock(mutex_);
    if (life_.closed.load(std::memory_order_relaxed)) return true;
    if (busy()) return false;
    set_closed(reason);
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

// What becomes of a call whose channel has been closed. Who polls looks again; whoever else waits is told.
struct WorkerChannel::Failed {
  std::uint32_t index;
  ErlNifPid caller;
  ErlNifEnv* env;
  ERL_NIF_TERM ref;
  bool started;
  std::uint64_t deadline;
  Unseen unseen;  // what its caller, who was asked something, would have found
};

void WorkerChannel::fail_slot(std::uint32_t index, std::vector<Failed>& failed,
                              std::vector<Unseen>& unseen) noexcept {
  Slot& slot = slots_[index];
  if (slot.state == Slot::State::kFree) return;
  const bool ended = slot.ended != Slot::Ended::kNot;
  if (slot.polls && ended) return watch_poller(index, unseen);
  if (!ended) load_.in_flight.fetch_sub(1, std::memory_order_relaxed);
  if (slot.ref == 0 && !slot.polls) return free_slot(nullptr, index);
  if (slot.state != Slot::State::kLooks && slot.state != Slot::State::kWaits)
    return free_slot(nullptr, index);
  // What the worker has not begun, nor can begin any more, can safely go to another one.
  const bool started = ended || !claims_.withdraw(slots_.id(index));
  if (slot.polls) {
    slot.ended = Slot::Ended::kFailed;
    slot.started = started;
    return watch_poller(index, unseen);
  }
  failed.push_back({index, slot.caller, slot.env, slot.ref, started, slot.deadline, Unseen::take(slot)});
  slot.env = nullptr;  // goes away with the message
  slot.ref = 0;
  slot.state = Slot::State::kDelivering;  // who gives up now waits until it has been sent
}

// The reader, who reaps those that were killed while they polled, is about to end.
void WorkerChannel::watch_poller(std::uint32_t index, std::vector<Unseen>& unseen) noexcept {
  if (slots_.monitor(nullptr, slots_[index])) return;
  unseen.emplace_back();
  forget(nullptr, index, unseen.back());
}

void WorkerChannel::fail_calls_in_flight() noexcept {
  std::vector<Failed> failed;
  std::vector<Unseen> unseen;
  {
    Lock lock(mutex_);
    for (std::uint32_t index = 0; index < slots_.size(); ++index) fail_slot(index, failed, unseen);
  }
  for (const Unseen& one : unseen) drop(one);
  for (Failed& call : failed) {
    for (const Ask& ask : call.unseen.asks) ask.send(nullptr, call.caller, call.ref);
    ERL_NIF_TERM term = 0;
    if (call.unseen.replied) {
      term = reply_term(call.env, call.unseen.reply, call.unseen.reply_body);
    } else if (call.started) {
      Lock lock(mutex_);
      term = down_term(call.env);
    } else {
      term = not_started_term(call.env, call.deadline, monotonic_ns());
    }
    enif_send(nullptr, &call.caller, call.env, enif_make_tuple2(call.env, call.ref, term));
    enif_free_env(call.env);
    Lock lock(mutex_);
    free_slot(nullptr, call.index);
  }
  life_.settled.store(true, std::memory_order_release);
  service_room(nullptr);
  // Terms may keep the channel for long; the memory of requests that nobody will read need not stay. But a
  // view that an interpreter of this VM has kept outlives its worker.
  if (!lends()) region_->drop_request_arena();
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

// The counters of its rings, ever, and how much of the arena requests take at this moment.
ERL_NIF_TERM WorkerChannel::ring_term(ErlNifEnv* env) const noexcept {
  const Atoms& atoms = state_.atoms;
  const std::pair<ERL_NIF_TERM, std::uint64_t> counters[] = {
      {atoms.requests, requests_.frames()},
      {atoms.replies, load_.replies.load(std::memory_order_relaxed)},
      {atoms.wakes, load_.wakes.load(std::memory_order_relaxed)},
      {atoms.missed_spins, patience_.missed_spins()},
      {atoms.waits_for_room, room_.added()},
      {atoms.segment_bytes, requests_.bytes_in_use()},
  };
  ERL_NIF_TERM map = enif_make_new_map(env);
  for (const auto& [key, value] : counters)
    enif_make_map_put(env, map, key, enif_make_uint64(env, value), &map);
  return map;
}

ERL_NIF_TERM WorkerChannel::ring_info(ErlNifEnv* env) noexcept {
  Lock lock(mutex_);
  return ring_term(env);
}

ERL_NIF_TERM WorkerChannel::info(ErlNifEnv* env) noexcept {
  const Atoms& atoms = state_.atoms;
  Lock lock(mutex_);
  std::uint64_t running = 0;
  for (std::uint32_t index = 0; index < slots_.size(); ++index) {
    const Slot& slot = slots_[index];
    if (slot.state != Slot::State::kFree && claims_.is_taken(slots_.id(index))) ++running;
  }
  const ERL_NIF_TERM keys[] = {
      atoms.running,       atoms.in_flight, atoms.polling, atoms.waiting, atoms.ring_size, atoms.arena_size,
      atoms.request_arena, atoms.os_pid,    atoms.closed,  atoms.served,  atoms.busy,      atoms.lent,
      atoms.borrowed,      atoms.heard,     atoms.results, atoms.shared,  atoms.moved,     atoms.settled,
      atoms.owner,         atoms.ring,      atoms.casts};
  const ERL_NIF_TERM values[] = {
      enif_make_uint64(env, running),
      enif_make_uint(env, in_flight()),
      enif_make_uint(env, pollers_.count.load(std::memory_order_relaxed)),
      enif_make_uint64(env, room_.size()),
      enif_make_uint64(env, region_->ring_size()),
      enif_make_uint64(env, region_->arena_size()),
      enif_make_uint64(env, requests_.bytes_in_use()),
      enif_make_int(env, process_.pid()),
      life_.closed.load(std::memory_order_relaxed) ? atoms.true_ : atoms.false_,
      enif_make_uint64(env, served_.count),
      busy() ? atoms.true_ : atoms.false_,
      tally_term(env, shared_.lent),
      tally_term(env, shared_.borrowed),
      enif_make_uint64(env, quota_.dealt_with()),
      enif_make_tuple2(env, enif_make_uint64(env, shared_.account->count.load()),
                       enif_make_uint64(env, shared_.account->bytes.load())),
      tally_term(env, shared_.pinned),
      enif_make_uint64(env, load_.moved_in_all.load(std::memory_order_relaxed)),
      settled() ? atoms.true_ : atoms.false_,
      enif_make_pid(env, &owner_),
      ring_term(env),
      enif_make_uint64(env, casts()),
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
