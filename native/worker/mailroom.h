// Mailroom: the worker's end of the request ring, and what was taken out of it and has not been dealt with.
//
// Who reads the ring. A worker that runs one call at a time reads it on the main thread (*direct*): a call is
// served straight from there. As soon as a second thread of the language takes part (concurrency, an event
// loop, a thread of the user's that asks the BEAM something), a native thread may read it instead (*routed*),
// for good: the Router. A thread that has nothing to do, while no other one runs the language, reads it in
// the router's stead for as long as it spins (spin()): a call that comes then changes no threads. Where a
// lock of the language is held by whoever reads, each thread that waits may read (Ruby): then there is no
// router.
//
// Where a frame goes. An answer to the thread that asked; a call that was made in the course of an ask (its
// header says of which) to the thread that waits for that answer, which runs it on top of its own: so calls
// can nest without a second thread; a message to the mailbox; a call of a function that is known to be a
// coroutine function to the event loop; all else to whoever takes the next call.
//
// Threads: route() and the take_… functions from any; peek() and pop() from the thread that reads the ring
// directly, pump() from it, or from any once it is routed. No mutex here is held while code of the language
// runs or its lock is waited for. Order of the mutexes: reading_, mutex_ or that of Cancels, that of
// LoopMail.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/mutex.h"
#include "base/thread_annotations.h"
#include "channel/claim.h"
#include "channel/doorbell.h"
#include "channel/loan.h"
#include "channel/region.h"
#include "channel/ring.h"
#include "worker/cancels.h"
#include "worker/incoming.h"
#include "worker/lane.h"
#include "worker/loop_mail.h"
#include "worker/router.h"

namespace typhon::worker {

// How long a thread that waits sleeps at most before it looks whether the worker ends.
inline constexpr std::int64_t kLookAroundNs = 1'000'000'000;

class Mailroom {
 public:
  enum class Peeked : std::uint8_t { kNothing, kFrame, kBroken };

  explicit Mailroom(channel::Region& region) noexcept;
  Mailroom(const Mailroom&) = delete;
  Mailroom& operator=(const Mailroom&) = delete;
  ~Mailroom() = default;

  [[nodiscard]] Cancels& cancels() noexcept { return cancels_; }
  [[nodiscard]] LoopMail& loop() noexcept { return loop_; }
  [[nodiscard]] Router& router() noexcept { return router_; }
  [[nodiscard]] bool routed() const noexcept { return router_.is_on(); }

  // --- the ring; the thread that reads it directly ---
  // As the other side counts, so from any thread: the main one looks when it is about to sleep without a
  // lock, and the router may read by then.
  [[nodiscard]] bool ring_empty() const noexcept {
    return header_.request_tail.value.load(std::memory_order_acquire) ==
           header_.request_head.value.load(std::memory_order_acquire);
  }
  Peeked peek(channel::FrameHeader& header, std::span<const std::uint8_t>& body) noexcept;
  void pop() noexcept;
  // Whether a call may begin. False: the BEAM has taken it back, and nobody waits for an answer.
  [[nodiscard]] bool claim(const channel::FrameHeader& header) const noexcept {
    return header.kind != channel::Kind::kCall || claims_.take(header.id);
  }
  // Takes a frame's loans off its body.
  channel::FrameLoans loans_of(const channel::FrameHeader& header,
                               std::span<const std::uint8_t>& body) const noexcept {
    return lends_ ? channel::FrameLoans::of(header, body) : channel::FrameLoans();
  }
  // For the time of a spin, unless that is pointless now. True when something has come.
  bool spin_for_frame() noexcept;
  // Takes out all frames that are there. False when the ring holds garbage.
  bool pump() noexcept TYPHON_EXCLUDES(reading_, mutex_);
  [[nodiscard]] bool broken() const noexcept { return broken_.load(std::memory_order_relaxed); }

  // --- what has been taken out ---
  void route(const channel::FrameHeader& header, std::span<const std::uint8_t> body) noexcept
      TYPHON_EXCLUDES(mutex_);
  enum class Take : std::uint8_t { kAny, kNested };
  // kNested: only one that was made in order to answer what Python asked.
  std::optional<Incoming> take_call(Take which = Take::kAny) noexcept TYPHON_EXCLUDES(mutex_);
  [[nodiscard]] bool has_calls() const noexcept {
    return waiting_calls_.load(std::memory_order_relaxed) != 0;
  }
  // The first that is made for one of these questions.
  std::optional<Incoming> take_call_of(const std::unordered_set<std::uint64_t>& tags) noexcept
      TYPHON_EXCLUDES(mutex_);
  std::optional<Incoming> take_message() noexcept TYPHON_EXCLUDES(mutex_);
  [[nodiscard]] bool has_messages() noexcept TYPHON_EXCLUDES(mutex_);
  // Messages are work for a lane, from now on or no longer.
  void set_handler(bool handles) noexcept TYPHON_EXCLUDES(mutex_);

  // --- threads ---
  void add_lane(Lane& lane) noexcept { cancels_.add_lane(lane); }
  void remove_lane(Lane& lane) noexcept TYPHON_EXCLUDES(mutex_);
  // A lane without work is unparked when a call comes.
  void set_idle(Lane& lane, bool idle) noexcept TYPHON_EXCLUDES(mutex_);
  // A thread that waits for a message is unparked when one comes.
  void set_receiving(Lane& lane, bool receiving) noexcept TYPHON_EXCLUDES(mutex_);
  void add_waiter(std::uint64_t tag, Waiter& waiter) noexcept TYPHON_EXCLUDES(mutex_);
  void remove_waiter(std::uint64_t tag) noexcept TYPHON_EXCLUDES(mutex_);
  std::optional<Incoming> take_nested(Waiter& waiter) noexcept TYPHON_EXCLUDES(mutex_);
  std::optional<Incoming> take_answer(Waiter& waiter) noexcept TYPHON_EXCLUDES(mutex_);
  // Routed, with the language's lock, for a thread that would park: reads the ring for so long. True when
  // something came. `takes_calls`: it is idle, and looks for the next call when it returns.
  bool spin(const Lane& lane, bool takes_calls) noexcept TYPHON_EXCLUDES(mutex_);

  // --- the end ---
  // Everybody who waits looks again: the worker ends.
  void wake_all() noexcept;
  // The worker has ended, on all its threads: gives back the loans of all that was not dealt with.
  void leave() noexcept TYPHON_EXCLUDES(mutex_);

 private:
  // The frame is moved from.
  void put_answer(Incoming& frame) noexcept TYPHON_REQUIRES(mutex_);
  void put_message(Incoming& frame) noexcept TYPHON_REQUIRES(mutex_);
  void put_call(Incoming& frame) noexcept TYPHON_REQUIRES(mutex_);
  void enqueue(Incoming&& frame) noexcept TYPHON_REQUIRES(mutex_);
  void drop_withdrawn() noexcept TYPHON_REQUIRES(mutex_);
  void unpark_idle() noexcept TYPHON_REQUIRES(mutex_);
  bool start_spinning(const Lane& lane, bool takes_calls) noexcept TYPHON_EXCLUDES(mutex_);

  channel::Region& region_;
  channel::Header& header_;
  const bool lends_;  // the BEAM is in this process
  const std::uint64_t spin_ns_;
  channel::SpinGuard spin_guard_;
  const channel::Claims claims_;
  // Of whoever reads: the one thread that does so directly, or one at a time under reading_.
  channel::RingConsumer requests_;
  Mutex reading_;

  Mutex mutex_;
  std::deque<Incoming> calls_ TYPHON_GUARDED_BY(mutex_);
  // So many of them: it is worth a look which ones nobody waits for any more.
  std::size_t drop_at_ TYPHON_GUARDED_BY(mutex_);
  std::deque<Incoming> messages_ TYPHON_GUARDED_BY(mutex_);
  std::vector<Lane*> idle_ TYPHON_GUARDED_BY(mutex_);
  std::vector<Lane*> receiving_ TYPHON_GUARDED_BY(mutex_);
  std::unordered_map<std::uint64_t, Waiter*> waiters_ TYPHON_GUARDED_BY(mutex_);
  bool handles_messages_ TYPHON_GUARDED_BY(mutex_) = false;
  bool spins_ TYPHON_GUARDED_BY(mutex_) = false;  // a lane reads the ring
  // It will look for the next call, which need not wake another.
  bool takes_next_ TYPHON_GUARDED_BY(mutex_) = false;

  std::atomic<std::size_t> waiting_calls_{0};
  std::atomic<bool> broken_{false};
  LoopMail loop_;
  Cancels cancels_;
  Router router_;
};

}  // namespace typhon::worker
