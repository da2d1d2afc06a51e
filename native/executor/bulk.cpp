#include "executor/bulk.h"

#include "executor/worker.h"
#include "python/codec.h"
#include "python/encode/bytes_sink.h"
#include "python/module_state.h"
#include "python/path.h"
#include "python/ref.h"
#include "python/types/object_table.h"

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

// Of one that is_plain(). A number is as good as nothing.
std::uint64_t plain_size(PyObject* object) noexcept {
  return Py_TYPE(object) == &PyBytes_Type ? static_cast<std::uint64_t>(PyBytes_Size(object)) + 5 : 0;
}

// What the reply may take of the pool's max_result:, without that which lies around the results.
std::uint64_t limit_of(PyObject* module) noexcept {
  constexpr std::uint64_t kAround = 1024;
  const Worker* const worker = static_cast<ExecutorSlot*>(PyModule_GetState(module))->worker;
  return worker ? worker->reply_limit() - kAround : UINT64_MAX;
}

// True and its size, or false with an exception set. The objects that would become handles are let go of
// again.
bool try_encode(PyObject* module, PyObject* object, std::uint64_t& size) noexcept {
  const Worker* const worker = static_cast<ExecutorSlot*>(PyModule_GetState(module))->worker;
  python::BytesSink sink;
  python::ObjectTable objects;
  python::EncodeOptions options = worker ? worker->forms() : python::EncodeOptions();
  options.objects = &objects;
  options.root = "result";
  options.max_depth -= 2;  // of the list and the tuple that it will lie in
  if (!python::encode(ModuleState::of(module), object, sink, options)) return false;
  size = sink.size;
  return true;
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

// The same of a result that is too large, by itself or beside those before it.
PyRef explain_size(Py_ssize_t index, PyObject* item, bool alone) noexcept {
  const PyRef name = python::attribute_of_class(Py_TYPE(item), "__name__");
  if (!name) return {};
  const char* const reason =
      alone ? "it takes more bytes than max_result: of the pool. Raise that option, or return it in parts"
            : "with the results before it, it takes more bytes than max_result: of the pool, which counts "
              "for all "
              "of a batch. Raise that option, or make the batch smaller";
  return PyRef::steal(Py_BuildValue("(nsOs)", index, "result", name.get(), reason));
}

// Of a list whose elements take more than `limit` together, or of which some cannot cross: which.
PyRef one_by_one(PyObject* module, PyObject* results, std::uint64_t limit) noexcept {
  constexpr std::uint64_t kError = 512;  // what one takes itself
  PyRef found = PyRef::steal(PyList_New(0));
  std::uint64_t total = 0;
  // Encoding may run Python code: the list is asked for its length each time.
  for (Py_ssize_t i = 0; found && i < PyList_Size(results); ++i) {
    const PyRef item = PyRef::borrow(PyList_GetItem(results, i));
    PyRef entry;
    std::uint64_t size = plain_size(item.get());
    if (!is_plain(item.get()) && !try_encode(module, item.get(), size)) {
      entry = explain(ModuleState::of(module), i);
    } else if (size <= limit && total <= limit - size) {
      total += size;
      continue;
    } else {
      entry = explain_size(i, item.get(), size > limit);
    }
    if (!entry || PyList_Append(found.get(), entry.get()) != 0) return {};
    total += kError;
  }
  return found;
}

PyObject* unencodable(PyObject* module, PyObject* args) noexcept {
  PyObject* results = nullptr;
  PyObject* awaited = nullptr;
  if (!PyArg_ParseTuple(args, "O!|O!:unencodable", &PyList_Type, &results, &PyType_Type, &awaited)) {
    return nullptr;
  }
  const std::uint64_t limit = limit_of(module);
  std::uint64_t size = 0;
  Py_ssize_t first = 0;
  for (; first < PyList_Size(results) && is_plain(PyList_GetItem(results, first)); ++first)
    size += plain_size(PyList_GetItem(results, first));
  if (first == PyList_Size(results) && size <= limit) return PyList_New(0);
  for (Py_ssize_t i = first; awaited && i < PyList_Size(results); ++i) {
    if (reinterpret_cast<PyObject*>(Py_TYPE(PyList_GetItem(results, i))) == awaited) Py_RETURN_NONE;
  }

  if (size <= limit && try_encode(module, results, size) && size <= limit) return PyList_New(0);
  if (PyErr_Occurred() != nullptr) {
    if (PyErr_ExceptionMatches(ModuleState::of(module).encode_error.get()) == 0) return nullptr;
    PyErr_Clear();
  }
  return one_by_one(module, results, limit).release();
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
