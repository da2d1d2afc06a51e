// Integers beyond 64 bits. The stable ABI has no direct way to their digits: those up to a few words go through
// hexadecimal text, which CPython reads and writes digit by digit, larger ones through int.from_bytes and to_bytes.
// Never decimal text: that is quadratic, and limited to 4300 digits.
#pragma once

#include "python/cpython.h"
#include "python/ref.h"

#include "etf/views.h"
#include "etf/writer.h"

namespace typhon::python {

struct ModuleState;

// New reference, or null with an exception set.
PyObject* make_big_integer(ModuleState&, bool negative, etf::Bytes little_endian_magnitude) noexcept;

// Writes `integer`, an exact int of any size. False with an exception set, or with an error in the writer.
bool write_big_integer(ModuleState&, PyObject* integer, etf::Writer&) noexcept;

}  // namespace typhon::python
