// WorkerChannel: the BEAM's end of one worker's channel.
//
// Overview. A scheduler thread submits a request under `mutex_` and either spins some microseconds for the
// reply or returns; then the reply reaches the caller as a message. Replies are drained by whoever holds the
// *reader role* (channel/reader_role.h): the reader thread, or a caller inside the NIF. A caller gives it
// back by storing the state that it found, fencing and looking once more (leave_role), so that a reply which
// arrives in between wakes the reader. docs/protocol.md has the whole state machine.
//
// The worker can write everything in the region, at any time. So what it says there is believed only where a
// lie hurts its own calls alone: who reads, which slot is whose, and what was sent lie in this object; every
// wait has a limit of this side.
//
// Calls in flight lie in slots (beam/slots.h). There is one wait: a caller submits, and looks, until there is
// its answer, or something that Python asks it first, or until looking does not pay any more and messages are
// to come. Who has answered looks again, by that answer or by next(). What nobody waits for goes to the
// owner.
//
// Life. A resource of the BEAM, kept alive by its terms, by the pool, by segments and object handles that
// point into its region, and by the reader thread until the channel is closed. close() is called by the
// owner, by the owner's death (a process monitor), and at unload; the reader thread then drains what is
// there, fails the rest, and ends. Its thread id is left to the OpenChannels to join, because the last
// reference may go away on that very thread.
//
// Threads. Any scheduler, normal or dirty, and the reader. Fields say what guards them.
//
// Where. worker_channel.cpp: opening, the owner, room, closing. submit.cpp: requests. looking.cpp: the one
// wait. giving_up.cpp: calls that nobody waits for any more. moving.cpp: calls that another worker is to
// have. delivery.cpp: what the holder of the reader role does. reader.cpp: the reader thread. results.cpp:
// what comes in segments.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_annotations.h"
#include "beam/handed.h"
#include "beam/handles.h"
#include "beam/nif.h"
#include "beam/own_process.h"
#include "beam/patience.h"
#include "beam/quota.h"
#include "beam/room.h"
#include "beam/slots.h"
#include "channel/arena.h"
#include "channel/claim.h"
#include "channel/doorbell.h"
#include "channel/imports.h"
#include "channel/loan.h"
#include "channel/reader_role.h"
#include "channel/region.h"
#include "channel/request_side.h"
#include "channel/result_memory.h"
#include "channel/ring.h"
#include "os/clock.h"

namespace typhon::beam {

struct ChannelOptions {
  channel::RegionOptions region;
  std::uint32_t spin_us = 20;
  bool create_atoms = false;
  bool embedded = false;           // the worker is a Python in this VM: large binaries go as loans
  bool shared = false;             // results are not copied: the worker can write to binaries that Elixir has
  std::size_t max_held = 0;        // bytes of results in use at most; 0: half of what all workers' may be
  std::shared_ptr<Handed> handed;  // nullptr: Python may call and reach what it likes
  unsigned text = 0;               // which atoms are written as text, of Encoder's bits
  bool raw = false;  // maps have no meaning, and no other worker can have a request in place of this one
  std::optional<ErlNifPid> pool;  // its process, which handles of objects name
};

// What a step of a caller came to.
struct Outcome {
  enum class Is : std::uint8_t {
    // of the wait: submit(), look() and next()
    kReply,       // `term`: the answer
    kAsk,         // `term`: {:ask, tag, reply}. The caller looks when it has dealt with it.
    kLook,        // it is to look when its next turn comes
    kMessages,    // what comes, comes as messages
    kNotStarted,  // the channel was closed before the worker took the request
    // of submit() alone
    kAccepted,   // what nobody waits for lies in the ring
    kNoRoom,     // registered for {ref, :room}
    kDown,       // `term`: {:down, reason}
    kElsewhere,  // it is reserved, or not idle any more: pick again
  };
  Is is;
  std::uint64_t id = 0;
  ERL_NIF_TERM term = 0;
  std::uint64_t deadline = 0;  // of the call, as in its request; not with kReply
};

// A request, encoded and ready to go, and who makes it.
struct Request {
  ErlNifEnv* env;
  ErlNifPid caller;
  ERL_NIF_TERM ref;
  channel::Outgoing frame;
  bool named = false;     // the caller named this very channel
  bool was_idle = false;  // it was picked because it had nothing to do
  bool movable =
      false;  // a call: any worker of the pool may have it, and its caller makes it again when told so
  bool admitted = false;   // it was made before
  std::uint64_t call = 0;  // an answer: the call of which its sender looks for what comes next, 0 for none
};

class WorkerChannel {
 public:
  static constexpr std::size_t kMaxInline = std::size_t{16} * 1024;
  // Of a channel that was opened without: bytes that one result may take.
  static constexpr std::uint64_t kMaxResult = std::uint64_t{1} << 30;

  // A new resource with its reader thread running. The caller owns one reference.
  static Result<WorkerChannel*> open(ErlNifEnv* env, State& state, const ErlNifPid& owner,
                                     const ChannelOptions& options) noexcept;
  WorkerChannel(State& state, const ErlNifPid& owner, const ChannelOptions& options,
                std::unique_ptr<channel::Region> region) noexcept;
  WorkerChannel(const WorkerChannel&) = delete;
  WorkerChannel& operator=(const WorkerChannel&) = delete;
  ~WorkerChannel();

  Outcome submit(Request& request) noexcept;
  // A turn of a caller that polls. `ref` is for messages.
  Outcome look(ErlNifEnv* env, std::uint64_t id, ERL_NIF_TERM ref) noexcept;
  // Its caller has dealt with one thing that it was asked or told, and wants to know what comes next.
  Outcome next(ErlNifEnv* env, std::uint64_t id, ERL_NIF_TERM ref) noexcept;
  // The channel has lost its place in the pool, so that callers will not find it by that. True when some
  // still poll: then it must be kept until polling() is 0.
  bool retire() noexcept {
    pollers_.retired.store(true, std::memory_order_seq_cst);
    return pollers_.count.load(std::memory_order_seq_cst) != 0;
  }
  // It has a place again.
  void restore() noexcept { pollers_.retired.store(false, std::memory_order_seq_cst); }
  // Callers that poll, without those that were killed meanwhile.
  std::uint32_t polling(bool is_reader = false) noexcept;

  // From here on (or: no longer) only requests that name the channel are accepted. What was accepted before
  // stays; after the return nothing else can follow it.
  void reserve(bool reserved) noexcept;

  // The caller gives up. kReply: it was there already; kMessages: it lies in the mailbox; kAccepted: it will
  // not come. What Python asked before lies in the mailbox.
  Outcome cancel(ErlNifEnv* env, std::uint64_t id) noexcept;

  // Idempotent. `reason` is copied.
  void close(ErlNifEnv* env, ERL_NIF_TERM reason) noexcept;
  // The same, unless there is a call in flight or a cast that the worker has not finished: then false. What
  // is submitted at the same moment either counts, or meets a closed channel and was not taken.
  bool close_if_idle(ErlNifEnv* env, ERL_NIF_TERM reason) noexcept;

  // Tells the owner once, by {typhon, channel, served}, when that many requests have been answered (or taken,
  // of casts) since the channel was opened. False when they have been already: then it is not told.
  bool notify_at(std::uint64_t count) noexcept;

  // --- segments and loans of requests that are being written: as of channel::RequestSide, with the mutex ---
  std::optional<channel::Segment> allocate_segment(std::size_t bytes) noexcept TYPHON_EXCLUDES(mutex_);
  bool grow_segment(channel::Segment& segment, std::size_t used, std::size_t bytes) noexcept
      TYPHON_EXCLUDES(mutex_);
  void shrink_segment(channel::Segment& segment, std::size_t used) noexcept TYPHON_EXCLUDES(mutex_);
  void discard_segment(const channel::Segment& segment) noexcept TYPHON_EXCLUDES(mutex_);
  [[nodiscard]] std::uint8_t* segment_data(const channel::Segment& segment) const noexcept {
    return region_->request_arena() + segment.offset;
  }
  bool may_lend(std::size_t bytes) noexcept TYPHON_EXCLUDES(mutex_);
  // Registers for {ref, :room}; false when there is nothing to wait for (no request in flight holds a
  // segment).
  bool wait_for_segments(const ErlNifPid& caller, ERL_NIF_TERM ref, bool movable) noexcept
      TYPHON_EXCLUDES(mutex_);
  void stop_waiting_for_room(ERL_NIF_TERM ref) noexcept TYPHON_EXCLUDES(mutex_);

  // Why what came in a segment is not decoded.
  enum class Refusal : std::uint8_t {
    kNone,
    kTakesTime,  // more than a normal scheduler has: try again where there is some
    kTooLarge,
    kNeverWritten,
    kHeld,
    kHeldByAll,
    kNoMemory
  };
  // Copies it into memory of the VM's, lets go of the arena, and looks whether its term would take too much;
  // before anything else is done with it. After a refusal refuse_segment() is next, or nothing at all.
  Refusal take_in(SegmentHandle& segment, bool has_time = true) noexcept;
  ERL_NIF_TERM refuse_segment(ErlNifEnv* caller_env, ErlNifEnv* env, SegmentHandle& segment,
                              Refusal refusal) noexcept;
  void done_with(SegmentHandle& segment) const noexcept;
  [[nodiscard]] std::uint64_t max_result() const noexcept { return region_->max_result(); }
  [[nodiscard]] bool copies_results() const noexcept { return !options_.embedded && !options_.shared; }
  // --- moving, by the Mover's thread (moving.h) ---
  // A call that the worker has not begun, and whose caller waits for a message.
  struct Movable {
    WorkerChannel* channel;
    std::uint64_t id;
    std::uint64_t submitted;
    bool admitted;
  };
  void add_movable(std::vector<Movable>& calls) noexcept;
  // Takes the call back, and tells its caller to make it again. False: it is the worker's.
  bool move_away(std::uint64_t id, std::uint64_t now) noexcept;
  // The same for those that wait for room.
  void move_waiters_away() noexcept;
  // How long the oldest call in flight has been, 0 when there is none.
  [[nodiscard]] std::uint64_t longest_wait(std::uint64_t now) noexcept;
  // It has something to do, and has answered nothing for a while: what it runs is no short call.
  [[nodiscard]] bool stands_still(std::uint64_t now) const noexcept {
    const std::uint64_t since = load_.busy_since_ns.load(std::memory_order_relaxed);
    return now > since && now - since > kStillNs;
  }

  void release_reply_segment(std::uint64_t slot) const noexcept { shared_.replies.release(slot); }
  // Nobody will decode it.
  void forget_segment(SegmentHandle& segment) noexcept;
  // Its memory is not needed any more.
  void release_segment(SegmentHandle& segment) const noexcept {
    if (!segment.released.exchange(true) && segment.own.empty()) release_reply_segment(segment.ref.slot);
  }
  void release_object(std::uint64_t id) noexcept;

  // A monitored process has ended: the owner, or a caller.
  void process_down(ErlNifEnv* env, const ErlNifMonitor& monitor) noexcept;
  ERL_NIF_TERM info(ErlNifEnv* env) noexcept;
  // The counters of its rings alone.
  ERL_NIF_TERM ring_info(ErlNifEnv* env) noexcept TYPHON_EXCLUDES(mutex_);

  // Objects without which what is under way cannot go on: while there are some, close_if_idle() does not.
  void hold() noexcept { load_.holds.fetch_add(1, std::memory_order_relaxed); }
  void let_go() noexcept { load_.holds.fetch_sub(1, std::memory_order_relaxed); }

  // Calls in flight that occupy the worker, without those that wait in its event loop.
  [[nodiscard]] std::uint32_t load() const noexcept { return occupied().calls; }
  // What is compared when a call is to be placed: calls and casts that occupy the worker; and as many again
  // as have been moved away from it since it has answered the last one, for it would not begin this one soon.
  [[nodiscard]] std::uint32_t weight() const noexcept { return occupied().weight; }
  // Both, with one look at each counter: other cores write them all the time.
  struct Occupied {
    std::uint32_t calls = 0;
    std::uint32_t weight = 0;
  };
  [[nodiscard]] Occupied occupied() const noexcept {
    const channel::Header& header = region_->header();
    const std::uint64_t calls = in_flight();
    const std::uint64_t all = calls + casts();
    if (all == 0) return {};
    const std::uint64_t suspended = header.suspended.value.load(std::memory_order_relaxed);
    Occupied by;
    by.calls = static_cast<std::uint32_t>(calls - std::min(calls, suspended));
    by.weight = static_cast<std::uint32_t>(all - std::min(all, suspended));
    if (by.weight != 0) by.weight += load_.moved_away.load(std::memory_order_relaxed);
    return by;
  }
  // Casts that the worker has not finished.
  [[nodiscard]] std::uint64_t casts() const noexcept {
    const std::uint64_t sent = load_.casts_sent.load(std::memory_order_relaxed);
    if (sent == 0) return 0;
    return sent - std::min(sent, region_->header().casts_done.value.load(std::memory_order_acquire));
  }
  [[nodiscard]] std::uint32_t in_flight() const noexcept {
    return load_.in_flight.load(std::memory_order_relaxed);
  }
  [[nodiscard]] bool closed() const noexcept { return life_.closed.load(std::memory_order_relaxed); }
  // Closed, and every call that was in flight has been told: nobody needs to find it any more.
  [[nodiscard]] bool settled() const noexcept { return life_.settled.load(std::memory_order_acquire); }
  // What has become of a call whose caller gave up: the worker has taken nothing since, as it runs something
  // else, or though it runs no call nor cast at all; it runs it, or imports a module for it; or all is well.
  enum class Abandoned : std::uint8_t { kWaits, kIgnored, kRuns, kImports, kEnded };
  [[nodiscard]] Abandoned abandoned(std::uint64_t id) noexcept;
  // As the worker says. What is not known of its name is empty.
  [[nodiscard]] bool imports_for(std::uint64_t id) const noexcept {
    return claims_.state(id) == channel::Claim::kImports;
  }
  [[nodiscard]] channel::Imports imports() const noexcept { return channel::Imports(region_->header()); }
  // Its number among all channels of this VM.
  [[nodiscard]] std::uint64_t serial() const noexcept { return serial_; }
  [[nodiscard]] channel::Region& region() const noexcept { return *region_; }
  [[nodiscard]] bool create_atoms() const noexcept { return options_.create_atoms; }
  [[nodiscard]] AtomRoom& atom_room() noexcept { return state_.atom_room; }
  [[nodiscard]] bool raw() const noexcept { return options_.raw; }
  // The pid of its pool, or nil.
  [[nodiscard]] ERL_NIF_TERM pool(ErlNifEnv* env) const noexcept {
    return options_.pool ? enif_make_pid(env, &*options_.pool) : atoms().nil;
  }
  [[nodiscard]] unsigned text() const noexcept { return options_.text; }
  [[nodiscard]] bool tagged() const noexcept { return (options_.region.flags & channel::kFlagTagged) != 0; }
  [[nodiscard]] bool lends() const noexcept { return options_.embedded; }
  // Binaries that Python may read in place; Python's memory that binaries lie in.
  [[nodiscard]] channel::Tally& lent() noexcept { return shared_.lent; }
  [[nodiscard]] channel::Tally& borrowed() noexcept { return shared_.borrowed; }
  // Segments that binaries lie in.
  [[nodiscard]] channel::Tally& pinned() noexcept { return shared_.pinned; }
  [[nodiscard]] const Atoms& atoms() const noexcept { return state_.atoms; }
  [[nodiscard]] State& state() const noexcept { return state_; }
  // The worker's process, once the owner has adopted it.
  [[nodiscard]] OwnProcess& process() noexcept { return process_; }
  // What Python may reach and call, with an allow list; else nullptr.
  [[nodiscard]] Handed* handed() const noexcept { return options_.handed.get(); }
  // So much of what the owner got has been dealt with.
  void dealt_with(Quota::Of of, std::uint32_t count) noexcept;
  [[nodiscard]] bool may_reach(ErlNifEnv* env, ERL_NIF_TERM destination) noexcept;
  [[nodiscard]] bool may_say(ErlNifEnv* env, ERL_NIF_TERM message) noexcept;
  [[nodiscard]] bool is_owner(const ErlNifPid& pid) const noexcept {
    return enif_compare_pids(&pid, &owner_) == 0;
  }
  bool post(ErlNifEnv* caller_env, ErlNifEnv* env, const ErlNifPid& to, ERL_NIF_TERM message) noexcept;

  // Stops and restarts the reader thread; for code upgrades, when the old library's code is about to go.
  // stop_reader() is false when the thread has ended by itself (the channel was closed).
  bool stop_reader() noexcept;
  bool start_reader() noexcept;
  // Waits for the reader of a closed channel.
  void join_reader() noexcept;

 private:
  // A reply on its way from the ring to its caller.
  struct Delivery {
    channel::FrameHeader header;
    std::span<const std::uint8_t> body;
    Slot* slot;  // nullptr: nobody knows of it any more
    std::uint64_t submitted;
    bool wanted;  // its caller waits for a message
    bool kept;    // its caller looks, and the reply lies in the slot
  };
  static constexpr std::size_t kDeliverAtOnce = 32;
  // A caller that drains, and what came for it.
  struct Looker {
    std::uint64_t id;
    ERL_NIF_TERM ref;
    ERL_NIF_TERM term = 0;       // its answer, or what it is asked
    std::uint64_t deadline = 0;  // of the call, with what it is asked
  };
  enum class Drained : std::uint8_t {
    kNothing,
    kSome,
    kMine,   // the looker's reply is there
    kAsked,  // the looker is asked something
  };
  struct Failed;

  // Longer than that a call, or the gap between two answers, is not short.
  static constexpr std::uint64_t kStillNs = 1'000'000;
  static constexpr std::uint32_t kDrainBatch = 256;
  // The reader's wait while replies are expected: short enough that a put-off wake costs nothing one would
  // notice.
  static constexpr std::int64_t kTimedWaitNs = 100'000;
  // After so many of them without a reply the reader sleeps for good.
  static constexpr int kTimedRounds = 8;
  // How long it sleeps then. Nobody but the worker wakes it for a reply, and a worker may get that wrong.
  static constexpr std::int64_t kSleepNs = 1'000'000'000;
  // After so many timed waits in which the word said that somebody reads, and nobody did, the reader does.
  static constexpr int kAbandonedRounds = 50;

  // --- requests (submit.cpp) ---
  Outcome submit_call(Request& request) noexcept TYPHON_EXCLUDES(mutex_);
  Outcome submit_other(const Request& request) noexcept TYPHON_EXCLUDES(mutex_);
  std::optional<Outcome> refuse(const Request& request) noexcept TYPHON_REQUIRES(mutex_);
  bool push(const Request& request) noexcept TYPHON_REQUIRES(mutex_);
  bool register_for_room(const Request& request) noexcept TYPHON_REQUIRES(mutex_);
  Outcome no_room(const Request& request, bool registered, std::optional<std::uint32_t> found) noexcept
      TYPHON_EXCLUDES(mutex_);
  bool may_spin(const Request& request, bool crowded, std::uint32_t& found) noexcept TYPHON_REQUIRES(mutex_);
  bool may_spin_again(const Request& request, std::uint32_t& found) noexcept TYPHON_REQUIRES(mutex_);
  bool may_watch(std::uint32_t& found) noexcept TYPHON_REQUIRES(mutex_);
  Outcome begin_to_poll(ErlNifEnv* env, std::uint64_t id) noexcept;
  Outcome ring_and_look(const Request& request, std::uint64_t id, bool spins, std::uint32_t found) noexcept;
  void drain_for_others(ErlNifEnv* env) noexcept;
  [[nodiscard]] bool is_crowded(std::uint64_t now) const noexcept;
  [[nodiscard]] std::uint64_t many_bytes() const noexcept;
  [[nodiscard]] std::uint64_t requests_pending() const noexcept;
  bool ring_worker() noexcept;

  // --- the one wait (looking.cpp) ---
  Outcome spin(ErlNifEnv* env, std::uint64_t id, ERL_NIF_TERM ref, std::uint32_t found,
               bool woke_worker) noexcept;
  void watch(ErlNifEnv* env, std::uint32_t found, bool woke_worker) noexcept;
  Drained watch_ring(ErlNifEnv* env, Looker* looker, bool woke_worker) noexcept;
  static std::optional<Outcome> came(const Looker& looker, Drained drained) noexcept;
  Outcome wait(ErlNifEnv* env, std::uint64_t id, ERL_NIF_TERM ref) noexcept TYPHON_EXCLUDES(mutex_);
  bool has_news(std::uint64_t id) noexcept TYPHON_EXCLUDES(mutex_);
  std::optional<Outcome> take_news(ErlNifEnv* env, std::uint64_t id, ERL_NIF_TERM ref) noexcept
      TYPHON_EXCLUDES(mutex_);
  // These give the mutex back, or their caller does, which the analysis cannot follow.
  Outcome wait(ErlNifEnv* env, std::uint64_t id, ERL_NIF_TERM ref, Lock<Mutex>& lock) noexcept
      TYPHON_REQUIRES(mutex_) TYPHON_NO_THREAD_SAFETY_ANALYSIS;
  Outcome take_first(ErlNifEnv* env, std::uint32_t index, ERL_NIF_TERM ref, Lock<Mutex>& lock) noexcept
      TYPHON_REQUIRES(mutex_) TYPHON_NO_THREAD_SAFETY_ANALYSIS;
  Outcome take_ask(ErlNifEnv* env, std::uint32_t index, ERL_NIF_TERM ref, Lock<Mutex>& lock) noexcept
      TYPHON_REQUIRES(mutex_) TYPHON_NO_THREAD_SAFETY_ANALYSIS;
  Outcome take_end(ErlNifEnv* env, std::uint32_t index, Lock<Mutex>& lock) noexcept
      TYPHON_REQUIRES(mutex_) TYPHON_NO_THREAD_SAFETY_ANALYSIS;
  bool start_polling() noexcept;
  void stop_polling(bool found) noexcept;
  void reap_dead_callers(bool is_reader) noexcept TYPHON_EXCLUDES(mutex_);

  // --- calls that are given up, and their slots (giving_up.cpp) ---
  void free_slot(ErlNifEnv* env, std::uint32_t index) noexcept TYPHON_REQUIRES(mutex_) {
    requests_.give_back(slots_.free(env, index));
  }
  bool take_back(ErlNifEnv* env, std::uint32_t index) noexcept TYPHON_REQUIRES(mutex_);
  ERL_NIF_TERM abandon(ErlNifEnv* env, std::uint32_t index) noexcept TYPHON_REQUIRES(mutex_);
  ERL_NIF_TERM forget(ErlNifEnv* env, std::uint32_t index, Unseen& unseen) noexcept TYPHON_REQUIRES(mutex_);
  [[nodiscard]] bool first_untaken(std::uint64_t id) noexcept TYPHON_REQUIRES(mutex_);
  [[nodiscard]] bool runs_something() const noexcept TYPHON_REQUIRES(mutex_);
  void drop(const Unseen& unseen) noexcept TYPHON_EXCLUDES(mutex_);
  void tell_abandoned(ErlNifEnv* caller_env, ERL_NIF_TERM what, std::uint64_t id) noexcept
      TYPHON_EXCLUDES(mutex_);

  // --- delivery, by the holder of the reader role (delivery.cpp, results.cpp) ---
  // At most one batch. With a looker: no further than to what came for it.
  Drained drain(ErlNifEnv* caller_env, Looker* looker = nullptr) noexcept;
  bool deliver(ErlNifEnv* caller_env, std::span<Delivery> replies, Looker* looker) noexcept;
  std::uint32_t assign(std::span<Delivery> replies, const Looker* looker) noexcept TYPHON_REQUIRES(mutex_);
  void drop_reply(ErlNifEnv* env, const channel::FrameHeader& header,
                  std::span<const std::uint8_t> body) noexcept;
  ERL_NIF_TERM reply_term(ErlNifEnv* env, const channel::FrameHeader& header,
                          std::span<const std::uint8_t> body) noexcept;
  ERL_NIF_TERM make_segment(ErlNifEnv* env, const channel::FrameHeader& header,
                            const channel::SegmentRef& ref, std::span<const std::uint8_t> body,
                            channel::FrameLoans loans, std::vector<std::uint8_t> own) noexcept;
  void drop_objects(ErlNifEnv* env, std::span<const std::uint8_t> body, channel::FrameLoans& loans) noexcept;
  // Takes the frame's loans off its body.
  channel::FrameLoans loans_of(const channel::FrameHeader& header,
                               std::span<const std::uint8_t>& body) const noexcept {
    return lends() ? channel::FrameLoans::of(header, body) : channel::FrameLoans();
  }
  bool deliver_ask(ErlNifEnv* caller_env, const channel::FrameHeader& header,
                   std::span<const std::uint8_t> body, Looker* looker) noexcept;
  // Both tell whether the ask has found its caller.
  bool ask_looker(ErlNifEnv* env, Slot& slot, ERL_NIF_TERM term, Looker& looker) noexcept
      TYPHON_REQUIRES(mutex_);
  bool ask_other(ErlNifEnv* caller_env, Slot& slot, Ask& ask) noexcept TYPHON_REQUIRES(mutex_);
  void ask_owner(ErlNifEnv* caller_env, const channel::FrameHeader& header, const Ask& ask, bool statement,
                 std::uint32_t weight) noexcept;
  ERL_NIF_TERM decode_segment(ErlNifEnv* caller_env, ErlNifEnv* env, SegmentHandle& segment) noexcept;
  Refusal copy(SegmentHandle& segment) noexcept;
  [[nodiscard]] std::string sentence(Refusal refusal, std::size_t size) const noexcept;
  void deliver_message(ErlNifEnv* caller_env, const channel::FrameHeader& header,
                       std::span<const std::uint8_t> body) noexcept;
  void count_sent(ErlNifEnv* caller_env, const ErlNifPid& to, std::uint32_t weight) noexcept;
  bool owes(ErlNifEnv* caller_env, Quota::Of of, std::uint32_t weight) noexcept;
  void flooded(ErlNifEnv* caller_env) noexcept;
  ERL_NIF_TERM ask_term(ErlNifEnv* env, const channel::FrameHeader& header,
                        std::span<const std::uint8_t> body) noexcept;
  void handle_ready(ErlNifEnv* caller_env, std::span<const std::uint8_t> body) noexcept;
  [[nodiscard]] std::uint64_t replies_pending() const noexcept;
  bool try_take_role(std::uint32_t& found) noexcept { return role_.try_take(found); }
  void leave_role(std::uint32_t found) noexcept;
  void wake_worker_for_room() noexcept;
  void tell_heard(std::uint32_t count) noexcept;

  // --- the reader thread (reader.cpp, looking.cpp) ---
  static void* reader_main(void* self) noexcept;
  void reader_loop() noexcept;
  bool wait_for_role(int& timed_rounds) noexcept;
  void drain_what_is_left() noexcept;
  std::uint32_t state_to_rest_in(bool stop, int timed_rounds) noexcept;
  bool may_sleep() noexcept;
  void look_after_sleep() noexcept;
  void look_after_callers(std::uint32_t state, int& timed_rounds) noexcept;
  void ring_worker_for_others() noexcept;
  std::optional<std::uint64_t> idle_pages_since() noexcept TYPHON_EXCLUDES(mutex_);
  void idle_trim() noexcept TYPHON_EXCLUDES(mutex_);
  void wake_reader() noexcept;
  channel::LeftBehind requests_left_behind() noexcept;
  channel::LeftBehind replies_left_behind() noexcept;

  // --- the owner, room, and the end (worker_channel.cpp) ---
  void fail_broken(ErlNifEnv* caller_env, const char* what) noexcept;
  void fail(ErlNifEnv* caller_env, ERL_NIF_TERM reason, const char* what) noexcept;
  void send_owner(ErlNifEnv* caller_env, ErlNifEnv* env, ERL_NIF_TERM event) noexcept;
  void tell_served(ErlNifEnv* caller_env) noexcept;
  bool count_served(std::uint64_t count) noexcept TYPHON_REQUIRES(mutex_);
  void note_answers(std::uint64_t now) noexcept;
  bool push_all_releases() noexcept TYPHON_REQUIRES(mutex_);
  void wait_for_room(const ErlNifPid& caller, ERL_NIF_TERM ref, bool movable) noexcept
      TYPHON_REQUIRES(mutex_);
  void service_room(ErlNifEnv* caller_env) noexcept TYPHON_EXCLUDES(mutex_);
  ERL_NIF_TERM ring_term(ErlNifEnv* env) const noexcept TYPHON_REQUIRES(mutex_);
  [[nodiscard]] bool busy() const noexcept;  // a call is in flight, or a cast has not ended
  void set_closed(ERL_NIF_TERM reason) noexcept TYPHON_REQUIRES(mutex_);
  void finish_close(ErlNifEnv* env) noexcept;
  void fail_calls_in_flight() noexcept TYPHON_EXCLUDES(mutex_);
  void fail_slot(std::uint32_t index, std::vector<Failed>& failed, std::vector<Unseen>& unseen) noexcept
      TYPHON_REQUIRES(mutex_);
  void watch_poller(std::uint32_t index, std::vector<Unseen>& unseen) noexcept TYPHON_REQUIRES(mutex_);
  ERL_NIF_TERM down_term(ErlNifEnv* env) const noexcept TYPHON_REQUIRES(mutex_);
  ERL_NIF_TERM not_started_term(ErlNifEnv* env, std::uint64_t deadline, std::uint64_t now) const noexcept;

  // What calls on it have come to; hints, but for in_flight and casts_sent, which are written under mutex_.
  struct Load {
    std::atomic<std::uint32_t> in_flight{0};
    std::atomic<std::uint64_t> casts_sent{0};
    std::atomic<std::uint64_t> busy_since_ns{0};  // since it has something to do, or has answered last
    std::atomic<std::uint32_t> moved_away{0};     // calls, since the last one was answered
    std::atomic<std::uint64_t> moved_in_all{0};
    std::atomic<std::uint32_t> holds{0};
    std::atomic<bool> room_wanted{false};   // somebody, or a release, waits for room
    std::atomic<std::uint64_t> replies{0};  // frames, ever; written by the holder of role_
    std::atomic<std::uint64_t> wakes{0};    // of the worker, ever
  };
  struct Life {
    std::atomic<bool> closed{false};
    std::atomic<bool> settled{false};
    std::atomic<bool> stopping{false};  // the reader ends without closing (upgrade)
    std::atomic<bool> broken{false};    // the reply ring holds garbage: it is not read any more
  };
  struct Pollers {
    std::atomic<std::uint32_t> count{0};    // slots that poll
    std::atomic<bool> retired{false};       // callers do not find the channel by its place
    std::atomic<bool> reader_looks{false};  // the reader waits with a limit, and looks after those who poll
  };
  // What was answered since it was opened, and when the owner wants to know (0: it does not).
  struct Served {
    std::uint64_t count = 0;
    std::uint64_t notify_at = 0;
  };
  // Where the ring was when a call was given up that the worker had not taken, and which call that was.
  struct Untaken {
    std::uint64_t at = 0;
    std::uint64_t id = 0;
  };
  struct Closing {
    OwnedEnv env;
    ERL_NIF_TERM reason = 0;
  };
  // Of the holder of role_: the reply ring, and what was taken out of it.
  struct ReplySide {
    channel::RingConsumer ring;
    OwnedEnv env = {};  // for what nobody keeps
    bool greeted = false;
    // What was sent to processes since the owner was last told of it, and one of them, drawn by lot.
    std::uint32_t sent = 0;
    std::uint32_t sent_weight = 0;
    std::uint64_t draw = os::monotonic_ns() | 1;
    ErlNifPid drawn = {};
  };
  // The reader thread's own: what it has seen, and since when.
  struct Reader {
    ErlNifTid thread{};
    std::uint64_t head = 0;  // reply_head
    std::uint64_t head_ns = 0;
    std::uint64_t taken = 0;  // request_head, and for how many rounds
    int untaken_rounds = 0;
    std::uint64_t reap_at_ns = 0;
    std::optional<std::uint64_t> idle_pages;  // idle_pages_since()
    std::uint64_t idle_pages_ns = 0;
  };
  // Memory that terms of the BEAM lie in, or Python's arguments. Any thread.
  struct Shared {
    channel::ArenaPeer replies;
    std::shared_ptr<channel::ResultAccount> account = std::make_shared<channel::ResultAccount>();
    channel::Tally lent = {};
    channel::Tally borrowed = {};
    channel::Tally pinned = {};
  };

  State& state_;
  const std::uint64_t serial_;
  const ErlNifPid owner_;
  const ChannelOptions options_;
  const std::unique_ptr<channel::Region> region_;
  const channel::Claims claims_;
  ErlNifMonitor owner_monitor_{};
  OwnProcess process_;  // any thread, as all that follows up to mutex_
  Quota quota_;
  Patience patience_;
  channel::ReaderRole role_;
  Shared shared_;
  Load load_;
  Life life_;
  Pollers pollers_;

  mutable Mutex mutex_;
  channel::RequestSide requests_ TYPHON_GUARDED_BY(mutex_);
  Slots slots_ TYPHON_GUARDED_BY(mutex_);
  RoomQueue room_ TYPHON_GUARDED_BY(mutex_);
  Served served_ TYPHON_GUARDED_BY(mutex_);
  Untaken untaken_ TYPHON_GUARDED_BY(mutex_);
  Closing closing_ TYPHON_GUARDED_BY(mutex_);
  bool reserved_ TYPHON_GUARDED_BY(mutex_) = false;

  ReplySide replies_;  // of the holder of role_
  Reader reader_;
};

// {:timed, reply, {queue, decode, run, encode, transfer}}, in nanoseconds.
ERL_NIF_TERM timed_term(ErlNifEnv* env, const Atoms& atoms, ERL_NIF_TERM reply,
                        const std::uint64_t (&times)[5]) noexcept;

// {Count, Bytes}
ERL_NIF_TERM tally_term(ErlNifEnv* env, const channel::Tally& tally) noexcept;

}  // namespace typhon::beam
