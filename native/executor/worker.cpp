#include "executor/worker.h"

#include <unistd.h>

#include <array>
#include <cstring>
#include <utility>

#include "executor/arena_cache.h"
#include "executor/segment_buffer.h"
#include "os/clock.h"
#include "os/descriptor.h"
#include "os/heap.h"
#include "os/thread.h"
#include "os/wait.h"
#include "python/errors.h"
#include "python/gil.h"

namespace typhon::executor {

using channel::FrameHeader;
using channel::Kind;
using os::monotonic_ns;
using python::PyRef;

namespace {

// A body that is in the ring, and not in a segment.
constexpr std::size_t kMaxInline = std::size_t{16} * 1024;

}  // namespace

Worker::Worker(python::ModuleState& codec, std::unique_ptr<channel::Region> region, os::UniqueFd control,
               int beam_pid, const WorkerSettings& settings, Lender* lender) noexcept
    : codec_(codec),
      interpreter_(PyInterpreterState_Get()),
      lender_(lender),
      region_(*region.release()),
      header_(region_.header()),
      request_arena_(region_.request_arena(), region_.arena_size(), header_.request_slots),
      mailroom_(region_),
      life_(std::move(control), beam_pid, static_cast<int>(settings.signal), header_, *this),
      outbox_(region_, life_.stop_flag(), lender),
      settings_(settings) {
  if (lender_) lender_->listen(this);
}

int Worker::run(PyObject* module, PyObject* greeting, PyObject* coroutine_type) noexcept {
  segment_buffer_type_ = make_segment_buffer_type(module);
  modules_ = PyRef::borrow(PyImport_GetModuleDict());
  coroutine_type_ = PyRef::borrow(coroutine_type);
  if (!segment_buffer_type_ || !modules_) return -1;
  outbox_.set_buffer_type(segment_buffer_type_.get());
  main_.is_main = true;
  main_.enter();
  mailroom_.add_lane(main_);
  if (Status started = life_.start(); !started.ok()) {
    PyErr_SetString(PyExc_OSError, started.error().message.c_str());
    return -1;
  }
  if (settings_.concurrency > 1 && !(start_router() && start_threads())) return -1;
  FrameHeader header{};
  header.kind = Kind::kReady;
  if (!outbox_.send(codec_, header, greeting, "greeting")) return -1;
  outbox_.ring_reader(false);
  outbox_.set_dialect(dialect());
  outbox_.set_surrogates(static_cast<python::Surrogates>(settings_.surrogates));

  while (!mailroom_.broken() && !outbox_.broken()) {
    switch (wait_for_request()) {
      case Wait::kStop:
        return 0;
      case Wait::kInterrupted:
        return -1;
      case Wait::kRouted:
        return serve_as_lane(main_);
      case Wait::kRequest:
        serve_from_ring();
    }
  }
  return kChannelBroke;
}

bool Worker::wind_up() noexcept {
  constexpr std::int64_t kPatienceNs = 2'000'000'000;
  over_.store(true, std::memory_order_seq_cst);
  {
    const python::GilRelease without_gil;
    if (!life_.finish(kPatienceNs)) return false;
    mailroom_.wake_all();
    if (!mailroom_.router().finish(kPatienceNs)) return false;
  }
  // Threads of the user's that wait for the BEAM look around every second.
  const std::uint64_t limit = monotonic_ns() + kPatienceNs;
  while (has_threads() && monotonic_ns() < limit) {
    const python::GilRelease without_gil;
    mailroom_.wake_all();
    os::sleep_ns(1'000'000);
  }
  async_calls_.clear();
  outbox_.objects().clear();
  if (has_threads()) return false;
  mailroom_.leave();
  if (lender_) {
    lender_->collect();
    lender_->listen(nullptr);
  }
  return true;
}

void Worker::let_go() noexcept {
  // Somebody holds a view of a large argument: it stays what it is.
  if (segment_buffers_.load(std::memory_order_relaxed) != 0) return;
  channel::Region* const region = &region_;
  delete this;
  delete region;
}

// --- waiting ---

Worker::Wait Worker::wait_for_request() noexcept {
  const auto something = [&] { return !mailroom_.ring_empty() || mailroom_.has_calls(); };
  if (mailroom_.routed()) return Wait::kRouted;
  if (something()) return life_.must_stop() ? Wait::kStop : Wait::kRequest;
  outbox_.ring_reader(false);
  if (mailroom_.spin_for_frame()) return Wait::kRequest;
  while (!ends()) {
    if (mailroom_.routed()) return Wait::kRouted;
    if (something()) return Wait::kRequest;
    if (!sleep_on_doorbell()) return Wait::kInterrupted;
  }
  return Wait::kStop;
}

// The main thread, while it reads the ring. False when a Python signal handler has raised.
bool Worker::sleep_on_doorbell() noexcept {
  auto& word = header_.worker_word.value;
  {
    const python::SubstituteLock direct(direct_);
    if (mailroom_.routed()) return true;
    word.store(channel::kAsleep, std::memory_order_relaxed);
    mailroom_.router().set_reader_sleeps(true);
  }
  {
    const python::GilRelease without_gil;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const bool sleeps = mailroom_.ring_empty() && !mailroom_.routed() && !ends();
    if (sleeps) os::wait_word(word, channel::kAsleep, rest_limit());
    mailroom_.router().set_reader_sleeps(false);
    const bool rested = sleeps && mailroom_.ring_empty() && !mailroom_.routed();
    if (rested && word.load(std::memory_order_relaxed) == channel::kAsleep) trim_when_due();
  }
  {
    // Whoever starts the router holds this, too (or the GIL), and the word is the router's from then on.
    const python::SubstituteLock direct(direct_);
    if (!mailroom_.routed()) word.store(channel::kAwake, std::memory_order_relaxed);
  }
  return PyErr_CheckSignals() == 0;
}

// Whoever may have left memory free behind it says so.
void Worker::note_used() noexcept {
  if (!idle_.note_used()) return;
  // The main thread sleeps without a limit, here or there.
  main_.parker.unpark();
  std::atomic_thread_fence(std::memory_order_seq_cst);
  channel::wake_from(header_.worker_word.value, channel::kAsleep);
}

// For how long a thread without work sleeps at most; negative: no limit.
std::int64_t Worker::rest_limit() noexcept {
  const std::uint64_t now = monotonic_ns();
  const std::int64_t limit = idle_.rest(now);
  if (limit >= 0 || !outbox_.will_have_idle_pages()) return limit;
  // The BEAM has let go of a result since then, or has one.
  static_cast<void>(idle_.note_used());
  return idle_.rest(now);
}

// Without the GIL. Whatever the jobs were: malloc keeps what they have freed, for it was told to keep large
// blocks, and where a small one lies at the end of its heap it can give back nothing by itself.
void Worker::trim_when_due() noexcept {
  if (!idle_.take_due(monotonic_ns())) return;
  if (outbox_.has_idle_pages()) {
    while (mailroom_.ring_empty() && outbox_.trim()) {
    }
  }
  // First: what it unmaps, malloc need not look through.
  arena_cache::trim();
  os::heap::trim();
}

// --- taking requests ---

bool Worker::serve_from_ring() noexcept {
  // What was put aside while a call waited for an answer comes first.
  if (auto call = mailroom_.take_call()) {
    serve(main_, call->header, call->body, call->loans);
    return true;
  }
  FrameHeader header{};
  std::span<const std::uint8_t> in_ring;
  std::array<std::uint8_t, kMaxInline> copy;  // uninitialised on purpose
  {
    const python::SubstituteLock direct(direct_);
    if (mailroom_.routed() || mailroom_.peek(header, in_ring) != worker::Mailroom::Peeked::kFrame)
      return false;
    const bool call = header.kind == Kind::kCall || header.kind == Kind::kCast;
    if (!call || in_ring.size() > kMaxInline) {
      mailroom_.route(header, in_ring);
      mailroom_.pop();
      return true;
    }
    // Out of the ring before any Python code runs: that may read the ring itself.
    std::memcpy(copy.data(), in_ring.data(), in_ring.size());
    mailroom_.pop();
  }
  std::span<const std::uint8_t> body(copy.data(), in_ring.size());
  channel::FrameLoans loans = mailroom_.loans_of(header, body);
  serve(main_, header, body, loans);
  return true;
}

// The loop of a thread when a router reads the ring: the exit code, or -1 when a signal handler has raised.
int Worker::serve_as_lane(Lane& lane) noexcept {
  while (!ends() && !mailroom_.broken() && !outbox_.broken()) {
    if (auto call = mailroom_.take_call()) {
      serve(lane, call->header, call->body, call->loans);
      continue;
    }
    lane.parker.reset();
    if (mailroom_.spin(lane, true)) continue;
    // A signal that came meanwhile interrupts no sleep.
    if (lane.is_main && PyErr_CheckSignals() != 0) return -1;
    mailroom_.set_idle(lane, true);
    if (!mailroom_.has_calls() && !ends()) {
      const python::GilRelease without_gil;
      lane.parker.park(rest_limit());
      if (!mailroom_.has_calls()) {
        if (!lane.is_main && lane.used && idle_.is_over(monotonic_ns())) {
          lane.used = false;
          os::heap::trim_own();
        }
        trim_when_due();
      }
    }
    mailroom_.set_idle(lane, false);
    if (lane.is_main && PyErr_CheckSignals() != 0) return -1;
  }
  return ends() ? 0 : kChannelBroke;
}

bool Worker::start_router() noexcept {
  const int failed = mailroom_.router().start(life_.stop_flag(), direct_);
  if (failed == 0) return true;
  PyErr_Format(PyExc_OSError, "the router thread could not be started: %s", std::strerror(failed));
  return false;
}

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

void Worker::serve_as_thread() noexcept {
  Lane lane;
  enter_lane(lane);
  serve_as_lane(lane);
  leave_lane(lane);
}

// On the LifeWatch's thread, without the GIL.
bool Worker::interrupt(std::uint64_t id) noexcept { return mailroom_.cancels().cancel(id); }

void Worker::interrupt_lanes() noexcept {
  for (;;) {
    const python::SubstituteLock lock(interrupting_);
    auto* const lane = static_cast<Lane*>(mailroom_.cancels().begin_interrupt(settings_.signal == 0));
    if (!lane) return;
    PyThreadState_SetAsyncExc(lane->python_thread, codec_.cancelled.get());
    lane->parker.unpark();
  }
}

// Whether there was one: it has been raised, or is on its way.
bool Worker::take_back_interrupt(Lane& lane) noexcept {
  {
    const python::SubstituteLock lock(interrupting_);
    if (!lane.interrupted.exchange(false)) return false;
  }
  python::take_back_cancelled(codec_);
  // One for a call that this one was made for may have come since, and have gone the same way.
  const python::SubstituteLock lock(interrupting_);
  if (lane.interrupted) PyThreadState_SetAsyncExc(lane.python_thread, codec_.cancelled.get());
  return true;
}

// On the LifeWatch's thread.
void Worker::interrupt_now() noexcept {
  {
    const python::AttachGuard attach(interpreter_);
    if (attach.attached()) interrupt_lanes();
  }
  // The main thread may wait for an answer there.
  channel::wake_from(header_.worker_word.value, channel::kAsleep);
}

// On the LifeWatch's thread: a picture takes too long.
bool Worker::alarm() noexcept {
  if (!pictures_.is_late()) return false;
  if (settings_.signal != 0) return true;
  const python::AttachGuard attach(interpreter_);
  if (attach.attached()) pictures_.interrupt(codec_.cancelled.get());
  return false;
}

bool Worker::raise_if_cancelled() noexcept {
  if (pictures_.is_late_here()) {
    PyErr_SetString(codec_.cancelled.get(), "the repr takes too long");
    return true;
  }
  pictures_.interrupt(codec_.cancelled.get());
  // The next signal may come while this one is dealt with, where that runs Python code. What it raised there
  // would be lost, so it raises nothing: its call is looked at below.
  if (interrupts_lanes_) return false;
  interrupts_lanes_ = true;
  interrupt_lanes();
  interrupts_lanes_ = false;
  return mailroom_.cancels().take_interrupt(main_) && raise_cancelled(main_);
}

}  // namespace typhon::executor
