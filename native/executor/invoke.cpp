// What a request calls: the function behind its module and name, or what Typhon does with an object.
#include <algorithm>
#include <array>
#include <utility>

#include "executor/worker.h"

namespace typhon::executor {

using python::PyRef;

namespace {

bool is_ascii(PyObject* text) noexcept {
  Py_ssize_t bytes = 0;
  if (PyUnicode_AsUTF8AndSize(text, &bytes)) return bytes == PyUnicode_GetLength(text);
  PyErr_Clear();
  return true;
}

// Whether a builtin of this name looks into the namespace of whoever calls it.
bool looks_at_its_caller(PyObject* name) noexcept {
  constexpr std::array<const char*, 6> kNames{"exec", "eval", "globals", "locals", "vars", "dir"};
  return std::ranges::any_of(
      kNames, [name](const char* one) { return PyUnicode_CompareWithASCIIString(name, one) == 0; });
}

// Names of attributes never begin with a dot.
bool is_operation(PyObject* name) noexcept {
  return PyUnicode_Check(name) && PyUnicode_GetLength(name) > 1 && PyUnicode_ReadChar(name, 0) == '.';
}

// A name beyond ASCII was not found, and an exception is set. Python may have it in the form that its parser
// gives to identifiers; if not, the exception stays.
PyRef find_normal(PyObject* target, PyObject* path) noexcept {
  const bool missing = PyErr_ExceptionMatches(PyExc_AttributeError) != 0 ||
                       PyErr_ExceptionMatches(PyExc_ModuleNotFoundError) != 0;
  if (!missing) return {};
  const PyRef error = current_exception();
  if (!is_ascii(path) || (PyUnicode_Check(target) && !is_ascii(target))) {
    const PyRef names = PyRef::steal(PyImport_ImportModule("typhon._names"));
    const PyRef found =
        names ? PyRef::steal(PyObject_CallMethod(names.get(), "find", "OO", target, path)) : PyRef();
    if (!found) return {};
    if (PyTuple_Check(found.get())) return PyRef::borrow(PyTuple_GetItem(found.get(), 0));
  }
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.get())), error.get());
  return {};
}

}  // namespace

void Worker::set_invoke(PyObject* function) noexcept {
  PyRef changed = function == Py_None ? PyRef() : PyRef::borrow(function);
  const python::SubstituteLock lock(shared_);
  invokes_.store(static_cast<bool>(changed), std::memory_order_relaxed);
  std::swap(invoke_, changed);
}

PyRef Worker::invoke(PyObject* request, bool of_object) noexcept {
  if (invokes_.load(std::memory_order_relaxed)) [[unlikely]] {
    PyRef function;
    {
      const python::SubstituteLock lock(shared_);
      function = PyRef::borrow(invoke_);
    }
    if (function)
      return PyRef::steal(PyObject_CallFunctionObjArgs(function.get(), PyTuple_GetItem(request, 0),
                                                       PyTuple_GetItem(request, 1),
                                                       PyTuple_GetItem(request, 2), nullptr));
  }
  PyObject* const target = PyTuple_GetItem(request, 0);
  PyObject* const path = PyTuple_GetItem(request, 1);
  PyObject* list = PyTuple_GetItem(request, 2);
  PyObject* kwargs = PyTuple_GetItem(request, 3);
  if (of_object && is_operation(path)) return operate(target, path, list, kwargs);
  const PyRef function = resolve(target, path, of_object);
  if (!function) return {};
  if (!PyList_Check(list) || !PyDict_Check(kwargs)) {
    PyErr_SetString(PyExc_TypeError, "args must be a list and kwargs a map");
    return {};
  }
  const PyRef args = PyRef::steal(PyList_AsTuple(list));
  if (!args) return {};
  return PyRef::steal(PyObject_Call(function.get(), args.get(), PyDict_Size(kwargs) != 0 ? kwargs : nullptr));
}

// What Typhon.get and the other functions on objects do, by its name with a dot before it.
PyRef Worker::operate(PyObject* target, PyObject* name, PyObject* args, PyObject* kwargs) noexcept {
  const PyRef operations = remembered(operations_, "typhon._objects", "OPERATIONS");
  if (!operations) return {};
  if (!PyList_Check(args) || !PyDict_Check(kwargs)) {
    PyErr_SetString(PyExc_TypeError, "args must be a list and kwargs a map");
    return {};
  }
  const PyRef function = PyRef::borrow(PyDict_GetItemWithError(operations.get(), name));
  if (!function) {
    if (!PyErr_Occurred()) PyErr_Format(PyExc_AttributeError, "Typhon has no operation %R", name);
    return {};
  }
  PyRef object = PyRef::borrow(target);
  if (PyCFunction_Check(target) && PyUnicode_CompareWithASCIIString(name, ".call") == 0)
    object = not_looking(std::move(object));
  const Py_ssize_t count = PyList_Size(args);
  const PyRef all = object ? PyRef::steal(PyTuple_New(count + 1)) : PyRef();
  if (!all) return {};
  PyTuple_SetItem(all.get(), 0, object.release());
  for (Py_ssize_t i = 0; i < count; ++i)
    PyTuple_SetItem(all.get(), i + 1, PyRef::borrow(PyList_GetItem(args, i)).release());
  return PyRef::steal(PyObject_Call(function.get(), all.get(), PyDict_Size(kwargs) != 0 ? kwargs : nullptr));
}

// `target`: a module's name, or an object that a handle stood for. `path`: attributes, with dots between.
PyRef Worker::resolve(PyObject* target, PyObject* path, bool of_object) noexcept {
  if (settings_.erlport != 0 && PyBytes_Check(target) && PyBytes_Check(path)) {
    const PyRef module = PyRef::steal(PyUnicode_FromEncodedObject(target, "utf-8", "strict"));
    const PyRef names = module ? PyRef::steal(PyUnicode_FromEncodedObject(path, "utf-8", "strict")) : PyRef();
    return names ? resolve(module.get(), names.get(), false) : PyRef();
  }
  if (!PyUnicode_Check(path)) {
    PyErr_SetString(PyExc_TypeError, "the function must be an atom or a string");
    return {};
  }
  PyRef found = look_up(target, path, of_object);
  // Of a str, which is taken for a module's name there, all names are ASCII.
  if (!found) return of_object && PyUnicode_Check(target) ? PyRef() : find_normal(target, path);
  if (!PyCFunction_Check(found.get()) || !looks_at_its_caller(path)) [[likely]]
    return found;
  return not_looking(std::move(found));
}

// What stands in for a builtin that looks into the namespace of its caller; other functions as they are.
PyRef Worker::not_looking(PyRef function) noexcept {
  const PyRef instead = remembered(instead_function_, "typhon._namespace", "instead");
  return instead ? PyRef::steal(PyObject_CallFunctionObjArgs(instead.get(), function.get(), nullptr))
                 : PyRef();
}

// By these very names.
PyRef Worker::look_up(PyObject* target, PyObject* path, bool of_object) noexcept {
  PyRef found;
  if (!of_object && PyUnicode_Check(target)) {
#ifdef Py_GIL_DISABLED
    PyObject* module = nullptr;
    if (PyDict_GetItemRef(modules_.get(), target, &module) < 0) return {};
    found = PyRef::steal(module);
#else
    found = PyRef::borrow(PyDict_GetItemWithError(modules_.get(), target));
    if (!found && PyErr_Occurred()) return {};
#endif
    // With several threads another one may just be importing it: the import waits for that.
    if (!found || found.get() == Py_None || mailroom_.routed()) found = PyRef::steal(PyImport_Import(target));
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

// Whether the function that was called is a coroutine function itself, and not one that returned a coroutine
// this time: such a one may do anything else the next time, and the loop must not wait for it.
bool Worker::is_coroutine_of(const Served& call, PyObject* coroutine) noexcept {
  const bool of_object = is_of_object(call.header);
  if (of_object && is_operation(call.function.get())) return false;
  const PyRef function = resolve(call.module.get(), call.function.get(), of_object);
  const PyRef code = function ? PyRef::steal(PyObject_GetAttrString(function.get(), "__code__")) : PyRef();
  const PyRef runs = code ? PyRef::steal(PyObject_GetAttrString(coroutine, "cr_code")) : PyRef();
  if (!runs) PyErr_Clear();
  return runs && runs.get() == code.get();
}

// module.name, imported when it is first needed. Empty with an exception set on failure.
PyRef Worker::remembered(PyRef& place, const char* module_name, const char* name) noexcept {
  {
    const python::SubstituteLock lock(shared_);
    if (place) return PyRef::borrow(place);
  }
  const PyRef module = PyRef::steal(PyImport_ImportModule(module_name));
  PyRef found = module ? PyRef::steal(PyObject_GetAttrString(module.get(), name)) : PyRef();
  if (!found) return {};
  const python::SubstituteLock lock(shared_);
  if (!place) place = PyRef::borrow(found);
  return found;
}

}  // namespace typhon::executor
