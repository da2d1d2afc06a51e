// What Python code may do beside answering: ask the BEAM, tell it, send messages, receive them; and the event
// loop's side of calls. The second half are the functions of typhon._native that typhon._beam and typhon._aio
// are made of.
#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "executor/leave_child.h"
#include "executor/worker.h"
#include "os/clock.h"
#include "os/heap.h"
#include "python/gil.h"
#include "worker/forked.h"

namespace typhon::executor {

using channel::FrameHeader;
using channel::Kind;
using os::monotonic_ns;
using python::PyRef;

namespace {

// How long a thread sleeps at most before it looks whether the worker ends.
constexpr std::int64_t kLookAroundNs = 1'000'000'000;
// A thread that may not ask yet looks so often whether others have been answered.
constexpr std::int64_t kTurnNs = 5'000'000;

// What the parts of questions and statements are called when one of them cannot cross.
constexpr std::array<std::string_view, 4> kCallParts{"call", "module", "function", "args"};
constexpr std::array<std::string_view, 3> kApplyParts{"call", "function", "args"};
constexpr std::array<std::string_view, 3> kSendParts{"send", "dest", "message"};
constexpr std::array<std::string_view, 2> kMessageParts{"dest", "message"};

std::span<const std::string_view> question_parts(PyObject* term) noexcept {
  if (PyTuple_Check(term) && PyTuple_Size(term) == 4) return kCallParts;
  if (PyTuple_Check(term) && PyTuple_Size(term) == 3) return kApplyParts;
  return {};
}

}  // namespace

// --- threads that wait ---

// The lane of this thread, nullptr when it serves no calls.
Lane* Worker::this_lane() noexcept {
  const unsigned long thread = PyThread_get_thread_ident();
  if (thread == main_.python_thread) return &main_;
  const python::SubstituteLock lock(shared_);
  const auto found = threads_.find(thread);
  return found == threads_.end() ? nullptr : found->second;
}

// This thread serves calls, or waits for the BEAM, by this lane.
void Worker::enter_lane(Lane& lane) noexcept {
  lane.enter();
  {
    const python::SubstituteLock lock(shared_);
    threads_[lane.python_thread] = &lane;
  }
  inbox_.add_lane(lane);
}

void Worker::leave_lane(Lane& lane) noexcept {
  {
    const python::SubstituteLock lock(interrupting_);
    inbox_.remove_lane(lane);
  }
  const python::SubstituteLock lock(shared_);
  threads_.erase(lane.python_thread);
}

bool Worker::has_threads() noexcept {
  const python::SubstituteLock lock(shared_);
  return !threads_.empty();
}

std::uint64_t Worker::new_tag() noexcept {
  const python::SubstituteLock lock(shared_);
  return next_tag_++;
}

void Worker::set_captured(std::uint64_t call, bool captured) noexcept {
  const python::SubstituteLock lock(shared_);
  if (captured) {
    captured_.insert(call);
  } else {
    captured_.erase(call);
  }
}

// Whether the call has printed, perhaps without a line feed; once.
bool Worker::take_unfinished(std::uint64_t call) noexcept {
  const python::SubstituteLock lock(shared_);
  return !unfinished_.empty() && unfinished_.erase(call) != 0;
}

// The lane of this thread while it waits; a thread of the user's, or the event loop's, has none of its own.
// Then the router reads: the main thread may be busy, so it cannot be left to read the answer.
class Worker::Visit {
 public:
  explicit Visit(Worker& worker) noexcept : worker_(worker), lane_(worker.this_lane()) {
    if (lane_ || !worker.start_router()) return;
    worker.enter_lane(visitor_);
    lane_ = &visitor_;
  }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;
  ~Visit() {
    if (lane_ == &visitor_) worker_.leave_lane(visitor_);
  }
  // nullptr, with an exception set: there is no thread for the router.
  [[nodiscard]] Lane* lane() const noexcept { return lane_; }

 private:
  Worker& worker_;
  Lane visitor_;
  Lane* lane_;
};

std::uint64_t Worker::this_call() noexcept {
  Lane* lane = this_lane();
  return lane ? inbox_.innermost(*lane) : 0;
}

bool Worker::raise_cancelled(Lane& lane) noexcept {
  {
    const python::SubstituteLock lock(interrupting_);
    if (lane.interrupted) {
      lane.interrupted = false;
      PyThreadState_SetAsyncExc(lane.python_thread, nullptr);
    }
  }
  PyErr_SetString(codec_.cancelled.get(), "the caller gave up on this call");
  return true;
}

bool Worker::wait_for_news(Lane& lane, std::int64_t limit_ns) noexcept {
  if (inbox_.take_cancel(lane) || lane.interrupted) return !raise_cancelled(lane);
  if (ends() || inbox_.broken() || outbox_.broken()) {
    PyErr_SetString(codec_.cancelled.get(), "the worker ends");
    return false;
  }
  if (lane.is_main && !inbox_.routed()) {
    if (inbox_.ring_empty()) {
      outbox_.ring_reader(false);
      if (!spin_for_request()) {
        if (limit_ns >= 0) {
          // The doorbell has no limit of its own: a router does.
          if (!start_router()) return false;
        } else if (!sleep_on_doorbell()) {
          return false;
        }
      }
    }
    if (!inbox_.routed()) inbox_.pump();
    return true;
  }
  if (inbox_.spin(lane, false, spin_ns_, spin_guard_)) return true;
  {
    const python::GilRelease without_gil;
    lane.parker.park(limit_ns < 0 ? kLookAroundNs : std::min(limit_ns, kLookAroundNs));
    // A job may be there for nothing but its messages, all its life.
    static_cast<void>(rest_limit());
    trim_when_due();
  }
  return !lane.is_main || PyErr_CheckSignals() == 0;
}

int Worker::nap(double seconds) noexcept {
  Lane* const lane = this_lane();
  if (!lane || (lane->is_main && settings_.signal != 0)) return 0;
  // A hundred years, where a double has more than there are nanoseconds.
  const auto whole = static_cast<std::uint64_t>(std::min(seconds, 3'153'600'000.0) * 1e9);
  const std::uint64_t limit = monotonic_ns() + whole;
  for (;;) {
    lane->parker.reset();
    if (lane->interrupted) return raise_cancelled(*lane) ? -1 : 0;
    const std::uint64_t now = monotonic_ns();
    if (now >= limit) return 1;
    const python::GilRelease without_gil;
    lane->parker.park(std::min(static_cast<std::int64_t>(limit - now), kLookAroundNs));
  }
}

// --- asking ---

// The id of the call in whose name this is asked; 0: nobody's. Callers of ErlPort's instances wait for their
// results alone.
std::uint64_t Worker::in_name_of(std::uint64_t call) noexcept {
  if (settings_.erlport != 0) return 0;
  return call == kThisCall ? this_call() : call;
}

bool Worker::take_turn() noexcept {
  const python::SubstituteLock lock(shared_);
  if (open_questions_ >= channel::kMostQuestions) return false;
  ++open_questions_;
  return true;
}

void Worker::end_turn() noexcept {
  const python::SubstituteLock lock(shared_);
  --open_questions_;
}

// What is asked in nobody's name is answered by a process for each: only so many at a time. False with an
// exception set.
bool Worker::wait_for_turn(Lane& lane) noexcept {
  for (;;) {
    if (take_turn()) return true;
    lane.parker.reset();
    if (!wait_for_news(lane, kTurnNs)) return false;
  }
}

// A thread that waits until it is heard does not read the ring, and what it waits for may be the room there.
bool Worker::make_way() noexcept {
  return worker::in_forked_child() || !outbox_.must_wait_to_speak() || start_router();
}

// With a tag it is a question, else a statement. False with an exception set.
bool Worker::send_ask(PyObject* term, std::uint64_t call, std::uint64_t tag,
                      std::span<const std::string_view> parts, const char* root) noexcept {
  FrameHeader header{};
  header.kind = Kind::kAsk;
  header.id = in_name_of(call);
  header.times[0] = tag;
  outbox_.set_more_to_come(false);
  return outbox_.send(codec_, header, term, root, nullptr, parts);
}

// The same for one that serves whatever comes.
bool Worker::wait_for_all_news(Lane& lane) noexcept {
  if (!inbox_.routed()) return inbox_.has_calls() || wait_for_news(lane, -1);
  inbox_.set_idle(lane, true);
  const bool waits = inbox_.has_calls() || wait_for_news(lane, -1);
  inbox_.set_idle(lane, false);
  return waits;
}

PyObject* Worker::ask(PyObject* term, std::uint64_t call, bool serves_all) noexcept {
  Visit visit(*this);
  Lane* lane = visit.lane();
  if (!lane) return nullptr;
  const bool unnamed = in_name_of(call) == 0;
  if (unnamed && !wait_for_turn(*lane)) return nullptr;
  const std::uint64_t tag = new_tag();
  Waiter waiter{lane, {}, {}};
  inbox_.add_waiter(tag, waiter);
  std::optional<Incoming> answer;
  bool waits = send_ask(term, call, tag, question_parts(term), "call");
  while (waits) {
    lane->parker.reset();
    if (auto nested = inbox_.take_nested(waiter)) {
      serve(*lane, nested->header, nested->body, nested->loans);
      continue;
    }
    answer = inbox_.take_answer(waiter);
    if (answer) break;
    if (serves_all) {
      if (auto other = inbox_.take_call()) {
        serve(*lane, other->header, other->body, other->loans);
        continue;
      }
    }
    waits = serves_all ? wait_for_all_news(*lane) : wait_for_news(*lane, -1);
  }
  inbox_.remove_waiter(tag);
  if (unnamed) end_turn();
  return answer ? decode_answer(*answer).release() : nullptr;
}

PyRef Worker::decode_answer(Incoming& answer) noexcept {
  python::DecodeOptions options;
  options.root = "answer";
  const PyRef value = decode(answer.header, answer.body, answer.loans, options);
  if (!value) return {};
  return PyRef::steal(
      PyTuple_Pack(2, (answer.header.flags & channel::kFailed) != 0 ? Py_False : Py_True, value.get()));
}

bool Worker::tell(PyObject* term, std::uint64_t call) noexcept {
  const bool sends = PyTuple_Check(term) && PyTuple_Size(term) == 3;
  return make_way() &&
         send_ask(term, call, 0,
                  sends ? std::span<const std::string_view>(kSendParts) : std::span<const std::string_view>(),
                  "message");
}

bool Worker::send(PyObject* pid_and_message) noexcept {
  FrameHeader header{};
  header.kind = Kind::kSend;
  outbox_.set_more_to_come(false);
  return make_way() && outbox_.send(codec_, header, pid_and_message, "message", nullptr, kMessageParts);
}

// --- messages ---

PyObject* Worker::message_now() noexcept {
  auto frame = inbox_.take_message();
  if (!frame) return nullptr;
  note_used();
  python::DecodeOptions options;
  options.root = "message";
  return decode(frame->header, frame->body, frame->loans, options).release();
}

PyObject* Worker::receive(std::int64_t timeout_ns) noexcept {
  const std::uint64_t begun = monotonic_ns();
  Visit visit(*this);
  Lane* lane = visit.lane();
  if (!lane) return nullptr;
  inbox_.set_receiving(*lane, true);
  PyObject* message = nullptr;
  for (;;) {
    lane->parker.reset();
    message = message_now();
    if (message || PyErr_Occurred()) break;
    std::int64_t left = -1;
    if (timeout_ns >= 0) {
      left = timeout_ns - static_cast<std::int64_t>(monotonic_ns() - begun);
      if (left <= 0) {
        // What lies in the ring has come, too.
        if (lane->is_main && !inbox_.routed() && !inbox_.ring_empty() && inbox_.pump()) continue;
        PyErr_SetString(PyExc_TimeoutError, "no message has come");
        break;
      }
    }
    if (!wait_for_news(*lane, left)) break;
  }
  inbox_.set_receiving(*lane, false);
  return message;
}

void Worker::set_handler(PyObject* handler) noexcept {
  PyRef changed = handler == Py_None ? PyRef() : PyRef::borrow(handler);
  const bool handles = static_cast<bool>(changed);
  {
    const python::SubstituteLock lock(shared_);
    std::swap(handler_, changed);
  }
  inbox_.set_handler(handles);
}

// --- the event loop ---

int Worker::loop_attach() noexcept {
  if (!start_router()) return -1;
  const int fd = inbox_.attach_loop();
  if (fd < 0) PyErr_SetFromErrno(PyExc_OSError);
  return fd;
}

PyObject* Worker::loop_take() noexcept {
  // Some at a time: the loop has other things to do, too. It is called again at once.
  constexpr int kAtOnce = 512;
  inbox_.clear_loop_signal();
  note_used();
  PyRef calls = PyRef::steal(PyList_New(0));
  PyRef answers = PyRef::steal(PyList_New(0));
  PyRef cancels = PyRef::steal(PyList_New(0));
  if (!calls || !answers || !cancels) return nullptr;
  const auto add = [](const PyRef& list, PyObject* item) {
    const PyRef owned = PyRef::steal(item);
    return owned && PyList_Append(list.get(), owned.get()) == 0;
  };
  using ULL = unsigned long long;
  int count = 0;
  while (count < kAtOnce) {
    auto frame = inbox_.take_loop_call();
    if (!frame) break;
    ++count;
    if (!inbox_.claim(frame->header)) continue;
    if (is_given_up(frame->header)) {
      refuse(frame->header, frame->body);
      continue;
    }
    Served call{frame->header};
    if (frame->header.times[3] != 0 && frame->header.id != 0) set_captured(frame->header.id, true);
    const bool timed = (frame->header.flags & channel::kTimings) != 0;
    const std::uint64_t picked = timed ? monotonic_ns() : 0;
    const PyRef request = decode_request(frame->header, frame->body, frame->loans);
    const std::uint64_t decoded = timed ? monotonic_ns() : 0;
    PyRef result = request ? invoke(request.get()) : PyRef();
    if (worker::in_forked_child()) leave_child(std::move(result));
    if (timed) {
      call.times[0] = picked - std::min(picked, frame->header.times[0]);
      call.times[1] = decoded - picked;
      call.times[4] = decoded;
    }
    if (request) {
      call.module = PyRef::borrow(PyTuple_GetItem(request.get(), 0));
      call.function = PyRef::borrow(PyTuple_GetItem(request.get(), 1));
    }
    if (result && reinterpret_cast<PyObject*>(Py_TYPE(result.get())) == coroutine_type_.get()) {
      const std::uint64_t token = enter_loop(call);
      if (!add(calls, Py_BuildValue("(KOK)", static_cast<ULL>(token), result.get(),
                                    static_cast<ULL>(frame->header.id)))) {
        loop_failed(token, current_exception().get());
      }
    } else {
      // It was one once; modules are reloaded, names bound anew. Not the next time.
      if (result) inbox_.note_coroutine(frame->body, false);
      if (!result || !reply(call, result.get())) fail(call, current_exception());
      set_captured(frame->header.id, false);
    }
  }
  if (count == kAtOnce) inbox_.ring_loop();
  while (auto answer = inbox_.take_loop_answer()) {
    end_loop_turn(answer->header.id);
    PyRef decoded = decode_answer(*answer);
    if (!decoded) {
      const PyRef exception = current_exception();
      decoded = PyRef::steal(PyTuple_Pack(2, Py_None, exception.get()));
    }
    if (!decoded ||
        !add(answers, Py_BuildValue("(KO)", static_cast<ULL>(answer->header.id), decoded.get()))) {
      return nullptr;
    }
  }
  while (const auto id = inbox_.take_loop_cancel()) {
    if (!add(cancels, PyLong_FromUnsignedLongLong(*id))) return nullptr;
  }
  return PyTuple_Pack(3, calls.get(), answers.get(), cancels.get());
}

std::uint64_t Worker::loop_ask(PyObject* term, std::uint64_t call) noexcept {
  if (loop_attach() < 0) return 0;
  const bool unnamed = in_name_of(call) == 0;
  if (unnamed && !take_turn()) return 0;
  const std::uint64_t tag = new_tag();
  if (unnamed) {
    const python::SubstituteLock lock(shared_);
    unnamed_tags_.insert(tag);
  }
  inbox_.expect_async_answer(tag);
  if (send_ask(term, call, tag, question_parts(term), "call")) return tag;
  inbox_.forget_async_answer(tag);
  end_loop_turn(tag);
  return 0;
}

void Worker::loop_forget(std::uint64_t tag) noexcept {
  inbox_.forget_async_answer(tag);
  end_loop_turn(tag);
}

void Worker::end_loop_turn(std::uint64_t tag) noexcept {
  const python::SubstituteLock lock(shared_);
  open_questions_ -= static_cast<std::uint32_t>(unnamed_tags_.erase(tag));
}

void Worker::loop_done(std::uint64_t token, PyObject* value) noexcept { end_in_loop(token, value, nullptr); }

void Worker::loop_failed(std::uint64_t token, PyObject* exception) noexcept {
  end_in_loop(token, nullptr, exception);
}

void Worker::loop_cancelled(std::uint64_t token) noexcept { end_in_loop(token, nullptr, nullptr); }

void Worker::end_in_loop(std::uint64_t token, PyObject* value, PyObject* exception) noexcept {
  AsyncCall* const found = find_in_loop(token);
  if (!found) return;
  AsyncCall& entry = *found;
  Served call{entry.header};
  std::memcpy(call.times, entry.times, sizeof call.times);
  if (call.times[4] != 0) {
    const std::uint64_t now = monotonic_ns();
    call.times[2] += now - call.times[4];
    call.times[4] = now;
  }
  call.module = PyRef::borrow(entry.module.get());
  call.function = PyRef::borrow(entry.function.get());
  if (!value) {
    fail(call, exception ? PyRef::borrow(exception) : PyRef(), !exception);
  } else if (!reply(call, value)) {
    fail(call, current_exception());
  }
  leave_loop(token);
  note_used();
}

// --- the functions of typhon._native ---

namespace {

Worker* worker_of(PyObject* module) noexcept {
  Worker* worker = static_cast<ExecutorSlot*>(PyModule_GetState(module))->worker;
  if (!worker) {
    PyErr_SetString(PyExc_RuntimeError,
                    "this Python is not a worker of Typhon: there is no BEAM on the other side");
  } else if (worker::in_forked_child()) {
    PyErr_SetString(
        PyExc_RuntimeError,
        "this process was forked by a worker of Typhon: only the worker itself can talk to the BEAM");
    return nullptr;
  }
  return worker;
}

// None means the call that this thread serves.
bool get_call(PyObject* object, std::uint64_t& call) noexcept {
  call = Worker::kThisCall;
  if (object == Py_None) return true;
  call = PyLong_AsUnsignedLongLong(object);
  return !PyErr_Occurred();
}

PyObject* ask(PyObject* module, PyObject* args) noexcept {
  PyObject* term = nullptr;
  PyObject* of = nullptr;
  std::uint64_t call = 0;
  int serves_all = 0;
  Worker* worker = worker_of(module);
  if (!worker || !PyArg_ParseTuple(args, "OO|p", &term, &of, &serves_all) || !get_call(of, call))
    return nullptr;
  return worker->ask(term, call, serves_all != 0);
}

PyObject* tell(PyObject* module, PyObject* args) noexcept {
  PyObject* term = nullptr;
  PyObject* of = nullptr;
  std::uint64_t call = 0;
  Worker* worker = worker_of(module);
  if (!worker || !PyArg_ParseTuple(args, "OO", &term, &of) || !get_call(of, call)) return nullptr;
  if (!worker->tell(term, call)) return nullptr;
  Py_RETURN_NONE;
}

PyObject* send(PyObject* module, PyObject* args) noexcept {
  Worker* worker = worker_of(module);
  if (!worker || !worker->send(args)) return nullptr;
  Py_RETURN_NONE;
}

PyObject* receive(PyObject* module, PyObject* args) noexcept {
  double seconds = -1;
  Worker* worker = worker_of(module);
  if (!worker || !PyArg_ParseTuple(args, "d", &seconds)) return nullptr;
  constexpr double kLongest = 9e9;
  return worker->receive(seconds < 0 ? -1 : static_cast<std::int64_t>(std::min(seconds, kLongest) * 1e9));
}

PyObject* message_now(PyObject* module, PyObject*) noexcept {
  Worker* worker = worker_of(module);
  if (!worker) return nullptr;
  PyObject* message = worker->message_now();
  if (message || PyErr_Occurred()) return message ? PyTuple_Pack(1, PyRef::steal(message).get()) : nullptr;
  Py_RETURN_NONE;
}

PyObject* set_handler(PyObject* module, PyObject* handler) noexcept {
  Worker* worker = worker_of(module);
  if (!worker) return nullptr;
  worker->set_handler(handler);
  Py_RETURN_NONE;
}

PyObject* set_invoke(PyObject* module, PyObject* function) noexcept {
  Worker* worker = worker_of(module);
  if (!worker) return nullptr;
  worker->set_invoke(function);
  Py_RETURN_NONE;
}

PyObject* this_call(PyObject* module, PyObject*) noexcept {
  const Worker* worker =
      worker::in_forked_child() ? nullptr : static_cast<ExecutorSlot*>(PyModule_GetState(module))->worker;
  return PyLong_FromUnsignedLongLong(worker ? const_cast<Worker*>(worker)->this_call() : 0);
}

PyObject* captures(PyObject* module, PyObject* call) noexcept {
  if (worker::in_forked_child()) Py_RETURN_FALSE;
  Worker* worker = worker_of(module);
  const std::uint64_t id = worker ? PyLong_AsUnsignedLongLong(call) : 0;
  return !worker || PyErr_Occurred() ? nullptr : PyBool_FromLong(worker->captures(id));
}

PyObject* set_flush(PyObject* module, PyObject* flush) noexcept {
  Worker* worker = worker_of(module);
  if (!worker) return nullptr;
  worker->set_flush(flush);
  Py_RETURN_NONE;
}

PyObject* need_flush(PyObject* module, PyObject* call) noexcept {
  Worker* worker = worker_of(module);
  const std::uint64_t id = worker ? PyLong_AsUnsignedLongLong(call) : 0;
  if (!worker || PyErr_Occurred()) return nullptr;
  worker->need_flush(id);
  Py_RETURN_NONE;
}

PyObject* loop_enter(PyObject* module, PyObject*) noexcept {
  Worker* worker = worker_of(module);
  if (!worker) return nullptr;
  worker->loop_enter();
  Py_RETURN_NONE;
}

PyObject* loop_attach(PyObject* module, PyObject*) noexcept {
  Worker* worker = worker_of(module);
  const int fd = worker ? worker->loop_attach() : -1;
  return fd < 0 ? nullptr : PyLong_FromLong(fd);
}

PyObject* loop_take(PyObject* module, PyObject*) noexcept {
  Worker* worker = worker_of(module);
  return worker ? worker->loop_take() : nullptr;
}

PyObject* loop_listen(PyObject* module, PyObject* listens) noexcept {
  Worker* worker = worker_of(module);
  if (!worker) return nullptr;
  worker->loop_listen(listens == Py_True);
  Py_RETURN_NONE;
}

PyObject* loop_ask(PyObject* module, PyObject* args) noexcept {
  PyObject* term = nullptr;
  PyObject* of = nullptr;
  std::uint64_t call = 0;
  Worker* worker = worker_of(module);
  if (!worker || !PyArg_ParseTuple(args, "OO", &term, &of) || !get_call(of, call)) return nullptr;
  const std::uint64_t tag = worker->loop_ask(term, call);
  if (tag == 0 && !PyErr_Occurred()) Py_RETURN_NONE;
  return tag == 0 ? nullptr : PyLong_FromUnsignedLongLong(tag);
}

PyObject* loop_forget(PyObject* module, PyObject* tag) noexcept {
  Worker* worker = worker_of(module);
  const std::uint64_t number = worker ? PyLong_AsUnsignedLongLong(tag) : 0;
  if (!worker || PyErr_Occurred()) return nullptr;
  worker->loop_forget(number);
  Py_RETURN_NONE;
}

[[noreturn]] void end_child(PyObject* args, bool failed) noexcept {
  PyObject* const value = PyTuple_GetItem(args, 1);
  if (failed && value) PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(value)), value);
  leave_child(failed ? PyRef() : PyRef::borrow(Py_None));
}

template <auto Method>
PyObject* loop_end(PyObject* module, PyObject* args) noexcept {
  // In a child the coroutine that forked has come to its end.
  if (worker::in_forked_child()) end_child(args, Method == &Worker::loop_failed);
  unsigned long long token = 0;
  PyObject* value = nullptr;
  Worker* worker = worker_of(module);
  if (!worker || !PyArg_ParseTuple(args, "KO", &token, &value)) return nullptr;
  (worker->*Method)(token, value);
  Py_RETURN_NONE;
}

PyObject* loop_cancelled(PyObject* module, PyObject* token) noexcept {
  Worker* worker = worker_of(module);
  const std::uint64_t number = worker ? PyLong_AsUnsignedLongLong(token) : 0;
  if (!worker || PyErr_Occurred()) return nullptr;
  worker->loop_cancelled(number);
  Py_RETURN_NONE;
}

PyObject* trim_own(PyObject*, PyObject*) noexcept {
  const python::GilRelease without_gil;
  os::heap::trim_own();
  Py_RETURN_NONE;
}

PyObject* serve_thread(PyObject* module, PyObject*) noexcept {
  Worker* worker = worker_of(module);
  if (!worker) return nullptr;
  worker->serve_as_thread();
  Py_RETURN_NONE;
}

// nap(seconds) -> bool
PyObject* nap(PyObject* module, PyObject* seconds) noexcept {
  const double wanted = PyFloat_AsDouble(seconds);
  if (PyErr_Occurred()) return nullptr;
  Worker* const worker =
      worker::in_forked_child() ? nullptr : static_cast<ExecutorSlot*>(PyModule_GetState(module))->worker;
  // What is no time at all is time.sleep()'s to judge.
  const int slept = worker && wanted > 0 ? worker->nap(wanted) : 0;
  return slept < 0 ? nullptr : PyBool_FromLong(slept);
}

PyObject* max_result(PyObject* module, PyObject*) noexcept {
  const Worker* const worker = static_cast<ExecutorSlot*>(PyModule_GetState(module))->worker;
  return PyLong_FromUnsignedLongLong(worker ? worker->max_result() : UINT64_MAX);
}

PyObject* forked(PyObject*, PyObject*) noexcept { return PyBool_FromLong(worker::in_forked_child()); }

PyMethodDef functions[] = {
    {"ask", ask, METH_VARARGS, "ask(term, call | None, serves_all=False) -> (ok, value)"},
    {"tell", tell, METH_VARARGS, "tell(term, call | None)"},
    {"send", send, METH_VARARGS, "send(pid, message)"},
    {"receive", receive, METH_VARARGS, "receive(seconds) -> message; negative: no limit"},
    {"message_now", message_now, METH_NOARGS, "message_now() -> (message,) | None"},
    {"set_handler", set_handler, METH_O, "set_handler(function | None)"},
    {"set_invoke", set_invoke, METH_O, "set_invoke(function | None)"},
    {"this_call", this_call, METH_NOARGS, "this_call() -> id of the call that this thread serves, or 0"},
    {"captures", captures, METH_O, "captures(call) -> whether what the call prints goes to its caller"},
    {"set_flush", set_flush, METH_O, "set_flush(function), called at the end of a call that needs it"},
    {"need_flush", need_flush, METH_O, "need_flush(call)"},
    {"loop_enter", loop_enter, METH_NOARGS, "loop_enter(): this thread runs the event loop"},
    {"loop_attach", loop_attach, METH_NOARGS, "loop_attach() -> file descriptor"},
    {"loop_take", loop_take, METH_NOARGS, "loop_take() -> (calls, answers, cancelled)"},
    {"loop_listen", loop_listen, METH_O, "loop_listen(bool): whether messages make the descriptor readable"},
    {"loop_ask", loop_ask, METH_VARARGS, "loop_ask(term, call | None) -> tag | None: not now"},
    {"loop_forget", loop_forget, METH_O, "loop_forget(tag)"},
    {"loop_done", loop_end<&Worker::loop_done>, METH_VARARGS, "loop_done(token, value)"},
    {"loop_failed", loop_end<&Worker::loop_failed>, METH_VARARGS, "loop_failed(token, exception)"},
    {"loop_cancelled", loop_cancelled, METH_O, "loop_cancelled(token): it was given up"},
    {"trim_own", trim_own, METH_NOARGS, "trim_own(): this thread gives back the memory that it has freed"},
    {"nap", nap, METH_O, "nap(seconds) -> whether it has slept; False where time.sleep() can be interrupted"},
    {"max_result", max_result, METH_NOARGS, "max_result() -> bytes that what is sent to the BEAM may take"},
    {"forked", forked, METH_NOARGS, "forked() -> whether this process was forked by a worker"},
    {"serve_thread", serve_thread, METH_NOARGS, "serve_thread(): serves calls until the worker ends"},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

int add_conversation(PyObject* module) noexcept { return PyModule_AddFunctions(module, functions); }

// The threads that serve calls beside the main one.
bool Worker::start_threads() const noexcept {
  const PyRef native = PyRef::steal(PyImport_ImportModule("typhon._native"));
  const PyRef serve_function =
      native ? PyRef::steal(PyObject_GetAttrString(native.get(), "serve_thread")) : PyRef();
  const PyRef starts = serve_function ? PyRef::steal(PyImport_ImportModule("typhon._threads")) : PyRef();
  const PyRef threads = starts ? PyRef::steal(PyImport_ImportModule("threading")) : PyRef();
  constexpr int kStackBytes = 16 * 1024 * 1024;
  // Larger already: inside the BEAM.
  PyRef old = threads ? PyRef::steal(PyObject_CallMethod(threads.get(), "stack_size", nullptr)) : PyRef();
  if (!old) return false;
  if (PyLong_AsLong(old.get()) < kStackBytes &&
      !PyRef::steal(PyObject_CallMethod(threads.get(), "stack_size", "i", kStackBytes)))
    return false;
  for (unsigned i = 1; i < settings_.concurrency; ++i) {
    const PyRef name = PyRef::steal(PyUnicode_FromFormat("typhon-%u", i));
    if (!name ||
        !PyRef::steal(PyObject_CallMethod(starts.get(), "start", "O()O", serve_function.get(), name.get())))
      return false;
  }
  return static_cast<bool>(PyRef::steal(PyObject_CallMethod(threads.get(), "stack_size", "O", old.get())));
}

}  // namespace typhon::executor
