// Cancels: which calls each thread serves, which of them were given up, and which threads cannot be
// interrupted because they import a module.
//
// A call that was given up is in one of four places. On a lane: its thread is interrupted, once, when the
// call is the innermost one there and the thread imports nothing; those on top of it are given up with it. In
// the event loop: that is told. On its way to one of these: it is noted, and does not begin. Nowhere, because
// its reply crossed the news: the note stays until so many others have come.
//
// Threads that do not serve the call may wait in its name: the event loop's, one to which the loop has handed
// work. Each of them stands on its lane as the call would. It is woken and finds out by take(), and no
// exception is sent to it: what it waits for raises one.
//
// Threads: any; no code of the host language runs with the mutex held.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/mutex.h"
#include "base/thread_annotations.h"
#include "channel/claim.h"
#include "channel/imports.h"
#include "channel/region.h"
#include "worker/lane.h"
#include "worker/loop_mail.h"

namespace typhon::worker {

class Cancels {
 public:
  Cancels(channel::Region& region, LoopMail& loop) noexcept
      : claims_(region.claims()), loop_(loop), marks_(region.header()) {}
  Cancels(const Cancels&) = delete;
  Cancels& operator=(const Cancels&) = delete;
  ~Cancels() = default;

  // --- what runs ---
  void add_lane(Lane& lane) noexcept TYPHON_EXCLUDES(mutex_);
  void remove_lane(Lane& lane) noexcept TYPHON_EXCLUDES(mutex_);
  // False: it has been given up.
  bool begin(Lane& lane, std::uint64_t id) noexcept TYPHON_EXCLUDES(mutex_);
  Lane::State end(Lane& lane) noexcept TYPHON_EXCLUDES(mutex_);
  [[nodiscard]] std::uint64_t innermost(const Lane& lane) noexcept
      TYPHON_EXCLUDES(mutex_);  // 0: it serves none
  // The lane is about to wait in the name of that call. False: the lane itself serves it, and end_wait() must
  // not follow.
  bool begin_wait(Lane& lane, std::uint64_t id) noexcept TYPHON_EXCLUDES(mutex_);
  Lane::State end_wait(Lane& lane) noexcept TYPHON_EXCLUDES(mutex_) { return end(lane); }
  void enter_loop(std::uint64_t id) noexcept TYPHON_EXCLUDES(mutex_);
  void leave_loop(std::uint64_t id) noexcept;
  // From the lane's own thread, a hint: whether another one serves a call.
  [[nodiscard]] bool others_serve(const Lane& lane) const noexcept {
    return serving_.load(std::memory_order_relaxed) > (lane.calls_.empty() ? 0U : 1U);
  }
  void unpark_all() noexcept TYPHON_EXCLUDES(mutex_);

  // --- what is given up ---
  // A call that has been claimed. True: there is a thread that has to be interrupted for it.
  bool cancel(std::uint64_t id) noexcept TYPHON_EXCLUDES(mutex_);
  void cancel_all() noexcept TYPHON_EXCLUDES(mutex_);  // the worker ends: whatever runs is interrupted
  bool was_cancelled(std::uint64_t id) noexcept TYPHON_EXCLUDES(mutex_);  // before it began; once
  // Of a call that has neither ended nor been interrupted.
  bool has_any() noexcept TYPHON_EXCLUDES(mutex_);
  // Whether the innermost call of a lane is to be interrupted; once.
  bool take(Lane& lane) noexcept TYPHON_EXCLUDES(mutex_);
  // The same when its thread is in no section and imports no module: an interrupt would leave one behind that
  // is there by half, and of no use for the rest of the process.
  bool take_interrupt(Lane& lane) noexcept TYPHON_EXCLUDES(mutex_);
  // The next lane of which that is so; the main one only with `main`. It says that an exception is on its way
  // now. nullptr: there is none. Whoever asks sees to it that a lane is not removed meanwhile.
  Lane* begin_interrupt(bool main) noexcept TYPHON_EXCLUDES(mutex_);

  // --- sections ---
  // Between the two the lane's thread is not interrupted; they nest.
  void begin_section(Lane& lane) noexcept TYPHON_EXCLUDES(mutex_);
  void end_section(Lane& lane) noexcept TYPHON_EXCLUDES(mutex_);
  // The interrupt of its innermost call was taken back, and is to come again.
  void renew(Lane& lane) noexcept TYPHON_EXCLUDES(mutex_);

  // --- imports ---
  // A thread goes into the import of a module, and comes out of it. nullptr: the event loop's thread, whose
  // calls all wait for it.
  void begin_import(Lane* lane, std::string_view name) noexcept TYPHON_EXCLUDES(mutex_);
  void end_import(Lane* lane) noexcept TYPHON_EXCLUDES(mutex_);

 private:
  static bool is_cancelled(const Lane::Call& call) noexcept { return call.state == Lane::State::kCancelled; }
  static void mark(Lane::Call& call) noexcept;
  void push(Lane& lane, Lane::Call call) noexcept TYPHON_REQUIRES(mutex_);
  // Written with the mutex alone: no need of an atomic step.
  void count_serving(int more) noexcept TYPHON_REQUIRES(mutex_) {
    serving_.store(serving_.load(std::memory_order_relaxed) + static_cast<unsigned>(more),
                   std::memory_order_relaxed);
  }
  static bool needs_interrupt(const Lane& lane) noexcept;
  static bool wants_interrupt(const Lane& lane) noexcept;
  static bool interrupt_innermost(Lane& lane) noexcept;
  bool forget(std::uint64_t id) noexcept TYPHON_REQUIRES(mutex_);
  void note(std::uint64_t id) noexcept TYPHON_REQUIRES(mutex_);

  const channel::Claims claims_;
  LoopMail& loop_;
  Mutex mutex_;
  std::vector<Lane*> lanes_ TYPHON_GUARDED_BY(mutex_);
  std::unordered_set<std::uint64_t> noted_ TYPHON_GUARDED_BY(mutex_);  // given up before they began
  std::deque<std::uint64_t> order_ TYPHON_GUARDED_BY(mutex_);          // of those
  channel::Imports marks_ TYPHON_GUARDED_BY(mutex_);
  unsigned loop_imports_ TYPHON_GUARDED_BY(mutex_) = 0;
  int loop_mark_ TYPHON_GUARDED_BY(mutex_) = channel::Imports::kNone;
  std::atomic<std::size_t> noted_count_{0};
  std::atomic<unsigned> serving_{0};  // lanes with a call
};

}  // namespace typhon::worker
