// Inbox: the worker's end of the request ring, and what was taken out of it and not yet been dealt with.
//
// Who reads the ring. A worker that runs one call at a time reads it on the main thread (*direct*): a call is
// served straight from there. As soon as a second thread of Python takes part (concurrency, an event loop, a
// thread of the user's that asks the BEAM something), a native thread reads it instead (*routed*), for good:
// start_router(). It never takes the GIL, so an answer reaches its thread whatever the others do. A thread
// that has nothing to do, while no other one runs Python, reads it in the router's stead for as long as it
// spins (spin()): a call that comes then changes no threads.
//
// Where a frame goes. An answer to the thread that asked; a call that was made in the course of an ask (its
// header says of which) to the thread that waits for that answer, which runs it on top of its own: so calls
// can nest without a second thread; a message to the mailbox; a call of a function that is known to be a
// coroutine function to the event loop; all else to whoever takes the next call.
//
// Threads: route(), cancel() and the take_… functions from any; peek() and pop() from the thread that reads
// the ring directly; pump() from any once it is routed.
// The mutex is never held while Python code runs or the GIL is waited for.
//
// That the reader changes is settled under the GIL: the thread that reads directly holds it from its look at
// routed() to pop(), and so does whoever starts the router. Without a GIL both hold direct().
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "channel/claim.h"
#include "channel/doorbell.h"
#include "channel/imports.h"
#include "channel/loan.h"
#include "channel/region.h"
#include "channel/ring.h"
#include "executor/parker.h"
#include "python/cpython.h"
#include "python/gil.h"
#include "worker/thread_end.h"

namespace typhon::executor {

// A frame taken out of the ring. Its loans go with it, wherever it is dropped.
struct Incoming {
  channel::FrameHeader header;
  std::vector<std::uint8_t> body;
  channel::FrameLoans loans = {};
};

// What a thread has to do with importlib.
struct Importing {
  unsigned depth = 0;  // modules import modules
  int mark = channel::Imports::kNone;
};

// A thread that serves calls, and those it is serving, innermost last.
struct Lane {
  struct Call {
    enum class State : std::uint8_t { kRuns, kCancelled, kInterrupted };
    std::uint64_t id;
    State state;  // once interrupted it is left in peace: it cleans up
  };
  Parker parker;
  unsigned long python_thread = 0;  // as in threading.get_ident()
  PyThreadState* state = nullptr;
  bool is_main = false;
  bool used = false;                     // it has served something since it gave memory back; its own thread
  std::atomic<bool> interrupted{false};  // an exception is on its way to it; set with the GIL
  // Guarded by the inbox's mutex:
  std::vector<Call> calls;
  Importing importing;

  // From the thread itself, with the GIL. It goes on at least until the lane is removed.
  void enter() noexcept {
    python_thread = PyThread_get_thread_ident();
    state = PyThreadState_Get();
  }
};

// A thread that waits for the answer to what it asked.
struct Waiter {
  Lane* lane;
  std::optional<Incoming> answer;
  std::deque<Incoming> nested;
};

class Inbox {
 public:
  enum class Peeked : std::uint8_t { kNothing, kFrame, kBroken };

  explicit Inbox(channel::Region& region) noexcept;
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;
  ~Inbox();

  // --- the ring; the thread that reads it directly ---
  // As the other side counts: the main thread looks without the GIL when it is about to sleep, and the router
  // may read by then.
  [[nodiscard]] bool ring_empty() const noexcept { return !ring_has_frames(); }
  [[nodiscard]] python::GilSubstitute& direct() noexcept { return direct_; }
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
  // The worker has ended, on all its threads: gives back the loans of all that was not dealt with.
  void leave() noexcept;
  // Takes out all frames that are there. False when the ring holds garbage.
  bool pump() noexcept;
  // Routed, with the GIL, for a thread that would park: reads the ring for so long. True when something came.
  // `takes_calls`: it is idle, and looks for the next call when it returns.
  bool spin(const Lane& lane, bool takes_calls, std::uint64_t spin_ns, channel::SpinGuard& guard) noexcept;

  // --- what has been taken out ---
  void route(const channel::FrameHeader& header, std::span<const std::uint8_t> body) noexcept;
  std::optional<Incoming> take_call() noexcept;
  [[nodiscard]] bool has_calls() noexcept;
  std::optional<Incoming> take_message() noexcept;

  // --- threads ---
  void add_lane(Lane& lane) noexcept;
  void remove_lane(Lane& lane) noexcept;
  // A lane without work is unparked when a call comes.
  void set_idle(Lane& lane, bool idle) noexcept;
  // A thread that waits for a message is unparked when one comes.
  void set_receiving(Lane& lane, bool receiving) noexcept;
  bool begin(Lane& lane, std::uint64_t id) noexcept;  // false: it has been cancelled
  Lane::Call::State end(Lane& lane) noexcept;
  void add_waiter(std::uint64_t tag, Waiter& waiter) noexcept;
  void remove_waiter(std::uint64_t tag) noexcept;
  std::optional<Incoming> take_nested(Waiter& waiter) noexcept;
  std::optional<Incoming> take_answer(Waiter& waiter) noexcept;

  // --- cancelling ---
  // From the LifeWatch, of a call that has been claimed. True: it runs on a thread that has to be
  // interrupted, by the main one if it is another. Else nowhere (yet), or in the event loop, which has been
  // told.
  bool cancel(std::uint64_t id) noexcept;
  void cancel_all() noexcept;             // the worker ends: whatever runs is interrupted
  bool take_cancel(Lane& lane) noexcept;  // of the innermost call, once
  // The same when its thread imports no module: an interrupt would leave one behind that is there by half,
  // and of no use for the rest of the process.
  bool take_interrupt(Lane& lane) noexcept;
  // Of a call that has neither ended nor been interrupted. One that is cancelled takes those on top of it
  // along.
  bool has_cancels() noexcept;
  bool was_cancelled(std::uint64_t id) noexcept;  // before it began
  // Threads that have to be interrupted and have not been, and import nothing; the main one only with `main`.
  // With the GIL.
#ifdef Py_GIL_DISABLED
  // By Python's names for them: the lane may be gone by the time that it is looked at.
  std::vector<unsigned long> to_interrupt(bool main) noexcept;
  // Notes that an exception is on its way to such a thread. nullptr: it is not wanted any more.
  Lane* begin_interrupt(unsigned long python_thread) noexcept;
#else
  std::vector<Lane*> to_interrupt(bool main) noexcept;
#endif
  [[nodiscard]] std::uint64_t innermost(Lane& lane) noexcept;  // 0: it serves none

  // --- imports ---
  // A thread goes into importlib for a module, and comes out of it. nullptr: the event loop's thread, whose
  // calls all wait for it.
  void begin_import(Lane* lane, std::string_view name) noexcept;
  void end_import(Lane* lane) noexcept;

  // --- the event loop ---
  // Its file descriptor becomes readable when one of the following has something.
  int attach_loop() noexcept;
  bool has_loop() noexcept;
  void expect_async_answer(std::uint64_t tag) noexcept;
  void forget_async_answer(std::uint64_t tag) noexcept;
  void loop_runs(std::uint64_t id, bool runs) noexcept;
  // Whether calls of this function go to the event loop from now on. `body` begins with {Module, Function,
  // …}.
  void note_coroutine(std::span<const std::uint8_t> body, bool is) noexcept;
  std::optional<Incoming> take_loop_call() noexcept;
  std::optional<Incoming> take_loop_answer() noexcept;
  std::optional<std::uint64_t> take_loop_cancel() noexcept;
  void set_loop_listens(bool listens) noexcept;  // to messages
  void clear_loop_signal() noexcept;
  void ring_loop() noexcept;
  void set_handler(bool handles) noexcept;  // messages are work for a lane

  // --- the router ---
  // Any thread. 0 or an errno. `main`: woken, as it must not read the ring any more.
  int start_router(const std::atomic<bool>& stop) noexcept;
  // When it has been told to stop. False: it runs still.
  [[nodiscard]] bool finish_router(std::int64_t limit_ns) noexcept;
  [[nodiscard]] bool routed() const noexcept { return routed_.load(std::memory_order_seq_cst); }
  // The main thread is about to sleep on the ring's doorbell (said under direct(), where it has looked at
  // routed()), or has slept. Whoever starts the router waits until it has: so it takes no lock, and not the
  // GIL, in between.
  void set_main_sleeps(bool sleeps) noexcept { main_sleeps_.store(sleeps, std::memory_order_seq_cst); }
  [[nodiscard]] bool broken() const noexcept { return broken_.load(std::memory_order_relaxed); }
  // Everybody who waits looks again: the worker ends.
  void wake_all() noexcept;

 private:
  static void* router_main(void* self) noexcept;
  void router_loop() noexcept;
  bool forget_cancelled(std::uint64_t id) noexcept;
  void enqueue(Incoming frame) noexcept;
  void drop_withdrawn() noexcept;
  void unpark_idle() noexcept;
  void signal_loop() noexcept;
  void set_imports(const Lane* lane, bool imports) const noexcept;
  [[nodiscard]] bool ring_has_frames() const noexcept;
  bool start_spinning(const Lane& lane, bool takes_calls) noexcept;

  channel::Region& region_;
  channel::Header& header_;
  python::GilSubstitute direct_;
  const bool lends_;    // the BEAM is in this process
  std::mutex reading_;  // taken before mutex_
  channel::RingConsumer requests_;
  const channel::Claims claims_;

  std::mutex mutex_;
  // Guarded by mutex_:
  std::deque<Incoming> calls_;
  std::size_t drop_at_;  // so many of them: it is worth a look which ones nobody waits for any more
  std::deque<Incoming> messages_;
  std::vector<Lane*> lanes_;
  std::vector<Lane*> idle_;
  std::vector<Lane*> receiving_;
  std::unordered_map<std::uint64_t, Waiter*> waiters_;
  std::unordered_set<std::uint64_t> cancelled_;
  std::deque<std::uint64_t> cancelled_order_;
  std::unordered_set<std::uint64_t> async_tags_;
  std::unordered_set<std::uint64_t> async_calls_;
  std::unordered_set<std::size_t> coroutines_;
  std::deque<Incoming> loop_calls_;
  std::deque<Incoming> loop_answers_;
  std::deque<std::uint64_t> loop_cancels_;
  bool loop_listens_ = false;
  bool handles_messages_ = false;
  bool loop_signalled_ = false;
  bool spins_ = false;       // a lane reads the ring
  bool takes_next_ = false;  // it will look for the next call, which need not wake another
  std::size_t serving_ = 0;  // lanes with a call
  channel::Imports imports_;
  Importing loop_importing_;
  int loop_fd_ = -1;

  const std::atomic<bool>* stop_ = nullptr;
  std::atomic<std::size_t> waiting_calls_{0};
  std::atomic<std::size_t> cancelled_count_{0};
  std::atomic<bool> routed_{false};
  std::atomic<bool> main_sleeps_{false};
  worker::ThreadEnd router_end_;
  std::atomic<bool> broken_{false};
};

}  // namespace typhon::executor
