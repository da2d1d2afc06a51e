// The functions of typhon._native that typhon._beam and typhon._aio are made of.
#include <algorithm>
#include <cstring>

#include "executor/leave_child.h"
#include "executor/worker.h"
#include "os/clock.h"
#include "os/heap.h"
#include "python/gil.h"
#include "worker/forked.h"

namespace typhon::executor {

using python::PyRef;

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
  } else if (worker->is_over()) {
    PyErr_SetString(PyExc_RuntimeError, "this worker of Typhon has ended: nobody hears it any more");
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

PyObject* ask(PyObject* module, PyObject* const* args, Py_ssize_t count) noexcept {
  std::uint64_t call = 0;
  Worker* worker = worker_of(module);
  if (!worker) return nullptr;
  if (count < 2 || count > 4) {
    PyErr_Format(PyExc_TypeError,
                 "ask() takes a question, a call, the call that waits and whether it serves all, not %zd "
                 "arguments",
                 count);
    return nullptr;
  }
  std::uint64_t waits_for = 0;
  if (!get_call(args[1], call) || !get_call(args[count > 2 ? 2 : 1], waits_for)) return nullptr;
  const int serves_all = count > 3 ? PyObject_IsTrue(args[3]) : 0;
  return serves_all < 0 ? nullptr : worker->ask(args[0], call, waits_for, serves_all != 0);
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
  PyObject* of = nullptr;
  std::uint64_t call = 0;
  Worker* worker = worker_of(module);
  if (!worker || !PyArg_ParseTuple(args, "dO", &seconds, &of) || !get_call(of, call)) return nullptr;
  constexpr double kLongest = 9e9;
  const std::int64_t limit_ns =
      seconds < 0 ? -1 : static_cast<std::int64_t>(std::min(seconds, kLongest) * 1e9);
  return worker->receive(limit_ns, call);
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

PyObject* serves_for(PyObject* module, PyObject* call) noexcept {
  Worker* worker = worker_of(module);
  const std::uint64_t id = worker ? PyLong_AsUnsignedLongLong(call) : 0;
  return !worker || PyErr_Occurred() ? nullptr : PyBool_FromLong(worker->serves_for(id));
}

PyObject* serve_one_for(PyObject* module, PyObject* call) noexcept {
  Worker* worker = worker_of(module);
  const std::uint64_t id = worker ? PyLong_AsUnsignedLongLong(call) : 0;
  return !worker || PyErr_Occurred() ? nullptr : PyBool_FromLong(worker->serve_one_for(id));
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
    {"ask", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(ask)), METH_FASTCALL,
     "ask(term, call | None, waits_for=call, serves_all=False) -> (ok, value)"},
    {"tell", tell, METH_VARARGS, "tell(term, call | None)"},
    {"send", send, METH_VARARGS, "send(pid, message)"},
    {"receive", receive, METH_VARARGS, "receive(seconds, call | None) -> message; negative: no limit"},
    {"message_now", message_now, METH_NOARGS, "message_now() -> (message,) | None"},
    {"set_handler", set_handler, METH_O, "set_handler(function | None)"},
    {"set_invoke", set_invoke, METH_O, "set_invoke(function | None)"},
    {"this_call", this_call, METH_NOARGS, "this_call() -> id of the call that this thread serves, or 0"},
    {"serves_for", serves_for, METH_O,
     "serves_for(call) -> whether the call of this thread belongs to an answer that `call` waits for"},
    {"serve_one_for", serve_one_for, METH_O,
     "serve_one_for(call) -> whether there was a call to serve that belongs to such an answer"},
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

int add_exports(PyObject* module) noexcept { return PyModule_AddFunctions(module, functions); }

}  // namespace typhon::executor
