// run_worker(beam_pid, fd, control_fd, greeting, settings, coroutine_type, prepare): the door from
// typhon._worker to the Worker.

#include <signal.h>

#include <cstdio>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "executor/arena_cache.h"
#include "executor/limits.h"
#include "executor/memory_limit.h"
#include "executor/worker.h"
#include "os/descriptor.h"
#include "os/heap.h"
#include "worker/address_space.h"
#include "worker/attach.h"

namespace typhon::executor {
namespace {

using python::ModuleState;
using python::PyRef;

constexpr const char* kWorkerCapsule = "typhon.worker";

PyObject* handle_cancel(PyObject* capsule, PyObject*) noexcept {
  auto* worker = static_cast<Worker*>(PyCapsule_GetPointer(capsule, kWorkerCapsule));
  if (!worker || worker->raise_if_cancelled()) return nullptr;
  Py_RETURN_NONE;
}

PyMethodDef handle_cancel_method = {"typhon_cancel", handle_cancel, METH_VARARGS, nullptr};

// typhon._embedded leaves the true function under another name.
bool set_signal(unsigned signal, PyObject* handler) noexcept {
  const PyRef module = PyRef::steal(PyImport_ImportModule("_signal"));
  if (!module) return false;
  PyRef set = PyRef::steal(PyObject_GetAttrString(module.get(), "_typhon_signal"));
  if (!set) {
    PyErr_Clear();
    set = PyRef::steal(PyObject_GetAttrString(module.get(), "signal"));
  }
  return set && PyRef::steal(PyObject_CallFunction(set.get(), "iO", static_cast<int>(signal), handler));
}

// _signal rather than signal: the latter's import costs a worker's start a millisecond.
bool install_cancel_handler(Worker* worker, unsigned signal) noexcept {
  if (signal == 0) return true;
  const PyRef capsule = PyRef::steal(PyCapsule_New(worker, kWorkerCapsule, nullptr));
  const PyRef handler =
      capsule ? PyRef::steal(PyCFunction_NewEx(&handle_cancel_method, capsule.get(), nullptr)) : PyRef();
  return handler && set_signal(signal, handler.get());
}

// For the rest of the process's life: Python's end puts the default action back, and that would be its death.
void refuse_cancel_signal(unsigned signal) noexcept {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, static_cast<int>(signal));
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

// A setting that is not there stays as it is.
bool get_setting(PyObject* settings, const char* name, unsigned& value) noexcept {
  PyObject* const found = PyDict_GetItemString(settings, name);
  if (!found) return true;
  const unsigned long number = PyLong_AsUnsignedLong(found);
  if (PyErr_Occurred()) return false;
  value = static_cast<unsigned>(number);
  return true;
}

PyObject* run_worker(PyObject* module, PyObject* args) noexcept {
  int beam_pid = 0;
  int fd = 0;
  int control = 0;
  PyObject* greeting = nullptr;
  PyObject* settings = nullptr;
  PyObject* coroutine_type = nullptr;
  PyObject* prepare = nullptr;
  if (!PyArg_ParseTuple(args, "iiiOO!OO", &beam_pid, &fd, &control, &greeting, &PyDict_Type, &settings,
                        &coroutine_type, &prepare)) {
    return nullptr;
  }
  WorkerSettings wanted;
  if (!get_setting(settings, "concurrency", wanted.concurrency) ||
      !get_setting(settings, "erlport", wanted.erlport) ||
      !get_setting(settings, "capture", wanted.capture) || !get_setting(settings, "signal", wanted.signal) ||
      !get_setting(settings, "surrogates", wanted.surrogates)) {
    return nullptr;
  }
  try {
    os::UniqueFd control_fd(control);
    os::heap::keep_large_blocks();
    arena_cache::install();
    // C code's printf must arrive line by line, too: a pipe would be buffered by the block.
    static_cast<void>(std::setvbuf(stdout, nullptr, _IOLBF, 0));
    auto region = worker::attach(beam_pid, fd);
    if (!region.ok()) {
      PyErr_SetString(PyExc_OSError, region.error().message.c_str());
      return nullptr;
    }
    // For the rest of the process, or until wind_up(): threads and views of large arguments refer to it to
    // the very end.
    auto* slot = static_cast<ExecutorSlot*>(PyModule_GetState(module));
    const bool lends = (region.value()->header().flags & channel::kFlagLoans) != 0;
    if (lends && !slot->lender) slot->lender = Lender::create();
    auto* worker = new Worker(ModuleState::of(module), std::move(region).value(), std::move(control_fd),
                              beam_pid, wanted, lends ? slot->lender : nullptr);
    slot->worker = worker;
    if (!install_cancel_handler(worker, wanted.signal) || !watch_imports(module)) return nullptr;
    if (!PyRef::steal(PyObject_CallFunctionObjArgs(prepare, settings, nullptr))) return nullptr;
    // Last, and before the greeting: the channel's region and the threads are part of what is mapped.
    const std::string refused = beam_pid != 0 ? apply_limits(settings) : apply_limits_inside(settings);
    if (!refused.empty()) {
      PyErr_Format(PyExc_OSError, "the operating system refused the limit %s", refused.c_str());
      return nullptr;
    }
    if (limits_memory(settings)) {
      worker->limit_arena(beam_pid != 0 ? worker::address_space_allows : memory_limit::has_room_for);
    }
    const int code = worker->run(module, greeting, coroutine_type);
    if (beam_pid != 0) refuse_cancel_signal(wanted.signal);
    std::fflush(nullptr);  // the process may end without its C library's doing
    return code < 0 ? nullptr : PyLong_FromLong(code);
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  }
}

// False when threads of the worker go on; else let_go() may follow.
PyObject* wind_up(PyObject* module, PyObject*) noexcept {
  memory_limit::lift();
  Worker* worker = static_cast<ExecutorSlot*>(PyModule_GetState(module))->worker;
  if (!worker) Py_RETURN_TRUE;
  if (!worker->wind_up()) Py_RETURN_FALSE;
  if (worker->cancel_signal() == 0) Py_RETURN_TRUE;
  // Not the default: that would end the process, should one come late.
  const PyRef ignore = PyRef::steal(PyLong_FromLong(1));  // SIG_IGN
  if (!ignore || !set_signal(worker->cancel_signal(), ignore.get())) return nullptr;
  Py_RETURN_TRUE;
}

PyObject* let_go(PyObject* module, PyObject*) noexcept {
  auto* slot = static_cast<ExecutorSlot*>(PyModule_GetState(module));
  if (Worker* worker = std::exchange(slot->worker, nullptr)) worker->let_go();
  Py_RETURN_NONE;
}

PyObject* leave(PyObject*, PyObject* code) noexcept {
  const long status = PyLong_AsLong(code);
  if (PyErr_Occurred()) return nullptr;
  worker::LifeWatch::leave(static_cast<int>(status));
}

PyObject* limit_numpy(PyObject*, PyObject* api) noexcept {
  return PyBool_FromLong(memory_limit::watch_numpy(api));
}

PyMethodDef limit_numpy_method = {
    "limit_numpy", limit_numpy, METH_O,
    "limit_numpy(api) -> bool\n\n"
    "The memory limit of a worker inside the BEAM is to hold for numpy's arrays, too. `api`: the capsule of "
    "numpy's C API. False for a numpy that is not known here. For typhon._embedded alone."};

PyMethodDef wind_up_method = {
    "wind_up", wind_up, METH_NOARGS,
    "wind_up() -> bool\n\n"
    "In the BEAM itself, after run_worker(): waits for what it has started. False when that "
    "goes on. For typhon._embedded alone."};

PyMethodDef let_go_method = {"let_go", let_go, METH_NOARGS,
                             "let_go()\n\n"
                             "After wind_up() and whatever may still know of the worker: frees it. For "
                             "typhon._embedded alone."};

PyMethodDef leave_method = {
    "leave", leave, METH_O,
    "leave(code)\n\n"
    "Ends the process at once, with what it has started when the BEAM lets go of it. For "
    "typhon._worker alone."};

PyMethodDef run_worker_method = {
    "run_worker", run_worker, METH_VARARGS,
    "run_worker(beam_pid, fd, control_fd, greeting, settings, coroutine_type, prepare) -> exit code\n\n"
    "Serves the channel until the BEAM lets go of it. For typhon._worker alone."};

}  // namespace

int add_worker(PyObject* module) noexcept {
  const PyRef name = PyRef::steal(PyModule_GetNameObject(module));
  if (!name) return -1;
  for (PyMethodDef* method :
       {&run_worker_method, &leave_method, &wind_up_method, &let_go_method, &limit_numpy_method}) {
    const PyRef function = PyRef::steal(PyCFunction_NewEx(method, module, name.get()));
    if (!function || PyModule_AddObjectRef(module, method->ml_name, function.get()) != 0) return -1;
  }
  return 0;
}

}  // namespace typhon::executor
