// Serving one frame: decode, call, answer; and what a failure becomes.
#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "executor/leave_child.h"
#include "executor/memory_limit.h"
#include "executor/segment_buffer.h"
#include "executor/worker.h"
#include "os/clock.h"
#include "python/errors.h"
#include "worker/forked.h"

namespace typhon::executor {

using channel::FrameHeader;
using channel::Kind;
using channel::SegmentRef;
using python::PyRef;
using worker::Timings;

namespace {

constexpr std::array<std::string_view, 4> kRequestParts{"module", "function", "args", "kwargs"};

PyRef attribute_text(PyObject* object, const char* name) noexcept {
  PyRef value = PyRef::steal(PyObject_GetAttrString(object, name));
  if (!value || !PyUnicode_Check(value.get())) {
    PyErr_Clear();
    return PyRef::steal(PyUnicode_FromString(""));
  }
  return value;
}

constexpr const char* kUndescribed = "the exception could not be described";
constexpr std::size_t kLongestWhy = 4096;

// Python cannot say what an exception is, and why that is is set: a file of the user's may have the name of a
// module that it needs.
PyRef undescribed() noexcept {
  PyRef sentence;
  try {
    std::string text = kUndescribed;
    if (PyErr_Occurred() != nullptr) text += ": " + python::current_exception_text();
    const auto size = static_cast<Py_ssize_t>(std::min(text.size(), kLongestWhy));
    sentence = PyRef::steal(PyUnicode_DecodeUTF8(text.c_str(), size, "replace"));
  } catch (const std::bad_alloc&) {
  }
  PyErr_Clear();
  return sentence ? std::move(sentence) : PyRef::steal(PyUnicode_FromString(kUndescribed));
}

}  // namespace

PyRef current_exception() noexcept {
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  if (value && traceback) PyException_SetTraceback(value, traceback);
  Py_XDECREF(type);
  Py_XDECREF(traceback);
  return PyRef::steal(value);
}

// A call that is made for a question, while this thread serves it. leave_loop() forgets one that goes on in
// the event loop.
class Worker::MadeFor {
 public:
  MadeFor(Worker& worker, const FrameHeader& header) noexcept
      : worker_(worker), call_(header.times[2] != 0 ? header.id : 0) {
    if (call_ == 0) return;
    const python::SubstituteLock lock(worker_.shared_);
    worker_.made_for_.emplace(call_, header.times[2]);
  }
  MadeFor(const MadeFor&) = delete;
  MadeFor& operator=(const MadeFor&) = delete;
  ~MadeFor() {
    if (call_ == 0) return;
    const python::SubstituteLock lock(worker_.shared_);
    worker_.made_for_.erase(call_);
  }
  void goes_on() noexcept { call_ = 0; }

 private:
  Worker& worker_;
  std::uint64_t call_;
};

void Worker::serve(Lane& lane, const FrameHeader& header, std::span<const std::uint8_t> body,
                   channel::FrameLoans& loans) noexcept {
  if (lender_) lender_->collect();
  switch (header.kind) {
    case Kind::kRelease:
      release_objects(body);
      break;
    case Kind::kMessage:
      handle_message();
      break;
    default:
      serve_call(lane, header, body, loans);
  }
  leave_if_forked();
  lane.used = true;
  note_used();
}

// Nobody wants the result.
bool Worker::is_given_up(const FrameHeader& header) noexcept {
  const bool cancelled = header.id != 0 && mailroom_.cancels().was_cancelled(header.id);
  return cancelled || (header.times[1] != 0 && os::is_past(header.times[1]));
}

void Worker::refuse(const FrameHeader& header, std::span<const std::uint8_t> body) noexcept {
  if ((header.flags & channel::kInSegment) != 0) release_unread(body);
  if (header.kind == Kind::kCall) return send_atom_error(header, "expired");
  cast_done();
}

void Worker::serve_call(Lane& lane, const FrameHeader& header, std::span<const std::uint8_t> body,
                        channel::FrameLoans& loans) noexcept {
  Served call{header};
  // Its segment is the BEAM's again. A wake of the reader may have been put off for what this one would say.
  if (!mailroom_.claim(header)) return outbox_.ring_reader(false);
  if (is_given_up(header) || !mailroom_.cancels().begin(lane, header.id)) return refuse(header, body);
  if (header.times[3] != 0 && header.id != 0) set_captured(header.id, true);
  MadeFor made_for(*this, header);
  PyRef request = decode_request(header, body, loans);
  // Nobody hears the answer: better not begin.
  if (header_.closing.value.load(std::memory_order_acquire) != 0) {
    finish_call(lane);
    PyErr_Clear();
    return;
  }
  call.timings.add(Timings::Part::kDecoding);
  PyRef result;
  if (request) result = invoke(request.get(), is_of_object(header));
  if (worker::in_forked_child()) leave_child(std::move(result));
  if (take_unfinished(header.id)) {
    PyRef failed = result ? PyRef() : current_exception();
    if (flush_ && !PyRef::steal(PyObject_CallNoArgs(flush_.get()))) {
      // ErlPort's instance has not dealt with what the call said: it ends, and the call is to say so.
      if (settings_.erlport != 0) {
        result.reset();
      } else {
        PyErr_Clear();
      }
    }
    if (failed) PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(failed.get())), failed.get());
  }
  const Lane::State state = finish_call(lane);
  call.timings.add(Timings::Part::kRunning);
  if (result && reinterpret_cast<PyObject*>(Py_TYPE(result.get())) == coroutine_type_.get()) {
    call.module = PyRef::borrow(PyTuple_GetItem(request.get(), 0));
    call.function = PyRef::borrow(PyTuple_GetItem(request.get(), 1));
    if (state != Lane::State::kCancelled) {
      made_for.goes_on();
      return start_coroutine(call, body, std::move(result));
    }
    // Whoever cancelled it believes that it runs here. It has not begun: closed, nothing is said of it.
    if (!PyRef::steal(PyObject_CallMethod(result.get(), "close", nullptr))) PyErr_Clear();
    result.reset();
    PyErr_SetString(codec_.cancelled.get(), "the caller gave up on this call");
  }
  if (header.times[3] != 0) set_captured(header.id, false);
  if (result) {
    request.reset();  // before the reply: what the caller sends next may reuse its memory
    if (reply(call, result.get())) return;
  }
  if (request) {
    call.module = PyRef::borrow(PyTuple_GetItem(request.get(), 0));
    call.function = PyRef::borrow(PyTuple_GetItem(request.get(), 1));
    call.request = std::move(request);
  }
  fail(call, current_exception(), state != Lane::State::kRuns || ends());
}

// kCancelled: and it has not seen it.
Lane::State Worker::finish_call(Lane& lane) noexcept {
  Lane::State state{};
  {
    const python::SubstituteLock lock(interrupting_);
    state = mailroom_.cancels().end(lane);
  }
  // It came too late for this call, and must not hit the next one.
  return take_back_interrupt(lane) ? Lane::State::kCancelled : state;
}

// --- what a frame holds ---

void Worker::release_unread(std::span<const std::uint8_t> body) noexcept {
  SegmentRef ref{};
  if (body.size() != sizeof ref) return;
  std::memcpy(&ref, body.data(), sizeof ref);
  request_arena_.release(ref.slot);
}

void Worker::release_objects(std::span<const std::uint8_t> body) noexcept {
  for (std::size_t at = 0; at + sizeof(std::uint64_t) <= body.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t id = 0;
    std::memcpy(&id, body.data() + at, sizeof id);
    outbox_.objects().release(id);  // may run a finaliser, which may not leave an exception behind
    if (PyErr_Occurred()) PyErr_WriteUnraisable(nullptr);
  }
}

PyRef Worker::decode(const FrameHeader& header, std::span<const std::uint8_t> body,
                     channel::FrameLoans& loans, python::DecodeOptions options) noexcept {
  PyRef segment;
  if ((header.flags & channel::kInSegment) != 0) {
    SegmentRef ref{};
    if (body.size() == sizeof ref) std::memcpy(&ref, body.data(), sizeof ref);
    const auto view = body.size() == sizeof ref ? request_arena_.view(ref) : std::nullopt;
    if (!view) {
      PyErr_SetString(PyExc_SystemError, "a request names a segment outside of its arena");
      return {};
    }
    body = *view;
    segment =
        make_segment_buffer(segment_buffer_type_.get(), request_arena_, segment_buffers_, ref.slot, body);
    if (!segment) return {};
  }
  options.buffer_owner = segment.get();
  options.objects = &outbox_.objects();
  options.tagged = (header_.flags & channel::kFlagTagged) != 0;
  options.erlport = dialect();
  if (loans.empty()) return PyRef::steal(python::decode(codec_, body, options));
  Lent lent(loans, segment_buffer_type_.get());
  options.lent = &lent;
  PyRef decoded = PyRef::steal(python::decode(codec_, body, options));
  loans.clear();
  return decoded;
}

PyRef Worker::decode_request(const FrameHeader& header, std::span<const std::uint8_t> body,
                             channel::FrameLoans& loans) noexcept {
  python::DecodeOptions options;
  options.root = "call";
  options.parts = kRequestParts;
  PyRef request = decode(header, body, loans, options);
  if (request && (!PyTuple_Check(request.get()) || PyTuple_Size(request.get()) != 4)) {
    PyErr_SetString(PyExc_SystemError, "a request must be {Module, Function, Args, Kwargs}");
    return {};
  }
  return request;
}

void Worker::handle_message() noexcept {
  const PyRef message = PyRef::steal(message_now());
  PyRef handler;
  if (message) {
    {
      const python::SubstituteLock lock(shared_);
      handler = PyRef::borrow(handler_);
    }
    if (!handler || PyRef::steal(PyObject_CallFunctionObjArgs(handler.get(), message.get(), nullptr))) return;
  }
  if (PyErr_Occurred()) report_cast(current_exception(), PyRef::borrow(handler.get()));
}

// --- answering ---

// False with an exception set when the value cannot be encoded.
bool Worker::reply(Served& call, PyObject* value) noexcept {
  if (call.header.kind != Kind::kCall) {
    cast_done();
    return true;
  }
  FrameHeader header{};
  header.kind = Kind::kReply;
  header.id = call.header.id;
  outbox_.set_more_to_come(!mailroom_.routed() ? !mailroom_.ring_empty() : mailroom_.has_calls());
  Painting painting(*this);
  const bool as_object = (call.header.flags & channel::kAsObject) != 0;
  return outbox_.send(codec_, header, value, "result", &call.timings, {}, as_object, &painting);
}

// Nobody waits for a cast, but a worker that is to be replaced finishes it first.
void Worker::cast_done() noexcept { header_.casts_done.value.fetch_add(1, std::memory_order_release); }

// `exception`: raised by user code, or by the codec for an argument or a result that cannot cross.
void Worker::fail(Served& call, PyRef exception, bool given_up) noexcept {
  // A str in the module's place is its name, for those who describe an error.
  if (call.module && is_of_object(call.header) && PyUnicode_Check(call.module.get()))
    call.module = PyRef::steal(PyType_GetName(Py_TYPE(call.module.get())));
  if (call.header.kind != Kind::kCall) {
    report_cast(std::move(exception), std::move(call.module), std::move(call.function),
                std::move(call.request));
    leave_if_forked();
    return cast_done();
  }
  const memory_limit::Suspension unlimited;
  if (given_up && (!exception || PyErr_GivenExceptionMatches(exception.get(), codec_.cancelled.get()))) {
    return send_atom_error(call.header, "cancelled");
  }
  FrameHeader header{};
  header.kind = Kind::kError;
  header.id = call.header.id;
  PyObject* const module = call.module ? call.module.get() : Py_None;
  PyObject* const function = call.function ? call.function.get() : Py_None;
  PyObject* const given = call.request ? call.request.get() : Py_None;
  std::optional<RecursionRoom> room;
  if (exception && PyErr_GivenExceptionMatches(exception.get(), PyExc_RecursionError)) room.emplace(*this);
  PyRef description = describe(exception.get(), module, function, given);
  // Where calls nest, one may fail for a reason of its own just below the limit.
  if (!description && !room && PyErr_ExceptionMatches(PyExc_RecursionError)) {
    PyErr_Clear();
    room.emplace(*this);
    description = describe(exception.get(), module, function, given);
  }
  leave_if_forked();
  if (description && outbox_.send(codec_, header, description.get(), "error", &call.timings)) return;

  // Not even the description can be sent (a subclass of str that misbehaves, no memory): say at least that
  // much.
  const PyRef plain = undescribed_term();
  if (plain && outbox_.send(codec_, header, plain.get(), "error", &call.timings)) return;
  PyErr_Clear();
  send_atom_error(call.header, "cancelled");
}

// What stands for a description. nullptr with an exception set.
PyRef Worker::undescribed_term() noexcept {
  const PyRef why = undescribed();
  if (!why) return {};
  if (settings_.erlport != 0) {
    const PyRef language = PyRef::steal(codec_.atoms.get("python"));
    const PyRef name = PyRef::steal(codec_.atoms.get("builtins.RuntimeError"));
    if (!language || !name) return {};
    return PyRef::steal(Py_BuildValue("(OOON)", language.get(), name.get(), why.get(), PyList_New(0)));
  }
  const PyRef text = PyRef::steal(PyUnicode_FromFormat("RuntimeError: %U\n", why.get()));
  const PyRef atom = PyRef::steal(codec_.atoms.get("exception"));
  if (!text || !atom) return {};
  return PyRef::steal(Py_BuildValue("(OsONNOO)", atom.get(), "RuntimeError", why.get(), PyList_New(0),
                                    PyList_New(0), Py_None, text.get()));
}

// Several threads may be in want of a higher limit; whoever sets another one meanwhile keeps that.
Worker::RecursionRoom::RecursionRoom(Worker& worker) noexcept : worker_(worker) {
  if (Py_Version >= python::kPython312) {
    away_.emplace();
    fresh_.emplace(worker_.interpreter_);
    if (fresh_->attached()) return;
    fresh_.reset();
    away_.reset();
    return;
  }
  const python::SubstituteLock lock(worker_.shared_);
  if (worker_.rooms_++ != 0) return;
  worker_.recursion_limit_ = Py_GetRecursionLimit();
  Py_SetRecursionLimit(worker_.recursion_limit_ + kFrames);
}

Worker::RecursionRoom::~RecursionRoom() {
  if (Py_Version >= python::kPython312) {
    fresh_.reset();
    away_.reset();
    return;
  }
  const python::SubstituteLock lock(worker_.shared_);
  if (--worker_.rooms_ == 0 && Py_GetRecursionLimit() == worker_.recursion_limit_ + kFrames)
    Py_SetRecursionLimit(worker_.recursion_limit_);
}

// `given`: what the arguments are in, or None.
PyRef Worker::describe(PyObject* exception, PyObject* module, PyObject* function, PyObject* given) noexcept {
  if (!exception) return {};
  if (settings_.erlport != 0) {
    const PyRef describe_function = remembered(describe_function_, "erlport._worker", "describe");
    return describe_function ? PyRef::steal(PyObject_CallFunctionObjArgs(describe_function.get(), exception,
                                                                         module, function, nullptr))
                             : PyRef();
  }
  const bool encode = PyErr_GivenExceptionMatches(exception, codec_.encode_error.get()) != 0;
  const bool decode = PyErr_GivenExceptionMatches(exception, codec_.decode_error.get()) != 0;
  // With a traceback it comes from user code that called typhon.encode or decode itself: an exception like
  // any other.
  const PyRef traceback = PyRef::steal(PyException_GetTraceback(exception));
  if ((encode || decode) && !traceback) {
    const PyRef path = attribute_text(exception, "path");
    const PyRef reason = attribute_text(exception, "reason");
    if (decode) {
      const PyRef atom = PyRef::steal(codec_.atoms.get("cannot_decode"));
      return atom ? PyRef::steal(PyTuple_Pack(3, atom.get(), path.get(), reason.get())) : PyRef();
    }
    const PyRef type = attribute_text(exception, "type_name");
    const PyRef atom = PyRef::steal(codec_.atoms.get("cannot_encode"));
    return atom ? PyRef::steal(PyTuple_Pack(4, atom.get(), path.get(), type.get(), reason.get())) : PyRef();
  }
  const PyRef describe_function = remembered(describe_function_, "typhon._errors", "describe");
  if (!describe_function) return {};
  return PyRef::steal(
      PyObject_CallFunctionObjArgs(describe_function.get(), exception, module, function, given, nullptr));
}

void Worker::send_atom_error(const FrameHeader& request, const char* name) noexcept {
  const PyRef atom = PyRef::steal(codec_.atoms.get(name));
  FrameHeader header{};
  header.kind = Kind::kError;
  header.id = request.id;
  Timings timings = Timings::unserved(request);
  if (!atom || !outbox_.send(codec_, header, atom.get(), "error", &timings)) PyErr_Clear();
}

// Nobody waits for it: the worker's process on the other side logs what it raised. `function` is empty for a
// handler of messages, which `target` is.
void Worker::report_cast(PyRef exception, PyRef target, PyRef function, PyRef given) noexcept {
  const memory_limit::Suspension unlimited;
  PyObject* const of = target ? target.get() : Py_None;
  PyObject* const name = function ? function.get() : Py_None;
  const PyRef errors = PyRef::steal(PyImport_ImportModule("typhon._errors"));
  const PyRef described =
      errors && exception ? describe(exception.get(), of, name, given ? given.get() : Py_None) : PyRef();
  const PyRef told = described ? PyRef::steal(PyObject_CallMethod(errors.get(), "report", "OOOO",
                                                                  exception.get(), of, name, described.get()))
                               : PyRef();
  if (!told) PyErr_Clear();
}

// --- coroutines ---

std::uint64_t Worker::enter_loop(Served& call) noexcept {
  std::uint64_t token = 0;
  {
    const python::SubstituteLock lock(shared_);
    token = next_token_++;
    AsyncCall& entry = async_calls_[token];
    entry.header = call.header;
    entry.timings = call.timings;
    entry.module = std::move(call.module);
    entry.function = std::move(call.function);
    if (call.header.times[2] != 0) made_for_.insert_or_assign(call.header.id, call.header.times[2]);
    header_.suspended.value.store(async_calls_.size(), std::memory_order_release);
  }
  mailroom_.cancels().enter_loop(call.header.id);
  return token;
}

// Only the loop's thread ends calls of the loop, each once; the entry of one stays where it is until then.
Worker::AsyncCall* Worker::find_in_loop(std::uint64_t token) noexcept {
  const python::SubstituteLock lock(shared_);
  const auto found = async_calls_.find(token);
  return found == async_calls_.end() ? nullptr : &found->second;
}

void Worker::leave_loop(std::uint64_t token) noexcept {
  const AsyncCall* const entry = find_in_loop(token);
  if (!entry) return;
  const std::uint64_t id = entry->header.id;
  mailroom_.cancels().leave_loop(id);
  std::unordered_map<std::uint64_t, AsyncCall>::node_type ended;  // its objects go last, without the lock
  const python::SubstituteLock lock(shared_);
  captured_.erase(id);
  made_for_.erase(id);
  unfinished_.erase(id);
  ended = async_calls_.extract(token);
  header_.suspended.value.store(async_calls_.size(), std::memory_order_release);
}

// A thread that serves calls has called a coroutine function: the loop goes on with it.
void Worker::start_coroutine(Served& call, std::span<const std::uint8_t> body, PyRef coroutine) noexcept {
  const PyRef submit = remembered(submit_, "typhon._aio", "submit");
  if (!submit) {
    const PyRef failed = current_exception();
    {
      const python::SubstituteLock lock(shared_);
      made_for_.erase(call.header.id);
    }
    return fail(call, PyRef::borrow(failed));
  }
  const bool in_segment = (call.header.flags & channel::kInSegment) != 0;
  const std::uint64_t id = call.header.id;
  const bool known = !in_segment && is_coroutine_of(call, coroutine.get());
  // Before the loop can have answered: the caller's next call is to find it noted. Where there is no loop yet
  // it is not known that there will be one to go to.
  const bool has_loop = mailroom_.loop().is_attached();
  if (known && has_loop) mailroom_.loop().note_coroutine(body, true);
  const std::uint64_t token = enter_loop(call);
  const PyRef done =
      PyRef::steal(PyObject_CallFunction(submit.get(), "KOK", static_cast<unsigned long long>(token),
                                         coroutine.get(), static_cast<unsigned long long>(id)));
  if (!done) {
    if (known) mailroom_.loop().note_coroutine(body, false);
    return loop_failed(token, current_exception().get());
  }
  if (known && !has_loop) mailroom_.loop().note_coroutine(body, true);
}

}  // namespace typhon::executor
