// BitString and ImproperList: values of the BEAM for which Python has no type. Kept: a value that is to stay
// here.
#pragma once

#include "python/cpython.h"
#include "python/ref.h"

#include "etf/views.h"

#include <cstdint>

namespace typhon::python {

struct ModuleState;

// A bit string whose length is no multiple of eight (other lengths are possible, and go out as plain
// binaries). Unused bits of the last byte are zero.
struct BitStringObject {
  PyObject_HEAD
  PyObject* data;  // bytes
  Py_ssize_t bit_size;

  [[nodiscard]] static BitStringObject* of(PyObject* object) noexcept {
    return reinterpret_cast<BitStringObject*>(object);
  }
};

// A list whose last tail is no list: [1, 2 | :tail].
struct ImproperListObject {
  PyObject_HEAD
  PyObject* items;  // tuple of at least one
  PyObject* tail;   // no list

  [[nodiscard]] static ImproperListObject* of(PyObject* object) noexcept {
    return reinterpret_cast<ImproperListObject*>(object);
  }
};

// Around a value that the BEAM is to get a handle of, whatever it is: of a number, too.
struct KeptObject {
  PyObject_HEAD
  PyObject* value;

  [[nodiscard]] static KeptObject* of(PyObject* object) noexcept {
    return reinterpret_cast<KeptObject*>(object);
  }
};

// Makes the heap types in `state`. 0, or -1 with an exception set.
int init_values(ModuleState& state, PyObject* module) noexcept;

// New reference, or null with an exception set.
PyObject* make_bit_string(ModuleState&, etf::Bytes, unsigned bits_in_last_byte) noexcept;
// `items` is a non-empty tuple.
PyObject* make_improper_list(ModuleState&, PyRef items, PyRef tail) noexcept;

}  // namespace typhon::python
