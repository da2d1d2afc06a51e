// Sections: what Typhon's own Python does around code of the user's, with no interrupt in the midst of it.
//
// An exception that another thread sends may come between any two instructions of Python's: before a `try`,
// or as the first thing in a `finally`. It comes neither between __enter__ and the body of a `with`, nor
// between that and
// __exit__, when these are functions in C, and these keep interrupts away while they run.
#include "executor/section.h"

#include <utility>

#include "executor/worker.h"
#include "python/errors.h"
#include "python/types/heap_type.h"
#include "worker/forked.h"

namespace typhon::executor {
namespace {

using python::PyRef;

// No interrupt comes to this thread for as long as it is there.
class Whole {
 public:
  explicit Whole(ExecutorSlot* slot) noexcept
      : worker_(slot && !worker::in_forked_child() ? slot->worker : nullptr),
        lane_(worker_ ? worker_->begin_section() : nullptr) {}
  ~Whole() {
    if (lane_ && !worker::in_forked_child()) worker_->end_section(*lane_);
  }
  Whole(const Whole&) = delete;
  Whole& operator=(const Whole&) = delete;

 private:
  Worker* const worker_;
  Lane* const lane_;
};

struct Section {
  PyObject_HEAD
  PyObject* before;
  PyObject* after;
};

PyObject* run_whole(PyObject* self, PyObject* function) noexcept {
  const Whole whole(static_cast<ExecutorSlot*>(PyType_GetModuleState(Py_TYPE(self))));
  return PyObject_CallNoArgs(function);
}

PyObject* make_section(PyTypeObject* type, PyObject* args, PyObject*) noexcept {
  PyObject* before = nullptr;
  PyObject* after = nullptr;
  if (PyArg_ParseTuple(args, "OO", &before, &after) == 0) return nullptr;
  auto* const section =
      reinterpret_cast<Section*>(reinterpret_cast<allocfunc>(PyType_GetSlot(type, Py_tp_alloc))(type, 0));
  if (!section) return nullptr;
  section->before = python::take(before);
  section->after = python::take(after);
  return reinterpret_cast<PyObject*>(section);
}

PyObject* enter_section(PyObject* self, PyObject*) noexcept {
  return run_whole(self, reinterpret_cast<Section*>(self)->before);
}

// What was raised in the body goes on.
PyObject* exit_section(PyObject* self, PyObject*) noexcept {
  const PyRef done = PyRef::steal(run_whole(self, reinterpret_cast<Section*>(self)->after));
  return done ? PyBool_FromLong(0) : nullptr;
}

int traverse_section(PyObject* self, visitproc visit, void* arg) noexcept {
  auto* const section = reinterpret_cast<Section*>(self);
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(section->before);
  Py_VISIT(section->after);
  return 0;
}

int clear_section(PyObject* self) noexcept {
  auto* const section = reinterpret_cast<Section*>(self);
  Py_CLEAR(section->before);
  Py_CLEAR(section->after);
  return 0;
}

void destroy_section(PyObject* self) noexcept {
  PyTypeObject* const type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  clear_section(self);
  PyObject_GC_Del(self);
  python::drop(reinterpret_cast<PyObject*>(type));
}

PyMethodDef methods[] = {
    {"__enter__", enter_section, METH_NOARGS, "Calls `before`, and gives what that returns."},
    {"__exit__", exit_section, METH_VARARGS, "Calls `after`."},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(make_section)},
    {Py_tp_traverse, reinterpret_cast<void*>(traverse_section)},
    {Py_tp_clear, reinterpret_cast<void*>(clear_section)},
    {Py_tp_dealloc, reinterpret_cast<void*>(destroy_section)},
    {Py_tp_methods, methods},
    {Py_tp_doc, const_cast<char*>("Section(before, after): `with` calls both, each without an interrupt.")},
    {0, nullptr},
};

PyType_Spec spec = {"typhon._native.Section", sizeof(Section), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
                    slots};

// then(function, args, next): next(function(*args)). No interrupt comes from when the function has returned.
PyObject* then(PyObject* module, PyObject* args) noexcept {
  PyObject* function = nullptr;
  PyObject* given = nullptr;
  PyObject* next = nullptr;
  if (PyArg_ParseTuple(args, "OO!O", &function, &PyTuple_Type, &given, &next) == 0) return nullptr;
  const PyRef value = PyRef::steal(PyObject_CallObject(function, given));
  if (!value) return nullptr;
  const Whole whole(static_cast<ExecutorSlot*>(PyModule_GetState(module)));
  return PyObject_CallFunctionObjArgs(next, value.get(), nullptr);
}

PyMethodDef functions[] = {
    {"then", then, METH_VARARGS, "then(function, args, next) -> next(function(*args))"},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

int add_sections(PyObject* module) noexcept {
  const PyRef type = PyRef::steal(PyType_FromModuleAndSpec(module, &spec, nullptr));
  if (!type || PyModule_AddObjectRef(module, "Section", type.get()) != 0) return -1;
  return PyModule_AddFunctions(module, functions);
}

Lane* Worker::begin_section() noexcept {
  Lane* const lane = this_lane();
  if (!lane) return nullptr;
  {
    const python::SubstituteLock lock(interrupting_);
    mailroom_.cancels().begin_section(*lane);
  }
  // What is on its way already is sent once more when the section is over.
  if (lane->interrupted && python::take_back_cancelled(codec_)) {
    const python::SubstituteLock lock(interrupting_);
    lane->interrupted = false;
    mailroom_.cancels().renew(*lane);
  }
  return lane;
}

// What was kept away comes now.
void Worker::end_section(Lane& lane) noexcept {
  const python::SubstituteLock lock(interrupting_);
  mailroom_.cancels().end_section(lane);
  if (!mailroom_.cancels().take_interrupt(lane)) return;
  lane.interrupted = true;
  PyThreadState_SetAsyncExc(lane.python_thread, codec_.cancelled.get());
}

}  // namespace typhon::executor
