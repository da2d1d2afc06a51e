// Adds Section and then() to typhon._native (section.cpp).
#pragma once

#include "python/cpython.h"

namespace typhon::executor {

// For the module's Py_mod_exec slot: 0, or -1 with an exception set.
int add_sections(PyObject* module) noexcept;

}  // namespace typhon::executor
