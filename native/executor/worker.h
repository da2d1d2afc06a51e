// Worker: takes requests off its channel, runs them in Python, and sends what came of them.
//
// Overview. run() is called once by typhon._worker, on the main thread with the GIL, and returns when the
// BEAM lets go of the worker. While one call runs at a time the main thread does it all: take a request out
// of the ring, decode, call, encode, publish. While there is nothing to do it spins for some microseconds
// *with* the GIL (bounded by worker_spin_us, far below Python's own switch interval, so other Python threads
// do not notice), then lets go of it and sleeps on the doorbell. With more threads a router reads the ring
// and each thread (a Lane) takes calls from the Mailroom; a coroutine goes to the event loop's thread
// (typhon._aio).
//
// A call may ask the BEAM something (ask()) and waits for the answer; calls that are made in the course of it
// are run on top of it, by the thread that waits.
//
// Errors. What user code raises becomes a kError frame; no request is left without an answer. A channel that
// holds garbage ends the worker (exit code kChannelBroke): nothing on it can be trusted then.
//
// Threads: everything here with the GIL. The LifeWatch thread reaches the Worker through the Mailroom and a
// signal; in a sub-interpreter, to which no signal comes, by interrupt_now(). Without a GIL any thread that
// Python knows may be in here at any time: what they share is under shared_, which is held while no Python
// code can run, and each object that comes out of it is owned before it is let go of.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "channel/arena.h"
#include "channel/region.h"
#include "executor/idle_trim.h"
#include "executor/lane.h"
#include "executor/lender.h"
#include "executor/outbox.h"
#include "executor/pictures.h"
#include "os/descriptor.h"
#include "python/codec.h"
#include "python/gil.h"
#include "python/module_state.h"
#include "python/ref.h"
#include "python/types/object_table.h"
#include "worker/life_watch.h"
#include "worker/mailroom.h"
#include "worker/timings.h"

namespace typhon::executor {

class Worker;

// What the module object's state memory holds.
struct ExecutorSlot : python::ModuleSlot {
  Worker* worker;  // nullptr where no worker runs: typhon was imported elsewhere
  bool watches_imports;
  Lender* lender;  // nullptr where the BEAM is another process; else for good
};

struct WorkerSettings {
  unsigned concurrency = 1;
  unsigned erlport = 0;     // its terms are in the dialect of ErlPort
  unsigned capture = 1;     // what a call prints goes to its caller, also when the call does not say so
  unsigned surrogates = 0;  // python::Surrogates
  // Of the interrupts of the main thread. 0: a sub-interpreter's, whose main thread is interrupted as others
  // are.
  unsigned signal = static_cast<unsigned>(worker::default_cancel_signal());
};

class Worker final : private worker::Interruptible, private FreeListener {
 public:
  static constexpr int kChannelBroke = 99;

  // `lender`: nullptr where the BEAM is another process.
  Worker(python::ModuleState& codec, std::unique_ptr<channel::Region> region, os::UniqueFd control,
         int beam_pid, const WorkerSettings& settings, Lender* lender) noexcept;
  ~Worker() = default;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // In the BEAM itself, when run() has returned: waits for the threads, and lets go of Python's objects.
  // False when a thread may still use the worker. Otherwise let_go() may follow, the last thing that is done
  // with it: it frees the channel's memory, unless a view of that is held.
  bool wind_up() noexcept;
  // Threads of the user's that go on come no further than to this: those that had come before are waited for.
  [[nodiscard]] bool is_over() const noexcept { return over_.load(std::memory_order_seq_cst); }
  void let_go() noexcept;
  [[nodiscard]] python::EncodeOptions forms() const noexcept { return outbox_.forms(); }
  [[nodiscard]] unsigned cancel_signal() const noexcept { return settings_.signal; }

  // What its results lie in counts as memory. Before run().
  // The pool's max_result:, and what of it counts for a reply.
  [[nodiscard]] std::uint64_t max_result() const noexcept { return outbox_.max_result(); }
  [[nodiscard]] std::uint64_t reply_limit() const noexcept { return outbox_.limit(); }
  void limit_arena(bool (*allows)(std::size_t bytes) noexcept) noexcept { outbox_.limit_memory(allows); }

  // The exit code, or -1 with a Python exception set (it could not start).
  int run(PyObject* module, PyObject* greeting, PyObject* coroutine_type) noexcept;

  // The Python handler of the cancel signal: raises typhon.Cancelled when the main thread's call is meant,
  // and sees to it that other threads get theirs. Not in the midst of an import: the LifeWatch asks again.
  bool raise_if_cancelled() noexcept;
  // Of a thread that serves calls beside the main one.
  void serve_as_thread() noexcept;
  // time.sleep() of a thread that no signal reaches; a call that is cancelled ends it. 1 when the time is
  // over, 0 at once where a signal does come, -1 with an exception set.
  int nap(double seconds) noexcept;

  // --- what Python code may do: ask.cpp, mailbox.cpp, event_loop.cpp ---
  // `call` names a call whose caller is meant; kThisCall: the one that this thread serves.
  static constexpr std::uint64_t kThisCall = ~std::uint64_t{0};
  // A tuple (ok, value), or nullptr with an exception set: typhon.Cancelled when the call `waits_for`, whose
  // code asks this, is given up. `serves_all`: whatever comes meanwhile is run on top of this, not only what
  // is called in order to answer; up to a depth.
  PyObject* ask(PyObject* term, std::uint64_t call, std::uint64_t waits_for, bool serves_all) noexcept;
  bool tell(PyObject* term, std::uint64_t call) noexcept;
  bool send(PyObject* pid_and_message) noexcept;
  // The next message; nullptr with TimeoutError after `timeout_ns` (negative: no limit).
  PyObject* receive(std::int64_t timeout_ns, std::uint64_t waits_for) noexcept;
  void set_handler(PyObject* handler) noexcept;
  [[nodiscard]] std::uint64_t this_call() noexcept;
  // Whether the call that this thread serves belongs to an answer that `call` waits for, at any remove.
  [[nodiscard]] bool serves_for(std::uint64_t call) noexcept;
  // Serves one call that waits here and belongs to such an answer. False when there is none.
  bool serve_one_for(std::uint64_t call) noexcept;
  void set_invoke(PyObject* function) noexcept;
  void set_flush(PyObject* flush) noexcept { flush_ = python::PyRef::borrow(flush); }
  void need_flush(std::uint64_t call) noexcept {
    const python::SubstituteLock lock(shared_);
    unfinished_.insert(call);
  }
  // What this call prints goes to its caller.
  [[nodiscard]] bool captures(std::uint64_t call) noexcept {
    if (call == 0 || settings_.capture != 0) return call != 0;
    const python::SubstituteLock lock(shared_);
    return captured_.contains(call);
  }

  // --- imports.cpp ---
  // The thread goes into importlib. Whose it is: a lane's, the event loop's (nullptr), or of no interest
  // (nothing). What comes back is for end_import().
  std::optional<Lane*> begin_import(PyObject* name) noexcept;
  void end_import(Lane* lane) noexcept { mailroom_.cancels().end_import(lane); }
  // This thread is not interrupted from here to end_section(); they nest. nullptr: it never is.
  Lane* begin_section() noexcept;
  void end_section(Lane& lane) noexcept;

  // --- for the event loop ---
  void loop_enter() noexcept { loop_thread_.store(PyThread_get_thread_ident(), std::memory_order_relaxed); }
  int loop_attach() noexcept;  // a file descriptor, or -1 with an exception set
  // (calls: [(token, coroutine, id)], answers: [(tag, ok, value)], cancelled ids: [id])
  PyObject* loop_take() noexcept;
  void loop_listen(bool listens) noexcept { mailroom_.loop().set_listens(listens); }
  // The answer comes in loop_take(). 0 with an exception set, or without one when as much has been asked in
  // nobody's name as may be.
  std::uint64_t loop_ask(PyObject* term, std::uint64_t call) noexcept;
  void loop_forget(std::uint64_t tag) noexcept;
  void loop_done(std::uint64_t token, PyObject* value) noexcept;
  void loop_failed(std::uint64_t token, PyObject* exception) noexcept;
  // It came to its end because the BEAM gave it up.
  void loop_cancelled(std::uint64_t token) noexcept;
  // A message that is there, or nullptr without an exception.
  PyObject* message_now() noexcept;

 private:
  enum class Wait : std::uint8_t { kRequest, kStop, kInterrupted, kRouted };

  // A call that waits in the event loop.
  struct AsyncCall {
    channel::FrameHeader header;
    worker::Timings timings;
    python::PyRef module;
    python::PyRef function;
  };
  // A request in the making of its reply.
  struct Served {
    const channel::FrameHeader& header;
    worker::Timings timings = worker::Timings(header);
    python::PyRef module = {};  // for an error's text
    python::PyRef function = {};
    python::PyRef request = {};
  };

  bool interrupt(std::uint64_t id) noexcept override;
  void interrupt_all() noexcept override { mailroom_.cancels().cancel_all(); }
  bool alarm() noexcept override;
  bool interrupt_again() noexcept override { return mailroom_.cancels().has_any(); }
  void interrupt_now() noexcept override;
  void interrupt_lanes() noexcept;

  Wait wait_for_request() noexcept;
  bool sleep_on_doorbell() noexcept;
  void note_used() noexcept;
  void freed() noexcept override { note_used(); }
  std::int64_t rest_limit() noexcept;
  void trim_when_due() noexcept;
  bool serve_from_ring() noexcept;
  int serve_as_lane(Lane& lane) noexcept;
  bool start_router() noexcept;
  bool start_threads() const noexcept;
  [[nodiscard]] bool ends() const noexcept { return life_.let_go(); }

  // serve.cpp
  void serve(Lane& lane, const channel::FrameHeader& header, std::span<const std::uint8_t> body,
             channel::FrameLoans& loans) noexcept;
  void serve_call(Lane& lane, const channel::FrameHeader& header, std::span<const std::uint8_t> body,
                  channel::FrameLoans& loans) noexcept;
  bool is_given_up(const channel::FrameHeader& header) noexcept;
  Lane::State finish_call(Lane& lane) noexcept;
  void refuse(const channel::FrameHeader& header, std::span<const std::uint8_t> body) noexcept;
  void release_unread(std::span<const std::uint8_t> body) noexcept;
  void release_objects(std::span<const std::uint8_t> body) noexcept;
  void handle_message() noexcept;
  // Lets go of the loans, whatever comes of it.
  python::PyRef decode(const channel::FrameHeader& header, std::span<const std::uint8_t> body,
                       channel::FrameLoans& loans, python::DecodeOptions options) noexcept;
  python::PyRef decode_request(const channel::FrameHeader& header, std::span<const std::uint8_t> body,
                               channel::FrameLoans& loans) noexcept;
  bool reply(Served& call, PyObject* value) noexcept;
  // `given_up`: the BEAM wants no result; a typhon.Cancelled says just that then.
  void fail(Served& call, python::PyRef exception, bool given_up = false) noexcept;
  void send_atom_error(const channel::FrameHeader& request, const char* name) noexcept;
  void report_cast(python::PyRef exception, python::PyRef target, python::PyRef function = {},
                   python::PyRef given = {}) noexcept;
  void cast_done() noexcept;
  // Room beyond Python's recursion limit, for what describes the exception of a call that ended there: calls
  // nest. From Python 3.12 on calls of C functions have a limit of their own that cannot be set: there it is
  // a thread state that has just been made, of which everything is counted anew. (Before, PyGILState_Ensure()
  // would not know of that one.) No exception may be set at either end.
  class RecursionRoom {
   public:
    explicit RecursionRoom(Worker& worker) noexcept;
    RecursionRoom(const RecursionRoom&) = delete;
    RecursionRoom& operator=(const RecursionRoom&) = delete;
    ~RecursionRoom();

   private:
    static constexpr int kFrames = 300;
    Worker& worker_;
    std::optional<python::GilRelease> away_;
    std::optional<python::AttachGuard> fresh_;
  };
  python::PyRef undescribed_term() noexcept;
  python::PyRef describe(PyObject* exception, PyObject* module, PyObject* function, PyObject* given) noexcept;
  void start_coroutine(Served& call, std::span<const std::uint8_t> body, python::PyRef coroutine) noexcept;
  std::uint64_t enter_loop(Served& call) noexcept;
  AsyncCall* find_in_loop(std::uint64_t token) noexcept;
  void leave_loop(std::uint64_t token) noexcept;
  [[nodiscard]] const python::Erlport* dialect() const noexcept {
    return settings_.erlport != 0 ? codec_.erlport.get() : nullptr;
  }

  // invoke.cpp
  static bool is_of_object(const channel::FrameHeader& header) noexcept {
    return (header.flags & channel::kOfObject) != 0;
  }
  // `of_object`: what stands in the module's place is an object, be it a str.
  python::PyRef invoke(PyObject* request, bool of_object) noexcept;
  python::PyRef operate(PyObject* target, PyObject* name, PyObject* args, PyObject* kwargs) noexcept;
  python::PyRef resolve(PyObject* target, PyObject* path, bool of_object) noexcept;
  python::PyRef not_looking(python::PyRef function) noexcept;
  python::PyRef look_up(PyObject* target, PyObject* path, bool of_object) noexcept;
  bool is_coroutine_of(const Served& call, PyObject* coroutine) noexcept;
  python::PyRef remembered(python::PyRef& place, const char* module_name, const char* name) noexcept;

  // ask.cpp, event_loop.cpp
  class Visit;
  Lane* this_lane() noexcept;
  void enter_lane(Lane& lane) noexcept;
  void leave_lane(Lane& lane) noexcept;
  bool has_threads() noexcept;
  std::uint64_t new_tag(std::uint64_t call) noexcept;
  std::uint64_t in_name_of(std::uint64_t call) noexcept;
  bool take_turn() noexcept;
  void end_turn() noexcept;
  void end_loop_turn(std::uint64_t tag) noexcept;
  bool wait_for_turn(Lane& lane) noexcept;
  bool make_way() noexcept;
  void set_captured(std::uint64_t call, bool captured) noexcept;
  bool take_unfinished(std::uint64_t call) noexcept;
  class MadeFor;
  void forget_question(std::uint64_t tag) noexcept;
  [[nodiscard]] bool belongs_to(std::uint64_t at, std::uint64_t call) const noexcept;
  bool send_ask(PyObject* term, std::uint64_t of, std::uint64_t tag, std::span<const std::string_view> parts,
                const char* root) noexcept;
  // With a value, an exception, or neither: it was given up.
  void end_in_loop(std::uint64_t token, PyObject* value, PyObject* exception) noexcept;
  bool raise_cancelled(Lane& lane) noexcept;
  bool take_back_interrupt(Lane& lane) noexcept;
  void tell_task(std::uint64_t call) noexcept;
  // Lets others run until something may have come for this thread. False with an exception set.
  bool wait_for_news(Lane& lane, std::int64_t limit_ns) noexcept;
  bool serve_other(Lane& lane, std::uint64_t& since) noexcept;
  bool wait_for_all_news(Lane& lane, std::uint64_t since) noexcept;
  python::PyRef decode_answer(worker::Incoming& answer) noexcept;

  python::ModuleState& codec_;
  PyInterpreterState* const interpreter_;
  Lender* const lender_;
  // Leaked on purpose: views of large arguments may outlive the worker's loop.
  channel::Region& region_;
  channel::Header& header_;
  channel::ArenaPeer request_arena_;
  // Held by the main thread from its look at routed() until it has taken a frame, and by whoever starts the
  // router.
  python::GilSubstitute direct_;
  worker::Mailroom mailroom_;
  worker::LifeWatch life_;
  Outbox outbox_;
  const WorkerSettings settings_;
  python::PyRef segment_buffer_type_;
  python::PyRef coroutine_type_;
  python::PyRef modules_;  // sys.modules
  // Sends what a call has printed and not yet ended with a line feed; set before the first call.
  python::PyRef flush_;
  std::atomic<bool> invokes_{false};             // invoke_ is there
  std::atomic<bool> over_{false};                // it is being wound up
  std::atomic<std::size_t> segment_buffers_{0};  // views of large arguments that are in use
  Lane main_;
  std::atomic<unsigned long> loop_thread_{0};
  bool interrupts_lanes_ = false;  // the main thread is in interrupt_lanes(), for a signal
  IdleTrim idle_;

  friend class Painting;
  // Held from the decision to interrupt another thread until the exception is on its way, and by that thread
  // while it ends its call or its lane. Taken before the mutex of Cancels.
  python::GilSubstitute interrupting_;
  Pictures pictures_{life_, interrupting_};

  python::GilSubstitute shared_;
  // Guarded by shared_:
  unsigned rooms_ = 0;  // of RecursionRoom
  int recursion_limit_ = 0;
  python::PyRef describe_function_;
  python::PyRef instead_function_;  // typhon._namespace.instead
  python::PyRef operations_;        // typhon._objects.OPERATIONS
  python::PyRef picture_function_;  // typhon._picture.picture
  python::PyRef submit_;            // typhon._aio.submit
  python::PyRef told_;              // typhon._aio.told
  python::PyRef handler_;           // of messages
  python::PyRef invoke_;            // of ErlPort's dialect: makes the calls in this one's stead; or empty
  std::unordered_map<std::uint64_t, AsyncCall> async_calls_;
  std::unordered_map<unsigned long, Lane*> threads_;  // by Python's name of the thread, beside the main one
  std::unordered_set<std::uint64_t> captured_;        // calls that say so
  std::uint64_t next_token_ = 1;
  std::uint64_t next_tag_ = 1;
  std::uint32_t open_questions_ = 0;                           // in nobody's name
  std::unordered_set<std::uint64_t> unnamed_tags_;             // those of them that the event loop has asked
  std::unordered_map<std::uint64_t, std::uint64_t> asked_by_;  // the tags of questions, and whose they are
  std::unordered_map<std::uint64_t, std::uint64_t> made_for_;  // calls, and the question that they belong to
  std::unordered_set<std::uint64_t> unfinished_;  // calls that have printed, perhaps without a line feed
};

// For the module's exec slot: adds run_worker, and the functions of exports.cpp. 0, or -1 with an
// exception set.
int add_worker(PyObject* module) noexcept;
int add_exports(PyObject* module) noexcept;
// From now on the worker of the module knows which of its threads import something. False with an exception
// set.
bool watch_imports(PyObject* module) noexcept;

// What is raised now, with its traceback; the error indicator is clear then.
python::PyRef current_exception() noexcept;

}  // namespace typhon::executor
