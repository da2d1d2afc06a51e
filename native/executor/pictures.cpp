#include "executor/pictures.h"

#include <new>
#include <utility>

#include "executor/worker.h"
#include "os/clock.h"
#include "python/errors.h"

namespace typhon::executor {

using python::PyRef;

bool Pictures::begin(Lane* lane, std::int64_t limit_ns) noexcept {
  {
    const python::SubstituteLock lock(interrupting_);
    if (thread_.load(std::memory_order_relaxed) != 0) return false;
    lane_ = lane;
    sent_ = false;
    late_.store(false, std::memory_order_relaxed);
    until_.store(os::monotonic_ns() + static_cast<std::uint64_t>(limit_ns), std::memory_order_relaxed);
    thread_.store(PyThread_get_thread_ident(), std::memory_order_seq_cst);
  }
  if (armed_.exchange(true, std::memory_order_seq_cst) || life_.set_alarm(limit_ns)) return true;
  armed_.store(false, std::memory_order_relaxed);
  const python::SubstituteLock lock(interrupting_);
  thread_.store(0, std::memory_order_release);
  return false;
}

bool Pictures::end(python::ModuleState& codec) noexcept {
  bool late = false;
  bool sent = false;
  Lane* lane = nullptr;
  {
    const python::SubstituteLock lock(interrupting_);
    late = late_.exchange(false, std::memory_order_acq_rel);
    sent = std::exchange(sent_, false);
    lane = std::exchange(lane_, nullptr);
    thread_.store(0, std::memory_order_release);
  }
  // An interrupt that was raised in the picture, and is not for that.
  bool stray = !late && PyErr_Occurred() != nullptr && PyErr_ExceptionMatches(codec.cancelled.get()) != 0;
  PyErr_Clear();
  if (sent) python::take_back_cancelled(codec);
  const python::SubstituteLock lock(interrupting_);
  // That of a call which this one was made for may have gone the same way.
  if (sent && lane && lane->interrupted) stray = true;
  if (stray) PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), codec.cancelled.get());
  return late;
}

bool Pictures::is_late() noexcept {
  if (thread_.load(std::memory_order_acquire) == 0) {
    armed_.store(false, std::memory_order_seq_cst);
    // One may have begun since, and have found it armed.
    if (thread_.load(std::memory_order_seq_cst) == 0 || armed_.exchange(true, std::memory_order_seq_cst))
      return false;
  }
  const std::uint64_t now = os::monotonic_ns();
  const std::uint64_t until = until_.load(std::memory_order_acquire);
  if (now < until) {
    life_.set_alarm(static_cast<std::int64_t>(until - now));
    return false;
  }
  late_.store(true, std::memory_order_release);
  // What interrupts it may come just before a system call, or be caught.
  life_.set_alarm(kAgainNs);
  return true;
}

void Pictures::interrupt(PyObject* cancelled) noexcept {
  const python::SubstituteLock lock(interrupting_);
  const unsigned long thread = thread_.load(std::memory_order_acquire);
  if (thread == 0 || sent_ || !late_.load(std::memory_order_acquire)) return;
  sent_ = true;
  PyThreadState_SetAsyncExc(thread, cancelled);
  if (lane_ != nullptr) lane_->parker.unpark();
}

bool Pictures::is_late_here() noexcept {
  return late_.load(std::memory_order_acquire) &&
         thread_.load(std::memory_order_acquire) == PyThread_get_thread_ident();
}

namespace {

// Nothing but the name of its class and an address.
bool has_own_repr(PyObject* object) noexcept {
  return PyType_GetSlot(Py_TYPE(object), Py_tp_repr) != PyType_GetSlot(&PyBaseObject_Type, Py_tp_repr);
}

}  // namespace

bool Painting::paint(PyObject* object, std::string& text) noexcept {
  if (over_ || !has_own_repr(object)) return false;
  const std::uint64_t now = os::monotonic_ns();
  if (until_ == 0) until_ = now + static_cast<std::uint64_t>(Pictures::kLimitNs);
  if (now >= until_) {
    over_ = true;
    return false;
  }
  const PyRef picture = worker_.remembered(worker_.picture_function_, "typhon._picture", "picture");
  if (!picture) PyErr_Clear();
  if (!picture || !worker_.pictures_.begin(worker_.this_lane(), static_cast<std::int64_t>(until_ - now))) {
    over_ = true;
    return false;
  }
  const PyRef made = PyRef::steal(PyObject_CallFunctionObjArgs(picture.get(), object, nullptr));
  over_ = worker_.pictures_.end(worker_.codec_);
  if (!made || over_ || PyBytes_Check(made.get()) == 0) return false;
  try {
    text.assign(PyBytes_AsString(made.get()), static_cast<std::size_t>(PyBytes_Size(made.get())));
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

}  // namespace typhon::executor
