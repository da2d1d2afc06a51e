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
// Calls in flight lie in slots; a request's id is the slot's index and its generation, so a late reply to a
// slot that was reused is recognised. A slot belongs to
//   kSpinning    the thread that spins for it; nobody else ends it
//   kPolling     its caller, who looks each time its turn on the scheduler comes
//   kParked      the same; the reply has come and lies in the slot
//   kFailed      the same; the channel was closed before it came
//   kWaiting     its reply goes to the caller as a message
//   kAbandoned   its caller gave up: its reply is dropped
//   kDelivering  the holder of the reader role is sending the reply right now
// While a call waits for a message its caller is monitored: when the caller ends, the call is abandoned.
//
// Python may ask the caller something before it answers (kAsk): that goes to it as a message, so one that
// spins or polls waits for messages from then on. What nobody waits for goes to the owner.
//
// Life. A resource of the BEAM, kept alive by its terms, by the pool, by segments and object handles that
// point into its region, and by the reader thread until the channel is closed. close() is called by the
// owner, by the owner's death (a process monitor), and at unload; the reader thread then drains what is
// there, fails the rest, and ends. Its thread id is left to the Registry to join, because the last reference
// may go away on that very thread.
//
// Threads. Any scheduler, normal or dirty, and the reader. Fields say what guards them.
//
// Where. worker_channel.cpp: opening, submitting, the owner, closing. slots.cpp: calls in flight, and those
// that are given up. moving.cpp: calls that another worker is to have. room.cpp: waiting for room.
// polling.cpp: callers that poll. delivery.cpp: what the holder of the reader role does. reader.cpp: the
// reader thread. results.cpp: what comes in segments.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "beam/handed.h"
#include "beam/nif.h"
#include "beam/own_process.h"
#include "beam/quota.h"
#include "channel/arena.h"
#include "channel/claim.h"
#include "channel/doorbell.h"
#include "channel/imports.h"
#include "channel/loan.h"
#include "channel/reader_role.h"
#include "channel/region.h"
#include "channel/result_memory.h"
#include "channel/ring.h"
#include "os/clock.h"

namespace typhon::beam {

class WorkerChannel;
struct PrivateBody;

// A reply body too large for the ring, held until decoded. It is copied first (take_in()): big binaries in
// the decoded term keep the copy. Where nothing is copied, inside the VM and with `results: :shared`, they
// keep the segment.
struct SegmentHandle {
  WorkerChannel* channel;  // kept
  channel::SegmentRef ref;
  std::span<const std::uint8_t> body;
  std::uint64_t times[5];
  bool is_error;
  bool timed;
  bool plain;        // the emulator's own decoder can build it
  bool has_objects;  // handles: each is to be made once, be it only to let go of it
  std::atomic<bool> decoded;
  std::atomic<bool> pinned;  // a decoded binary lies in it: it goes when the last such binary goes
  std::atomic<bool> released;
  channel::FrameLoans loans;  // until it has been decoded
  // A body that lay in the ring, and that this thread could not decode: `ref` means nothing then.
  std::vector<std::uint8_t> own;
  PrivateBody* copy = nullptr;  // kept: `body` lies in it, and the segment has been released
  bool taken_in = false;        // `body` may be read
  bool collected = false;       // its reader has collected garbage to make room for it

  // Nobody else can write to `body`.
  [[nodiscard]] bool is_private() const noexcept { return copy != nullptr || !own.empty(); }
};

// A Python object's life on this side: its destructor tells the worker that the last handle is gone.
struct ObjectHandle {
  WorkerChannel* channel;  // kept
  std::uint64_t id;
  std::atomic<bool> held;  // its worker is not to be replaced while it is needed: a stream is open
  bool disowned;           // the term that it was made for was given up, and is decoded again
};

struct ChannelOptions {
  channel::RegionOptions region;
  std::uint32_t spin_us = 20;
  bool create_atoms = false;
  bool embedded = false;           // the worker is a Python in this VM: large binaries go as loans
  bool shared = false;             // results are not copied: the worker can write to binaries that Elixir has
  std::size_t max_held = 0;        // bytes of results in use at most; 0: half of what all workers' may be
  std::shared_ptr<Handed> handed;  // nullptr: Python may call and reach what it likes
  unsigned text = 0;               // which atoms are written as text, of TermEncoder's bits
  bool raw = false;  // maps have no meaning, and no other worker can have a request in place of this one
};

// What one call of submit() came to.
struct Submitted {
  enum class Outcome : std::uint8_t {
    kReplied,    // `reply` holds the answer
    kPolling,    // the caller is to poll(id) when its next turn comes
    kWaiting,    // the answer comes as a message; `id`
    kAccepted,   // a cast lies in the ring
    kNoRoom,     // registered for {ref, :room}
    kDown,       // `reply` holds {:down, reason}
    kElsewhere,  // it is reserved, or not idle any more: pick again
  };
  Outcome outcome;
  std::uint64_t id = 0;
  ERL_NIF_TERM reply = 0;
};

// What a turn of a polling caller came to.
struct Polled {
  enum class Outcome : std::uint8_t {
    kReplied,     // `reply` holds the answer
    kAgain,       // nothing yet
    kWaiting,     // the answer comes as a message
    kNotStarted,  // the channel was closed before the worker took the request
  };
  Outcome outcome;
  ERL_NIF_TERM reply;
  std::uint64_t deadline;  // as in the request
};

// A request, encoded and ready to go: either `body` (copied into the ring) or `segment`.
struct Request {
  ErlNifEnv* env;
  ErlNifPid caller;
  ERL_NIF_TERM ref;
  channel::Kind kind;
  bool timings;
  bool named;              // the caller named this very channel
  bool was_idle;           // it was picked because it had nothing to do
  std::uint64_t parent;    // the worker's request that this one is made for, 0 for none
  std::uint64_t now;       // CLOCK_MONOTONIC ns
  std::uint64_t deadline;  // the same clock, 0 for none
  std::span<const std::uint8_t> body;
  std::optional<channel::Segment> segment;
  std::size_t segment_length;
  channel::Loan* loans = nullptr;  // of the body; the submitter's still when the request was not accepted
  std::size_t lent_bytes = 0;
  bool captures = false;  // its output goes to the caller
  std::uint64_t tag = 0;  // of the ask that a kAnswer answers
  bool failed = false;    // kAnswer: the body says what went wrong
  bool waits = false;     // kAnswer: its sender waits for what comes next
  bool movable =
      false;  // kCall: any worker of the pool may have it, and its caller makes it again when told so
  bool admitted = false;  // it was made before
};

class WorkerChannel {
 public:
  static constexpr std::size_t kMaxInline = std::size_t{16} * 1024;
  // Bytes of segments of requests in flight beyond which further large requests wait.
  static constexpr std::size_t kSegmentBudget = std::size_t{1} << 30;
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

  Submitted submit(const Request& request) noexcept;

  // A polling caller's turn. `ref` is for the message, should it stop polling.
  Polled poll(ErlNifEnv* env, std::uint64_t id, ERL_NIF_TERM ref) noexcept;
  // The channel has lost its place in the pool, so that callers will not find it by that. True when some
  // still poll: then it must be kept until polling() is 0.
  bool retire() noexcept {
    retired_.store(true, std::memory_order_seq_cst);
    return polling_.load(std::memory_order_seq_cst) != 0;
  }
  // It has a place again.
  void restore() noexcept { retired_.store(false, std::memory_order_seq_cst); }
  // Callers that poll, without those that were killed meanwhile.
  std::uint32_t polling(bool is_reader = false) noexcept;

  // From here on (or: no longer) only requests that name the channel are accepted. What was accepted before
  // stays; after the return nothing else can follow it.
  void reserve(bool reserved) noexcept;

  enum class Cancel : std::uint8_t { kCancelled, kDelivered };
  Cancel cancel(ErlNifEnv* env, std::uint64_t id) noexcept;

  // Idempotent. `reason` is copied.
  void close(ErlNifEnv* env, ERL_NIF_TERM reason) noexcept;
  // The same, unless there is a call in flight or a cast that the worker has not finished: then false. What
  // is submitted at the same moment either counts, or meets a closed channel and was not taken.
  bool close_if_idle(ErlNifEnv* env, ERL_NIF_TERM reason) noexcept;

  // Tells the owner once, by {typhon, channel, served}, when that many requests have been answered (or taken,
  // of casts) since the channel was opened. False when they have been already: then it is not told.
  bool notify_at(std::uint64_t count) noexcept;

  // Segments for requests that are being written. allocate() gives nothing when the budget or the arena is
  // used up.
  std::optional<channel::Segment> allocate_segment(std::size_t bytes) noexcept;
  bool grow_segment(channel::Segment& segment, std::size_t used, std::size_t bytes) noexcept;
  void shrink_segment(channel::Segment& segment, std::size_t used) noexcept;
  void discard_segment(const channel::Segment& segment) noexcept;
  [[nodiscard]] std::uint8_t* segment_data(const channel::Segment& segment) const noexcept {
    return request_arena_.data(segment);
  }
  // Whether a request that nobody waits for may lend so much: it counts like a segment until it is taken.
  bool may_lend(std::size_t bytes) noexcept;
  // Registers for {ref, :room}; false when there is nothing to wait for (no request in flight holds a
  // segment).
  bool wait_for_segments(const ErlNifPid& caller, ERL_NIF_TERM ref, bool movable) noexcept;
  void stop_waiting_for_room(ERL_NIF_TERM ref) noexcept;

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
  void done_with(SegmentHandle& segment) noexcept;
  [[nodiscard]] std::uint64_t max_result() const noexcept { return region_->max_result(); }
  [[nodiscard]] bool copies_results() const noexcept { return !lends_ && !shared_results_; }
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
    const std::uint64_t since = busy_since_ns_.load(std::memory_order_relaxed);
    return now > since && now - since > kStillNs;
  }

  void release_reply_segment(std::uint64_t slot) noexcept { reply_arena_.release(slot); }
  // Nobody will decode it.
  void forget_segment(SegmentHandle& segment) noexcept;
  // Its memory is not needed any more.
  void release_segment(SegmentHandle& segment) noexcept {
    if (!segment.released.exchange(true) && segment.own.empty()) release_reply_segment(segment.ref.slot);
  }
  void release_object(std::uint64_t id) noexcept;

  // A monitored process has ended: the owner, or a caller.
  void process_down(ErlNifEnv* env, const ErlNifMonitor& monitor) noexcept;
  ERL_NIF_TERM info(ErlNifEnv* env) noexcept;

  // Objects without which what is under way cannot go on: while there are some, close_if_idle() does not.
  void hold() noexcept { holds_.fetch_add(1, std::memory_order_relaxed); }
  void let_go() noexcept { holds_.fetch_sub(1, std::memory_order_relaxed); }

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
    const std::uint64_t sent = casts_sent_.load(std::memory_order_relaxed);
    const std::uint64_t done =
        sent == 0 ? 0 : std::min(sent, header.casts_done.value.load(std::memory_order_relaxed));
    const std::uint64_t all = calls + (sent - done);
    if (all == 0) return {};
    const std::uint64_t suspended = header.suspended.value.load(std::memory_order_relaxed);
    Occupied by;
    by.calls = static_cast<std::uint32_t>(calls - std::min(calls, suspended));
    by.weight = static_cast<std::uint32_t>(all - std::min(all, suspended));
    if (by.weight != 0) by.weight += moved_away_.load(std::memory_order_relaxed);
    return by;
  }
  [[nodiscard]] std::uint32_t in_flight() const noexcept {
    return in_flight_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] bool closed() const noexcept { return closed_.load(std::memory_order_relaxed); }
  // Closed, and every call that was in flight has been told: nobody needs to find it any more.
  [[nodiscard]] bool settled() const noexcept { return settled_.load(std::memory_order_acquire); }
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
  [[nodiscard]] bool create_atoms() const noexcept { return create_atoms_; }
  [[nodiscard]] AtomRoom& atom_room() noexcept { return state_.atom_room; }
  [[nodiscard]] bool raw() const noexcept { return raw_; }
  [[nodiscard]] unsigned text() const noexcept { return text_; }
  [[nodiscard]] bool lends() const noexcept { return lends_; }
  // Binaries that Python may read in place; Python's memory that binaries lie in.
  [[nodiscard]] channel::Tally& lent() noexcept { return lent_; }
  [[nodiscard]] channel::Tally& borrowed() noexcept { return borrowed_; }
  // Segments that binaries lie in.
  [[nodiscard]] channel::Tally& pinned() noexcept { return pinned_; }
  [[nodiscard]] const Atoms& atoms() const noexcept { return state_.atoms; }
  [[nodiscard]] State& state() const noexcept { return state_; }
  // The worker's process, once the owner has adopted it.
  [[nodiscard]] OwnProcess& process() noexcept { return process_; }
  // What Python may reach and call, with an allow list; else nullptr.
  [[nodiscard]] Handed* handed() const noexcept { return handed_.get(); }
  // So much of what the owner got has been dealt with.
  void dealt_with(Quota::Of of, std::uint32_t count) noexcept;
  // The caller of a call has dealt with something that it was asked or told.
  void ask_heard(std::uint64_t id) noexcept;
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
  // A kAsk on its way to a caller that polls: {:ask, tag, reply}, decoded. (Once only: a second decoding
  // would have the same segment and the same handles of objects, and the first would let go of them.)
  struct Ask {
    std::unique_ptr<OwnedEnv> env;
    ERL_NIF_TERM term;
  };
  struct Slot {
    enum class State : std::uint8_t {
      kFree,
      kSpinning,
      kPolling,
      kParked,
      kFailed,
      kWaiting,
      kAbandoned,
      kDelivering
    };
    State state = State::kFree;
    std::uint32_t generation = 1;
    std::uint32_t next_free = 0;
    std::optional<channel::Segment> segment;
    std::uint64_t deadline = 0;
    std::uint64_t submitted = 0;
    std::uint32_t polls = 0;
    bool started = false;  // kFailed: the worker had begun it
    bool movable = false;
    bool admitted = false;
    channel::FrameHeader parked{};
    std::vector<std::uint8_t> parked_body;
    std::vector<Ask> asks;      // kPolling, kParked: what came before the reply
    std::uint32_t unheard = 0;  // of what its caller was asked or told
    ErlNifPid caller{};
    ErlNifMonitor monitor{};
    bool monitored = false;
    ErlNifEnv* env = nullptr;  // holds `ref` while kWaiting
    ERL_NIF_TERM ref = 0;
  };
  // A cast's segment, or what it lends, until the worker's count of consumed bytes has passed the end of its
  // frame.
  struct CastSegment {
    std::uint64_t end;
    std::size_t bytes;
  };
  struct RoomWaiter {
    ErlNifPid caller;
    ErlNifEnv* env;
    ERL_NIF_TERM ref;
    bool movable;
  };
  // A reply on its way from the ring to its caller.
  struct Delivery {
    channel::FrameHeader header;
    std::span<const std::uint8_t> body;
    Slot* slot;  // nullptr: nobody knows of it any more
    std::uint64_t submitted;
    bool wanted;  // its caller waits for a message
    bool parked;  // its caller polls, and the reply lies in the slot
  };
  static constexpr std::size_t kDeliverAtOnce = 32;
  enum class Drained : std::uint8_t {
    kNothing,
    kSome,
    kMine,   // the reply is there
    kAsked,  // its caller was asked something: it waits for messages now
  };

  // Longer than that a call, or the gap between two answers, is not short.
  static constexpr std::uint64_t kStillNs = 1'000'000;
  static constexpr std::uint32_t kNoSlot = ~std::uint32_t{0};
  static constexpr std::uint32_t kMaxSlots = channel::kClaims;
  static constexpr int kDrainBatch = 256;
  // So many calls, or replies at once, are a crowd of callers: they do not spin but poll.
  static constexpr std::uint32_t kCrowd = 4;
  // The reader's wait while replies are expected: short enough that a put-off wake costs nothing one would
  // notice.
  static constexpr std::int64_t kTimedWaitNs = 100'000;
  // After so many of them without a reply the reader sleeps for good.
  static constexpr int kTimedRounds = 8;
  // How long it sleeps then. Nobody but the worker wakes it for a reply, and a worker may get that wrong.
  static constexpr std::int64_t kSleepNs = 1'000'000'000;
  // After so many timed waits in which the word said that somebody reads, and nobody did, the reader does.
  static constexpr int kAbandonedRounds = 50;

  static std::uint64_t make_id(std::uint32_t generation, std::uint32_t index) noexcept {
    return (std::uint64_t{generation} << 32) | index;
  }

  // --- callers hold mutex_ ---
  std::uint32_t take_slot() noexcept;
  void free_slot(ErlNifEnv* env, std::uint32_t index) noexcept;
  std::uint32_t find_slot(std::uint64_t id) const noexcept;
  void set_waiting(ErlNifEnv* env, Slot& slot, const ErlNifPid& caller, ERL_NIF_TERM ref) noexcept;
  bool take_back(ErlNifEnv* env, std::uint32_t index) noexcept;
  ERL_NIF_TERM abandon(ErlNifEnv* env, std::uint32_t index) noexcept;
  [[nodiscard]] bool first_untaken(std::uint64_t id) noexcept;
  [[nodiscard]] bool runs_something() const noexcept;
  static void send_ask(ErlNifEnv* caller_env, const ErlNifPid& to, ERL_NIF_TERM ref, const Ask& ask) noexcept;
  void add_room_waiter(const ErlNifPid& caller, ERL_NIF_TERM ref, bool movable) noexcept;
  bool push_request(const Request& request, std::uint64_t id) noexcept;
  bool push_releases() noexcept;
  bool push_all_releases() noexcept;
  void settle_casts() noexcept;
  ERL_NIF_TERM down_term(ErlNifEnv* env) const noexcept;
  ERL_NIF_TERM not_started_term(ErlNifEnv* env, std::uint64_t deadline, std::uint64_t now) const noexcept;
  [[nodiscard]] bool busy() const noexcept;  // a call is in flight, or a cast has not ended
  bool count_served(std::uint64_t count) noexcept;
  void note_answers(std::uint64_t now) noexcept {
    busy_since_ns_.store(now, std::memory_order_relaxed);
    if (moved_away_.load(std::memory_order_relaxed) != 0) moved_away_.store(0, std::memory_order_relaxed);
  }

  // --- callers hold the reader role ---
  Drained drain(ErlNifEnv* caller_env, std::uint64_t mine, ERL_NIF_TERM ref, ERL_NIF_TERM* reply,
                int limit) noexcept;
  bool deliver(ErlNifEnv* caller_env, std::span<Delivery> replies, std::uint64_t mine,
               ERL_NIF_TERM* reply) noexcept;
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
    return lends_ ? channel::FrameLoans::of(header, body) : channel::FrameLoans();
  }
  bool deliver_ask(ErlNifEnv* caller_env, const channel::FrameHeader& header,
                   std::span<const std::uint8_t> body, std::uint64_t mine, ERL_NIF_TERM ref) noexcept;
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
  void leave_role(std::uint32_t found) noexcept;

  bool try_take_role(std::uint32_t& found) noexcept { return role_.try_take(found); }
  bool start_polling() noexcept;
  void stop_polling(bool found) noexcept;
  bool may_sleep() noexcept;
  void reap_dead_callers(bool is_reader) noexcept;
  void ring_worker_for_others() noexcept;
  bool left_in_slot(std::uint64_t id) noexcept;
  Polled take_parked(ErlNifEnv* env, std::uint64_t id, ERL_NIF_TERM ref) noexcept;
  void look_after_callers(std::uint32_t state, int& timed_rounds) noexcept;
  bool ring_worker() noexcept;
  void wake_reader() noexcept;
  void wake_worker_for_room() noexcept;
  void tell_heard(std::uint32_t count) noexcept;
  void fail_broken(ErlNifEnv* caller_env, const char* what) noexcept;
  void fail(ErlNifEnv* caller_env, ERL_NIF_TERM reason, const char* what) noexcept;
  void send_owner(ErlNifEnv* caller_env, ErlNifEnv* env, ERL_NIF_TERM event) noexcept;
  void tell_served(ErlNifEnv* caller_env) noexcept;
  void finish_close(ErlNifEnv* env) noexcept;
  void tell_abandoned(ErlNifEnv* caller_env, ERL_NIF_TERM what, std::uint64_t id) noexcept;
  void service_room(ErlNifEnv* caller_env) noexcept;
  [[nodiscard]] std::uint64_t replies_pending() const noexcept;
  [[nodiscard]] std::uint64_t requests_pending() const noexcept;
  Submitted spin(const Request& request, std::uint32_t slot_index, std::uint64_t id, std::uint32_t found,
                 bool woke_worker) noexcept;
  template <class Came>
  bool watch_ring(bool woke_worker, Came came) noexcept;
  bool may_linger() noexcept;
  void linger(ErlNifEnv* env, std::uint32_t found, bool woke_worker) noexcept;

  static void* reader_main(void* self) noexcept;
  void reader_loop() noexcept;
  bool wait_for_role(int& timed_rounds) noexcept;
  void drain_what_is_left() noexcept;
  void look_after_sleep() noexcept;
  std::optional<std::uint64_t> idle_pages_since() noexcept;
  void idle_trim() noexcept;
  void fail_calls_in_flight() noexcept;
  channel::LeftBehind requests_left_behind() noexcept;
  channel::LeftBehind replies_left_behind() noexcept;

  State& state_;
  const std::uint64_t serial_;
  const ErlNifPid owner_;
  const std::uint64_t spin_ns_;
  const bool create_atoms_;
  const bool raw_;
  const unsigned text_;
  const bool lends_;
  const std::shared_ptr<Handed> handed_;
  const bool shared_results_;
  const std::shared_ptr<channel::ResultAccount> account_;
  channel::Tally lent_;
  channel::Tally borrowed_;
  channel::Tally pinned_;
  const std::unique_ptr<channel::Region> region_;
  const channel::Claims claims_;
  channel::ArenaPeer reply_arena_;
  ErlNifMonitor owner_monitor_{};

  mutable Mutex mutex_;
  // Guarded by mutex_:
  channel::RingProducer requests_;
  channel::ArenaOwner request_arena_;
  std::deque<Slot> slots_;
  std::uint32_t first_free_slot_ = kNoSlot;
  std::vector<RoomWaiter> room_waiters_;
  std::vector<std::uint64_t> pending_releases_;
  std::size_t segment_bytes_ = 0;  // of calls in flight and of casts not yet taken
  std::deque<CastSegment> cast_segments_;
  std::uint64_t segments_sent_ = 0;
  std::uint64_t served_ = 0;
  std::uint64_t notify_at_ = 0;  // 0: nobody wants to know
  OwnedEnv close_env_;
  ERL_NIF_TERM close_reason_ = 0;
  bool reserved_ = false;

  channel::SpinGuard spin_guard_;  // any thread
  channel::ReaderRole role_;       // any thread

  // Guarded by role_:
  channel::RingConsumer replies_;
  OwnedEnv message_env_;
  bool greeted_ = false;
  std::uint32_t sent_ = 0;         // messages since the owner was last told of some
  std::uint32_t sent_weight_ = 0;  // and what they weigh
  std::uint64_t draw_ = os::monotonic_ns() | 1;
  ErlNifPid drawn_{};

  std::atomic<std::uint32_t> in_flight_{0};
  std::atomic<std::uint64_t> casts_sent_{0};     // written under mutex_, as the next two
  std::atomic<std::uint64_t> busy_since_ns_{0};  // since it has something to do, or has answered last
  std::atomic<std::uint32_t> moved_away_{0};     // calls, since the last one was answered
  std::atomic<std::uint64_t> moved_in_all_{0};
  std::atomic<std::uint32_t> holds_{0};
  std::atomic<bool> closed_{false};
  std::atomic<bool> settled_{false};
  std::atomic<bool> stopping_{false};  // the reader ends without closing (upgrade)
  std::atomic<bool> broken_{false};    // the reply ring holds garbage: it is not read any more
  std::atomic<bool> room_wanted_{false};
  std::uint64_t untaken_at_ = 0;  // guarded by mutex_, as the next: where the ring was, and which call it was
  std::uint64_t untaken_id_ = 0;
  OwnProcess process_;
  Quota quota_;
  std::atomic<std::uint32_t> spin_misses_{0};
  std::atomic<std::uint32_t> linger_misses_{0};
  std::atomic<std::uint64_t> crowded_until_ns_{0};
  std::atomic<std::uint32_t> polling_{0};  // slots in kPolling, kParked and kFailed
  std::atomic<std::uint32_t> poll_misses_{0};
  std::atomic<bool> retired_{false};
  std::atomic<bool> reader_looks_{false};  // the reader waits with a limit, and looks after those who poll
  std::uint64_t head_seen_ = 0;            // of the reader thread: reply_head, and since when
  std::uint64_t head_seen_ns_ = 0;
  std::uint64_t taken_seen_ = 0;  // of the reader thread: request_head, and for how many rounds
  int untaken_rounds_ = 0;
  std::uint64_t reap_at_ns_ = 0;             // of the reader thread
  std::optional<std::uint64_t> idle_pages_;  // of the reader thread: idle_pages_since(), and since when
  std::uint64_t idle_pages_ns_ = 0;
  ErlNifTid reader_{};
};

// {:timed, reply, {queue, decode, run, encode, transfer}}, in nanoseconds.
ERL_NIF_TERM timed_term(ErlNifEnv* env, const Atoms& atoms, ERL_NIF_TERM reply,
                        const std::uint64_t (&times)[5]) noexcept;

// {Count, Bytes}
ERL_NIF_TERM tally_term(ErlNifEnv* env, const channel::Tally& tally) noexcept;

}  // namespace typhon::beam
