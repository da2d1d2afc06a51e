// Python.h, narrowed to the stable ABI of Python 3.11: one binary for that version and every later one.
// Free-threaded Python (3.13t, 3.14t) has no stable ABI: for each of them there is a build with the whole API
// and Py_GIL_DISABLED. Include this and never Python.h itself; it must come before any standard header.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <pyconfig.h>
#ifndef Py_GIL_DISABLED
#define Py_LIMITED_API 0x030b0000
#endif
#include <Python.h>

#include <cstdint>

namespace typhon::python {

inline constexpr unsigned long kPython312 = 0x030c0000;

// Takes a reference. The header's own Py_INCREF, compiled for 3.11, knows nothing of immortal objects (3.12
// on): it would write to None's count, which interpreters with a GIL each share, and bounce its cache line
// between them.
inline PyObject* take(PyObject* object) noexcept {
#ifdef Py_GIL_DISABLED
  Py_INCREF(object);
#else
  // Immortal objects have the top bit of the count's low half set. On 3.11 a count may really grow that far.
  // From 3.14 on the count is the low half alone, in the headers, too; the other one holds flags.
  const auto count = object->ob_refcnt;
  if (static_cast<std::int32_t>(count) < 0 && Py_Version >= kPython312) [[unlikely]]
    return object;
  object->ob_refcnt = count + 1U;
#endif
  return object;
}

// Drops a reference; may run Python code (a finaliser).
inline void drop(PyObject* object) noexcept {
#ifdef Py_GIL_DISABLED
  Py_DECREF(object);
#else
  // The analyzer follows a value that no decoder leaves null.
  // NOLINTNEXTLINE(clang-analyzer-core.NullDereference)
  const auto count = object->ob_refcnt;
  if (static_cast<std::int32_t>(count) < 0 && Py_Version >= kPython312) [[unlikely]]
    return;
  object->ob_refcnt = count - 1U;
  if (static_cast<std::uint32_t>(count) == 1) _Py_Dealloc(object);
#endif
}

}  // namespace typhon::python
