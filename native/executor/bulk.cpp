#include "executor/bulk.h"

#include "python/bytes_sink.h"
#include "python/codec.h"
#include "python/module_state.h"
#include "python/object_table.h"
#include "python/ref.h"

namespace typhon::executor {
namespace {

using python::ModuleState;
using python::PyRef;

// What every interpreter has one of, and what can always be encoded.
bool is_plain(PyObject* object) noexcept {
  const PyTypeObject* const type = Py_TYPE(object);
  return type == &PyLong_Type || type == &PyFloat_Type || type == &PyBool_Type || type == &PyBytes_Type ||
         object == Py_None;
}

// True, or false with an exception set. The objects that would become handles are let go of again.
bool try_encode(ModuleState& codec, PyObject* object) noexcept {
  python::BytesSink sink;
  python::ObjectTable objects;
  python::EncodeOptions options;
  options.objects = &objects;
  options.root = "result";
  options.max_depth -= 2;  // of the list and the tuple that it will lie in
  return python::encode(codec, object, sink, options);
}

// (index, path, type, reason) of the EncodeError that is set; empty, with the exception set, when it is
// another.
PyRef explain(const ModuleState& codec, Py_ssize_t index) noexcept {
  if (PyErr_ExceptionMatches(codec.encode_error.get()) == 0) return {};
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  const PyRef owned_type = PyRef::steal(type);
  const PyRef error = PyRef::steal(value);
  const PyRef owned_traceback = PyRef::steal(traceback);
  if (!error) return {};
  const PyRef path = PyRef::steal(PyObject_GetAttrString(error.get(), "path"));
  const PyRef kind = path ? PyRef::steal(PyObject_GetAttrString(error.get(), "type_name")) : PyRef();
  const PyRef reason = kind ? PyRef::steal(PyObject_GetAttrString(error.get(), "reason")) : PyRef();
  if (!reason) return {};
  return PyRef::steal(Py_BuildValue("(nOOO)", index, path.get(), kind.get(), reason.get()));
}

PyObject* unencodable(PyObject* module, PyObject* args) noexcept {
  PyObject* results = nullptr;
  PyObject* awaited = nullptr;
  if (!PyArg_ParseTuple(args, "O!|O!:unencodable", &PyList_Type, &results, &PyType_Type, &awaited)) {
    return nullptr;
  }
  PyRef found = PyRef::steal(PyList_New(0));
  if (!found) return nullptr;
  Py_ssize_t first = 0;
  while (first < PyList_Size(results) && is_plain(PyList_GetItem(results, first))) ++first;
  if (first == PyList_Size(results)) return found.release();
  for (Py_ssize_t i = first; awaited && i < PyList_Size(results); ++i) {
    if (reinterpret_cast<PyObject*>(Py_TYPE(PyList_GetItem(results, i))) == awaited) Py_RETURN_NONE;
  }

  ModuleState& codec = ModuleState::of(module);
  if (try_encode(codec, results)) return found.release();
  // One by one, to learn which. Encoding may run Python code: the list is asked for its length each time.
  for (Py_ssize_t i = first;; ++i) {
    if (PyErr_Occurred() != nullptr && PyErr_ExceptionMatches(codec.encode_error.get()) == 0) return nullptr;
    PyErr_Clear();
    if (i >= PyList_Size(results)) return found.release();
    const PyRef item = PyRef::borrow(PyList_GetItem(results, i));
    if (is_plain(item.get()) || try_encode(codec, item.get())) continue;
    const PyRef entry = explain(codec, i);
    if (!entry || PyList_Append(found.get(), entry.get()) != 0) return nullptr;
  }
}

PyMethodDef unencodable_method = {
    "unencodable", unencodable, METH_VARARGS,
    "unencodable($module, results, awaited=None, /)\n--\n\n"
    "Return (index, path, type, reason) of each element of a list that cannot "
    "cross to the BEAM; None when one is of the type `awaited`. For typhon._bulk "
    "alone."};

}  // namespace

int add_bulk(PyObject* module) noexcept {
  const PyRef name = PyRef::steal(PyModule_GetNameObject(module));
  const PyRef function =
      name ? PyRef::steal(PyCFunction_NewEx(&unencodable_method, module, name.get())) : PyRef();
  return function ? PyModule_AddObjectRef(module, "unencodable", function.get()) : -1;
}

}  // namespace typhon::executor
