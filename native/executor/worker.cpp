#include "executor/worker.h"

#include <malloc.h>

#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "etf/writer.h"
#include "executor/arena_cache.h"
#include "executor/segment_buffer.h"
#include "python/gil.h"

namespace typhon::executor {

using channel::FrameHeader;
using channel::Kind;
using channel::monotonic_ns;
using channel::SegmentRef;
using python::PyRef;

namespace {

constexpr std::array<std::string_view, 4> kRequestParts{"module", "function", "args", "kwargs"};

// Replies gathered before the reader is woken from its timed wait.
constexpr std::uint32_t kMaxDeferredWakes = 512;
constexpr std::int64_t kRoomWaitNs = 10'000'000;
constexpr std::int64_t kTrimAfterNs = 5'000'000'000;
constexpr std::size_t kTrimStep = std::size_t{64} << 20;

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

PyRef attribute_text(PyObject* object, const char* name) noexcept {
  PyRef value = PyRef::steal(PyObject_GetAttrString(object, name));
  if (!value || !PyUnicode_Check(value.get())) {
    PyErr_Clear();
    return PyRef::steal(PyUnicode_FromString(""));
  }
  return value;
}

}  // namespace

Worker::Worker(python::ModuleState& codec, std::unique_ptr<channel::Region> region, UniqueFd control,
               int beam_pid) noexcept
    : codec_(codec),
      region_(*region.release()),
      header_(region_.header()),
      requests_(region_.request_ring(), region_.ring_size(), header_.request_tail.value,
                header_.request_head.value),
      replies_(region_.reply_ring(), region_.ring_size(), header_.reply_tail.value, header_.reply_head.value),
      request_arena_(region_.request_arena(), region_.arena_size(), header_.request_slots),
      reply_arena_(region_.reply_arena(), region_.arena_size(), header_.reply_slots),
      life_(std::move(control), beam_pid, header_),
      spin_ns_(std::min<std::uint64_t>(header_.worker_spin_us, 10'000) * 1000) {}

int Worker::run(PyObject* module, PyObject* greeting) noexcept {
  segment_buffer_type_ = make_segment_buffer_type(module);
  modules_ = PyRef::borrow(PyImport_GetModuleDict());
  if (!segment_buffer_type_ || !modules_) return -1;
  if (Status started = life_.start(); !started.ok()) {
    PyErr_SetString(PyExc_OSError, started.error().message.c_str());
    return -1;
  }
  if (!send(Kind::kReady, FrameHeader{}, greeting)) return -1;
  ring_reader(false);

  while (!broken_) {
    const Wait wait = wait_for_request();
    if (wait == Wait::kStop) return 0;
    if (wait == Wait::kInterrupted) return -1;
    serve_one();
  }
  return kChannelBroke;
}

// --- waiting ---

Worker::Wait Worker::wait_for_request() noexcept {
  if (!requests_.empty()) return life_.must_stop() ? Wait::kStop : Wait::kRequest;
  ring_reader(false);
  if (spin_ns_ != 0 && spin_guard_.spin_allowed()) {
    // Callers that poll keep every core busy: one that spins for long takes it from them.
    const bool polled = header_.reader_word.value.load(std::memory_order_relaxed) == channel::kPolled;
    const std::uint64_t limit = monotonic_ns() + (polled ? spin_ns_ / 5 : spin_ns_);
    for (unsigned round = 1;; ++round) {
      if (!requests_.empty()) return Wait::kRequest;
      channel::cpu_relax();
      if (round % 16 != 0) continue;
      if (monotonic_ns() > limit) break;
      if (!spin_guard_.yield([&] { return !requests_.empty(); })) break;
    }
  }
  while (!life_.must_stop() && header_.closing.value.load(std::memory_order_acquire) == 0) {
    if (!requests_.empty()) return Wait::kRequest;
    if (!sleep_on_doorbell()) return Wait::kInterrupted;
  }
  return Wait::kStop;
}

// False when a Python signal handler has raised (SIGINT without anybody to catch it).
bool Worker::sleep_on_doorbell() noexcept {
  auto& word = header_.worker_word.value;
  {
    const python::GilRelease without_gil;
    word.store(channel::kAsleep, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (requests_.empty() && !life_.must_stop() &&
        header_.closing.value.load(std::memory_order_relaxed) == 0) {
      reply_arena_.reap();
      const bool trims = reply_arena_.has_idle_pages() || keeps_large_blocks_ || arena_cache::holds();
      channel::futex_wait(word, channel::kAsleep, trims ? kTrimAfterNs : -1);
      if (trims && requests_.empty() && word.load(std::memory_order_relaxed) == channel::kAsleep) {
        while (requests_.empty() && reply_arena_.trim(kTrimStep)) {
        }
        if (std::exchange(keeps_large_blocks_, false)) ::malloc_trim(0);
        arena_cache::trim();
      }
    }
    word.store(channel::kAwake, std::memory_order_relaxed);
  }
  return PyErr_CheckSignals() == 0;
}

void Worker::pop_request() noexcept {
  requests_.pop();
  // Callers may wait for room: tell the reader once half of the ring is free.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  auto& wanted = header_.request_room.value;
  if (wanted.load(std::memory_order_relaxed) == 0) return;
  const std::uint64_t used = header_.request_tail.value.load(std::memory_order_relaxed) -
                             header_.request_head.value.load(std::memory_order_relaxed);
  if (used > region_.ring_size() / 2 || wanted.exchange(0, std::memory_order_acq_rel) == 0) return;
  channel::wake_reader(header_.reader_word.value);
}

// --- serving ---

bool Worker::serve_one() noexcept {
  FrameHeader header{};
  std::span<const std::uint8_t> body;
  switch (requests_.peek(header, body)) {
    case channel::RingConsumer::State::kEmpty:
      return false;
    case channel::RingConsumer::State::kBroken:
      broken_ = true;
      return false;
    case channel::RingConsumer::State::kFrame:
      break;
  }
  switch (header.kind) {
    case Kind::kCall:
    case Kind::kCast:
      serve(header, body);
      return true;
    case Kind::kRelease:
      release_objects(body);
      pop_request();
      return true;
    default:
      broken_ = true;
      return false;
  }
}

void Worker::serve(const FrameHeader& header, std::span<const std::uint8_t> body) noexcept {
  const bool is_call = header.kind == Kind::kCall;
  const bool timed = (header.flags & channel::kTimings) != 0;
  const std::uint64_t picked = timed ? monotonic_ns() : 0;
  if (header.times[1] != 0 && channel::is_past(header.times[1])) {
    // Its caller has given up: nobody wants the result.
    if ((header.flags & channel::kInSegment) != 0) release_unread(body);
    pop_request();
    if (is_call) send_atom_error(header, "expired");
    return;
  }
  header_.running.value.store(header.id, std::memory_order_release);
  PyRef request = decode(header, body);
  pop_request();
  // A closing BEAM may have told the caller that this request was never taken: look after taking it.
  if (header_.closing.value.load(std::memory_order_acquire) != 0) {
    header_.running.value.store(0, std::memory_order_release);
    PyErr_Clear();
    return;
  }
  const std::uint64_t decoded = timed ? monotonic_ns() : 0;
  PyRef result;
  if (request) result = invoke(request.get());
  header_.running.value.store(0, std::memory_order_release);
  if (result) request.reset();  // before the reply: what the caller sends next may reuse its memory
  if (timed) {
    const std::uint64_t ran = monotonic_ns();
    times_[0] = picked - std::min(picked, header.times[0]);
    times_[1] = decoded - picked;
    times_[2] = ran - decoded;
    times_[4] = ran;  // until send() replaces it
  }
  if (!is_call) {
    if (!result) report_cast();
    return;
  }
  if (!result || !send(Kind::kReply, header, result.get())) send_error(header, request.get());
}

void Worker::release_unread(std::span<const std::uint8_t> body) noexcept {
  SegmentRef ref{};
  if (body.size() != sizeof ref) return;
  std::memcpy(&ref, body.data(), sizeof ref);
  request_arena_.release(ref.slot);
}

PyRef Worker::decode(const FrameHeader& header, std::span<const std::uint8_t> body) noexcept {
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
    keeps_large_blocks_ = true;
    segment = make_segment_buffer(segment_buffer_type_.get(), request_arena_, ref.slot, body);
    if (!segment) return {};
  }
  python::DecodeOptions options;
  options.buffer_owner = segment.get();
  options.objects = &objects_;
  options.root = "call";
  options.parts = kRequestParts;
  PyRef request = PyRef::steal(python::decode(codec_, body, options));
  if (request && (!PyTuple_Check(request.get()) || PyTuple_Size(request.get()) != 4)) {
    PyErr_SetString(PyExc_SystemError, "a request must be {Module, Function, Args, Kwargs}");
    return {};
  }
  return request;
}

PyRef Worker::invoke(PyObject* request) noexcept {
  const PyRef function = resolve(PyTuple_GetItem(request, 0), PyTuple_GetItem(request, 1));
  if (!function) return {};
  PyObject* list = PyTuple_GetItem(request, 2);
  PyObject* kwargs = PyTuple_GetItem(request, 3);
  if (!PyList_Check(list) || !PyDict_Check(kwargs)) {
    PyErr_SetString(PyExc_TypeError, "args must be a list and kwargs a map");
    return {};
  }
  const PyRef args = PyRef::steal(PyList_AsTuple(list));
  if (!args) return {};
  return PyRef::steal(PyObject_Call(function.get(), args.get(), PyDict_Size(kwargs) != 0 ? kwargs : nullptr));
}

// `target`: a module's name, or an object that a handle stood for. `path`: attributes, with dots between.
PyRef Worker::resolve(PyObject* target, PyObject* path) noexcept {
  if (!PyUnicode_Check(path)) {
    PyErr_SetString(PyExc_TypeError, "the function must be an atom or a string");
    return {};
  }
  PyRef found;
  if (PyUnicode_Check(target)) {
    found = PyRef::borrow(PyDict_GetItemWithError(modules_.get(), target));
    if (!found && PyErr_Occurred()) return {};
    if (!found || found.get() == Py_None) found = PyRef::steal(PyImport_Import(target));
  } else {
    found = PyRef::borrow(target);
  }
  if (!found) return {};
  const Py_ssize_t dot = PyUnicode_FindChar(path, '.', 0, PyUnicode_GetLength(path), 1);
  if (dot == -2) return {};
  if (dot == -1) return PyRef::steal(PyObject_GetAttr(found.get(), path));

  const PyRef separator = PyRef::steal(PyUnicode_FromString("."));
  const PyRef names = separator ? PyRef::steal(PyUnicode_Split(path, separator.get(), -1)) : PyRef();
  if (!names) return {};
  const Py_ssize_t count = PyList_Size(names.get());
  for (Py_ssize_t i = 0; i < count && found; ++i) {
    found = PyRef::steal(PyObject_GetAttr(found.get(), PyList_GetItem(names.get(), i)));
  }
  return found;
}

void Worker::release_objects(std::span<const std::uint8_t> body) noexcept {
  for (std::size_t at = 0; at + sizeof(std::uint64_t) <= body.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t id = 0;
    std::memcpy(&id, body.data() + at, sizeof id);
    objects_.release(id);  // may run a finaliser, which may not leave an exception behind
    if (PyErr_Occurred()) PyErr_WriteUnraisable(nullptr);
  }
}

// --- answering ---

std::uint8_t* Worker::reserve_reply() noexcept {
  for (;;) {
    const std::size_t bytes = channel::align8(ReplySink::kReserve);
    if (std::uint8_t* at = replies_.reserve(bytes)) return at;
    if (replies_.broken()) {
      broken_ = true;
      return nullptr;
    }
    ring_reader(false);
    auto& room = header_.reply_room.value;
    room.store(1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (std::uint8_t* at = replies_.reserve(bytes)) {
      room.store(0, std::memory_order_relaxed);
      return at;
    }
    const python::GilRelease without_gil;
    channel::futex_wait(room, 1, kRoomWaitNs);
    if (life_.must_stop() || header_.closing.value.load(std::memory_order_acquire) != 0) return nullptr;
  }
}

bool Worker::send(Kind kind, const FrameHeader& request, PyObject* value) noexcept {
  std::uint8_t* at = reserve_reply();
  if (!at) return true;  // nobody is left to read it
  ReplySink sink(at, reply_arena_);
  python::EncodeOptions options;
  options.mapset_version = (header_.flags & channel::kFlagMapsetVersion) != 0;
  options.objects = &objects_;
  options.root = "result";
  const std::size_t objects_before = objects_.count();
  if (!python::encode(codec_, value, sink, options)) return false;

  FrameHeader header{};
  header.kind = kind;
  header.id = request.id;
  if (objects_.count() != objects_before) header.flags |= channel::kHasObjects;
  if ((request.flags & channel::kTimings) != 0) {
    header.flags |= channel::kTimings;
    const std::uint64_t now = monotonic_ns();
    times_[3] = now - std::min(now, times_[4]);
    times_[4] = now;
    std::memcpy(header.times, times_, sizeof times_);
  }
  keeps_large_blocks_ |= sink.in_segment();
  publish(sink.finish(header));
  return true;
}

void Worker::publish(std::size_t size) noexcept {
  replies_.commit(size);
  ring_reader(!requests_.empty());
}

// The reader sleeps without a limit: wake it now. It waits with a limit and more replies are at hand: gather
// some.
void Worker::ring_reader(bool more_to_come) noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  auto& word = header_.reader_word.value;
  const std::uint32_t state = word.load(std::memory_order_relaxed);
  if (state == channel::kAsleep) {
    channel::wake_from(word, channel::kAsleep);
    deferred_wakes_ = 0;
  } else if (state == channel::kTimed) {
    const bool pending = header_.reply_tail.value.load(std::memory_order_relaxed) !=
                         header_.reply_head.value.load(std::memory_order_relaxed);
    if (!pending) return;
    if (more_to_come && ++deferred_wakes_ < kMaxDeferredWakes) return;
    deferred_wakes_ = 0;
    channel::wake_from(word, channel::kTimed);
  }
}

// An exception is set: by user code, or by the codec for an argument or a result that cannot cross.
void Worker::send_error(const FrameHeader& header, PyObject* request) noexcept {
  const PyRef exception = current_exception();
  if (exception && PyErr_GivenExceptionMatches(exception.get(), codec_.cancelled.get())) {
    return send_atom_error(header, "cancelled");
  }
  const PyRef description = describe(exception.get(), request);
  if (description && send(Kind::kError, header, description.get())) return;

  // Not even the description can be sent (a subclass of str that misbehaves, no memory): say at least that
  // much.
  PyErr_Clear();
  const PyRef atom = PyRef::steal(codec_.atoms.get("exception"));
  const PyRef plain =
      atom ? PyRef::steal(Py_BuildValue("(OssNNOs)", atom.get(), "RuntimeError",
                                        "the exception could not be described", PyList_New(0), PyList_New(0),
                                        Py_None, "RuntimeError: the exception could not be described\n"))
           : PyRef();
  if (plain && send(Kind::kError, header, plain.get())) return;
  PyErr_Clear();
  send_atom_error(header, "cancelled");
}

PyRef Worker::describe(PyObject* exception, PyObject* request) noexcept {
  if (!exception) return {};
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
  if (!describe_function_) {
    const PyRef module = PyRef::steal(PyImport_ImportModule("typhon._errors"));
    if (module) describe_function_ = PyRef::steal(PyObject_GetAttrString(module.get(), "describe"));
    if (!describe_function_) return {};
  }
  PyObject* const module = request ? PyTuple_GetItem(request, 0) : Py_None;
  PyObject* const function = request ? PyTuple_GetItem(request, 1) : Py_None;
  return PyRef::steal(
      PyObject_CallFunctionObjArgs(describe_function_.get(), exception, module, function, nullptr));
}

void Worker::send_atom_error(const FrameHeader& request, const char* name) noexcept {
  const PyRef atom = PyRef::steal(codec_.atoms.get(name));
  if (!atom || !send(Kind::kError, request, atom.get())) PyErr_Clear();
}

// Nobody waits for a cast: its exception goes to stderr, and so to the pool's output.
void Worker::report_cast() noexcept {
  const PyRef exception = current_exception();
  const PyRef module = PyRef::steal(PyImport_ImportModule("typhon._errors"));
  const PyRef done = module && exception
                         ? PyRef::steal(PyObject_CallMethod(module.get(), "report", "O", exception.get()))
                         : PyRef();
  if (!done) PyErr_Clear();
}

bool Worker::raise_if_cancelled() noexcept {
  if (!life_.take_cancel(header_.running.value.load(std::memory_order_acquire))) return false;
  PyErr_SetString(codec_.cancelled.get(), "the caller gave up on this call");
  return true;
}

}  // namespace typhon::executor
