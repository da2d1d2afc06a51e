// Integers beyond 64 bits. The stable ABI of 3.11 has no way to their bytes that costs less than a method
// call, so CPython's own functions are used where this Python has them, by weak references: the public ones
// from 3.13 on, the private ones of 3.11 and 3.12, which change no more. Otherwise int.from_bytes and
// int.to_bytes do. Never decimal text: that is quadratic, and limited to 4300 digits.
#pragma once

#include "python/cpython.h"
#include "python/ref.h"

#include "etf/views.h"
#include "etf/writer.h"

namespace typhon::python {

struct ModuleState;

// New reference, or null with an exception set.
PyObject* make_big_integer(ModuleState&, bool negative, etf::Bytes little_endian_magnitude) noexcept;

// Writes `integer`, an int (or of a subclass) beyond 64 bits. False with an exception set, or with an error
// in the writer.
bool write_big_integer(ModuleState&, PyObject* integer, etf::Writer&) noexcept;

}  // namespace typhon::python
