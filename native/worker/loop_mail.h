// LoopMail: what goes to the thread of an event loop, and which calls wait in it. That thread sleeps in a
// selector of its own: a file descriptor becomes readable when there is something for it.
//
// Whose functions are coroutine functions is found out as they are called; their later calls come here at
// once.
//
// Threads: any. Its mutex is taken last: with the one of the mailroom or of Cancels held.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <unordered_set>

#include "base/mutex.h"
#include "base/thread_annotations.h"
#include "channel/claim.h"
#include "os/descriptor.h"
#include "worker/incoming.h"

namespace typhon::worker {

class LoopMail {
 public:
  explicit LoopMail(channel::Claims claims) noexcept : claims_(claims) {}
  LoopMail(const LoopMail&) = delete;
  LoopMail& operator=(const LoopMail&) = delete;
  ~LoopMail() = default;

  // --- the loop ---
  // Its file descriptor, or -1 with errno set.
  int attach() noexcept TYPHON_EXCLUDES(mutex_);
  [[nodiscard]] bool is_attached() noexcept TYPHON_EXCLUDES(mutex_);
  // Before it looks what there is.
  void clear_signal() noexcept TYPHON_EXCLUDES(mutex_);
  void ring() noexcept TYPHON_EXCLUDES(mutex_);
  std::optional<Incoming> take_call() noexcept TYPHON_EXCLUDES(mutex_);
  std::optional<Incoming> take_answer() noexcept TYPHON_EXCLUDES(mutex_);
  // A call that it runs and that was given up.
  std::optional<std::uint64_t> take_cancel() noexcept TYPHON_EXCLUDES(mutex_);
  void set_listens(bool listens) noexcept TYPHON_EXCLUDES(mutex_);  // to messages
  void expect_answer(std::uint64_t tag) noexcept TYPHON_EXCLUDES(mutex_);
  void forget_answer(std::uint64_t tag) noexcept TYPHON_EXCLUDES(mutex_);
  // Whether calls of this function come here from now on. `body` begins with {Module, Function, …}.
  void note_coroutine(std::span<const std::uint8_t> body, bool is) noexcept TYPHON_EXCLUDES(mutex_);

  // --- for the mailroom ---
  // Whether the frame is for the loop; then it is moved from.
  bool offer_call(Incoming& frame) noexcept TYPHON_EXCLUDES(mutex_);
  bool offer_answer(Incoming& frame) noexcept TYPHON_EXCLUDES(mutex_);
  void message_came() noexcept TYPHON_EXCLUDES(mutex_);
  // It runs calls, or has something to do: a hint.
  [[nodiscard]] bool is_busy() const noexcept { return busy_.load(std::memory_order_relaxed); }
  void drop_all() noexcept TYPHON_EXCLUDES(mutex_);

  // --- for Cancels ---
  void add(std::uint64_t id) noexcept TYPHON_EXCLUDES(mutex_);
  void remove(std::uint64_t id) noexcept TYPHON_EXCLUDES(mutex_);
  // Whether it runs that call: the loop is told then.
  bool cancel(std::uint64_t id) noexcept TYPHON_EXCLUDES(mutex_);
  // Whether it has been told so, and has not looked.
  [[nodiscard]] bool has_cancel(std::uint64_t id) noexcept TYPHON_EXCLUDES(mutex_);
  // Its thread imports a module: all of its calls wait for that.
  void set_imports(bool imports) noexcept TYPHON_EXCLUDES(mutex_);

 private:
  void signal() noexcept TYPHON_REQUIRES(mutex_);
  void note_busy() noexcept TYPHON_REQUIRES(mutex_);

  const channel::Claims claims_;
  Mutex mutex_;
  std::unordered_set<std::uint64_t> running_ TYPHON_GUARDED_BY(mutex_);
  std::unordered_set<std::uint64_t> tags_ TYPHON_GUARDED_BY(mutex_);
  std::unordered_set<std::size_t> coroutines_ TYPHON_GUARDED_BY(mutex_);
  std::deque<Incoming> calls_ TYPHON_GUARDED_BY(mutex_);
  std::deque<Incoming> answers_ TYPHON_GUARDED_BY(mutex_);
  std::deque<std::uint64_t> cancels_ TYPHON_GUARDED_BY(mutex_);
  os::UniqueFd wake_up_ TYPHON_GUARDED_BY(mutex_);
  bool signalled_ TYPHON_GUARDED_BY(mutex_) = false;
  bool listens_ TYPHON_GUARDED_BY(mutex_) = false;
  bool imports_ TYPHON_GUARDED_BY(mutex_) = false;
  std::atomic<bool> busy_{false};
  std::atomic<bool> knows_coroutines_{false};
};

}  // namespace typhon::worker
