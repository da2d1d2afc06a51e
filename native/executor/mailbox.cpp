// Worker: messages from the BEAM, which Python receives or has a handler for.
#include <cstdint>

#include "executor/visit.h"
#include "executor/worker.h"
#include "os/clock.h"

namespace typhon::executor {

using os::monotonic_ns;
using python::PyRef;

PyObject* Worker::message_now() noexcept {
  auto frame = mailroom_.take_message();
  if (!frame) return nullptr;
  note_used();
  python::DecodeOptions options;
  options.root = "message";
  return decode(frame->header, frame->body, frame->loans, options).release();
}

PyObject* Worker::receive(std::int64_t timeout_ns, std::uint64_t waits_for) noexcept {
  const std::uint64_t begun = monotonic_ns();
  Visit visit(*this, waits_for);
  Lane* lane = visit.lane();
  if (!lane) return nullptr;
  mailroom_.set_receiving(*lane, true);
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
        if (lane->is_main && !mailroom_.routed() && !mailroom_.ring_empty() && mailroom_.pump()) continue;
        PyErr_SetString(PyExc_TimeoutError, "no message has come");
        break;
      }
    }
    if (!wait_for_news(*lane, left)) break;
  }
  mailroom_.set_receiving(*lane, false);
  return message;
}

void Worker::set_handler(PyObject* handler) noexcept {
  PyRef changed = handler == Py_None ? PyRef() : PyRef::borrow(handler);
  const bool handles = static_cast<bool>(changed);
  {
    const python::SubstituteLock lock(shared_);
    std::swap(handler_, changed);
  }
  mailroom_.set_handler(handles);
}

}  // namespace typhon::executor
