// Worker: the event loop's side of calls, of questions and of messages.
#include <utility>

#include "executor/leave_child.h"
#include "executor/questions.h"
#include "executor/worker.h"
#include "worker/forked.h"

namespace typhon::executor {

using python::PyRef;

int Worker::loop_attach() noexcept {
  if (!start_router()) return -1;
  const int fd = mailroom_.loop().attach();
  if (fd < 0) PyErr_SetFromErrno(PyExc_OSError);
  return fd;
}

PyObject* Worker::loop_take() noexcept {
  // Some at a time: the loop has other things to do, too. It is called again at once.
  constexpr int kAtOnce = 512;
  mailroom_.loop().clear_signal();
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
    auto frame = mailroom_.loop().take_call();
    if (!frame) break;
    ++count;
    if (!mailroom_.claim(frame->header)) continue;
    if (is_given_up(frame->header)) {
      refuse(frame->header, frame->body);
      continue;
    }
    Served call{frame->header};
    if (frame->header.times[3] != 0 && frame->header.id != 0) set_captured(frame->header.id, true);
    const PyRef request = decode_request(frame->header, frame->body, frame->loans);
    call.timings.add(worker::Timings::Part::kDecoding);
    PyRef result = request ? invoke(request.get(), is_of_object(frame->header)) : PyRef();
    call.timings.add(worker::Timings::Part::kRunning);
    if (worker::in_forked_child()) leave_child(std::move(result));
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
      if (result) mailroom_.loop().note_coroutine(frame->body, false);
      if (!result || !reply(call, result.get())) fail(call, current_exception());
      set_captured(frame->header.id, false);
    }
  }
  if (count == kAtOnce) mailroom_.loop().ring();
  while (auto answer = mailroom_.loop().take_answer()) {
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
  while (const auto id = mailroom_.loop().take_cancel()) {
    if (!add(cancels, PyLong_FromUnsignedLongLong(*id))) return nullptr;
  }
  return PyTuple_Pack(3, calls.get(), answers.get(), cancels.get());
}

std::uint64_t Worker::loop_ask(PyObject* term, std::uint64_t call) noexcept {
  if (loop_attach() < 0) return 0;
  const std::uint64_t of = in_name_of(call);
  if (of == 0 && !take_turn()) return 0;
  const std::uint64_t tag = new_tag(of);
  if (of == 0) {
    const python::SubstituteLock lock(shared_);
    unnamed_tags_.insert(tag);
  }
  mailroom_.loop().expect_answer(tag);
  if (send_ask(term, of, tag, question_parts(term), "call")) return tag;
  mailroom_.loop().forget_answer(tag);
  end_loop_turn(tag);
  return 0;
}

void Worker::loop_forget(std::uint64_t tag) noexcept {
  mailroom_.loop().forget_answer(tag);
  end_loop_turn(tag);
}

void Worker::end_loop_turn(std::uint64_t tag) noexcept {
  const python::SubstituteLock lock(shared_);
  asked_by_.erase(tag);
  open_questions_ -= static_cast<std::uint32_t>(unnamed_tags_.erase(tag));
}

// The event loop's thread has waited in the name of a call that is given up, and an exception is set that
// says so. When it is raised in the call's own task, that is told by it alone.
void Worker::tell_task(std::uint64_t call) noexcept {
  if (PyThread_get_thread_ident() != loop_thread_.load(std::memory_order_relaxed)) return;
  const PyRef error = current_exception();
  const PyRef told = remembered(told_, "typhon._aio", "told");
  if (!told || !PyRef::steal(PyObject_CallFunction(told.get(), "K", static_cast<unsigned long long>(call))))
    PyErr_Clear();
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.get())), error.get());
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
  Served call{entry.header, entry.timings};
  call.timings.add(worker::Timings::Part::kRunning);
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

}  // namespace typhon::executor
