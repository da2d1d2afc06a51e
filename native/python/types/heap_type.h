// What the heap types of typhon._native have in common.
#pragma once

#include "python/cpython.h"
#include "python/ref.h"

#include <initializer_list>

namespace typhon::python {

// Makes the type and gives it __match_args__. Empty with an exception set on failure.
[[nodiscard]] inline PyRef make_type(PyObject* module, PyType_Spec& spec,
                                     std::initializer_list<const char*> match_args) noexcept {
  PyRef type = PyRef::steal(PyType_FromModuleAndSpec(module, &spec, nullptr));
  const PyRef names = PyRef::steal(PyTuple_New(static_cast<Py_ssize_t>(match_args.size())));
  if (!type || !names) return {};
  Py_ssize_t index = 0;
  for (const char* const name : match_args) {
    PyObject* const text = PyUnicode_InternFromString(name);
    if (text == nullptr || PyTuple_SetItem(names.get(), index++, text) != 0) return {};
  }
  if (PyObject_SetAttrString(type.get(), "__match_args__", names.get()) != 0) return {};
  return type;
}

// For immutable objects: __copy__ (METH_NOARGS) and __deepcopy__ (METH_O) both give the object itself.
inline PyObject* return_self(PyObject* self, PyObject*) noexcept { return take(self); }

// The end of tp_dealloc of a heap type without a GC header.
inline void free_object(PyObject* self) noexcept {
  PyTypeObject* const type = Py_TYPE(self);
  PyObject_Free(self);
  drop(reinterpret_cast<PyObject*>(type));
}

}  // namespace typhon::python
