// Elixir structs that have a Python type of their own.
#pragma once

#include "python/cpython.h"
#include "python/ref.h"

#include <cstdint>
#include <span>

namespace typhon::python {

class DecodeContext;
struct ModuleState;

enum class Struct : std::uint8_t {
  kNone,     // a plain map
  kUnknown,  // a struct without a Python type: a dict with Atom keys
  kBytes,
  kBuffer,
  kArray,
  kObject,
  kDate,
  kTime,
  kNaiveDateTime,
  kDateTime,
  kMapSet,
  kDecimal,
  kDuration,
  kNamed,  // a struct that goes by its name
  kIter,
  kRange,
  kTagged,  // no struct: a tuple that may stand for something, by its first element
};

// Which struct the value of the key __struct__ names.
Struct struct_named(const ModuleState&, PyBorrowed name) noexcept;

// Makes the object from the struct's keys and values, in turns; `kind` is that of a struct with a type. The
// value of `data` in Bytes, Buffer and Array is bytes, a memoryview, or a str (then its UTF-8 form is meant).
// New reference, or nullptr: the context knows why, or an exception is set.
PyObject* make_struct(DecodeContext&, Struct kind, std::span<PyObject* const> pairs) noexcept;

// The same for a tuple. New reference: the object that it stands for, or the tuple itself. nullptr as above.
PyObject* make_tagged(DecodeContext&, PyBorrowed tuple) noexcept;

}  // namespace typhon::python
