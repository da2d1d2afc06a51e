// Which threads are in the midst of an import. Whatever loads a module goes through one of a few functions of
// importlib, which the interpreter looks up by their names each time. Functions in C stand in their places,
// tell the worker before and after, and leave no frame in tracebacks. A module that is there already is found
// without them.
#include <array>
#include <string_view>

#include "executor/worker.h"
#include "worker/forked.h"

namespace typhon::executor {
namespace {

using python::PyRef;

// Finds and loads; waits for another thread that loads; runs a module's code (reload, lazy loaders).
constexpr std::array<const char*, 3> kFunctions{"_find_and_load", "_lock_unlock_module",
                                                "_call_with_frames_removed"};

// What is imported, for messages: a name, or (function, code, namespace) of a module.
PyRef name_in(PyObject* args) noexcept {
  PyObject* const first = PyTuple_Size(args) > 0 ? PyTuple_GetItem(args, 0) : nullptr;
  if (first && PyUnicode_Check(first)) return PyRef::borrow(first);
  PyObject* const names = PyTuple_Size(args) == 3 ? PyTuple_GetItem(args, 2) : nullptr;
  if (!names || !PyDict_Check(names)) return {};
  return PyRef::borrow(PyDict_GetItemString(names, "__name__"));
}

// `self`: (typhon._native, the function of importlib).
PyObject* import_watched(PyObject* self, PyObject* args, PyObject* kwargs) noexcept {
  PyObject* const function = PyTuple_GetItem(self, 1);
  auto* const slot = static_cast<ExecutorSlot*>(PyModule_GetState(PyTuple_GetItem(self, 0)));
  // A child has a copy of the worker as it was, and of locks that somebody had who is not there.
  Worker* const worker = slot && !worker::in_forked_child() ? slot->worker : nullptr;
  const std::optional<Lane*> thread = worker ? worker->begin_import(name_in(args).get()) : std::nullopt;
  PyObject* const result = PyObject_Call(function, args, kwargs);
  // A thread of the worker's own: so the worker is there as long as this.
  if (thread && !worker::in_forked_child()) worker->end_import(*thread);
  return result;
}

PyMethodDef import_watched_method = {
    "import_watched", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(import_watched)),
    METH_VARARGS | METH_KEYWORDS, nullptr};

}  // namespace

bool watch_imports(PyObject* module) noexcept {
  auto* const slot = static_cast<ExecutorSlot*>(PyModule_GetState(module));
  if (slot->watches_imports) return true;
  const PyRef importlib = PyRef::steal(PyImport_ImportModule("_frozen_importlib"));
  if (!importlib) return false;
  for (const char* name : kFunctions) {
    const PyRef function = PyRef::steal(PyObject_GetAttrString(importlib.get(), name));
    const PyRef self = function ? PyRef::steal(PyTuple_Pack(2, module, function.get())) : PyRef();
    const PyRef watched =
        self ? PyRef::steal(PyCFunction_NewEx(&import_watched_method, self.get(), nullptr)) : PyRef();
    if (!watched || PyObject_SetAttrString(importlib.get(), name, watched.get()) != 0) return false;
  }
  slot->watches_imports = true;
  return true;
}

std::optional<Lane*> Worker::begin_import(PyObject* name) noexcept {
  Lane* lane = this_lane();
  if (!lane && PyThread_get_thread_ident() != loop_thread_.load(std::memory_order_relaxed))
    return std::nullopt;
  Py_ssize_t size = 0;
  const char* const text = name && PyUnicode_Check(name) ? PyUnicode_AsUTF8AndSize(name, &size) : nullptr;
  if (!text) PyErr_Clear();
  mailroom_.cancels().begin_import(
      lane, text ? std::string_view(text, static_cast<std::size_t>(size)) : std::string_view());
  return lane;
}

}  // namespace typhon::executor
