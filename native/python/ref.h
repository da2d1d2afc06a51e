// PyRef owns one reference to a Python object, PyBorrowed owns none. `PyRef::steal` and `PyRef::borrow` are
// the only doors through which a raw pointer becomes an owned one, so that each place says which it means:
//
//   PyRef list = PyRef::steal(PyList_New(0));     // a new reference, from an API that gives one away
//   PyRef item = PyRef::borrow(PyTuple_GetItem(t, 0));  // another reference to something that others own
//
// Both are empty when the pointer was null: the caller checks, and the Python exception is set by then.
// A PyRef belongs to the interpreter that was current when it was made; every member needs that interpreter's
// GIL, the destructor included (it may run Python code). It never crosses to another interpreter or thread
// without it.
#pragma once

#include "python/cpython.h"

#include <utility>

namespace typhon::python {

// A reference that somebody else keeps alive, for parameters. Never kept across a call that can run Python
// code unless the owner is known to outlive it.
class PyBorrowed {
 public:
  PyBorrowed(PyObject* object) noexcept : object_(object) {}  // NOLINT(google-explicit-constructor)
  [[nodiscard]] PyObject* get() const noexcept { return object_; }
  explicit operator bool() const noexcept { return object_ != nullptr; }

 private:
  PyObject* object_;
};

class PyRef {
 public:
  PyRef() noexcept = default;
  PyRef(PyRef&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  PyRef& operator=(PyRef&& other) noexcept {
    PyObject* const old = std::exchange(object_, std::exchange(other.object_, nullptr));
    if (old != nullptr) drop(old);  // last: it may run code that looks at this PyRef
    return *this;
  }
  PyRef(const PyRef&) = delete;
  PyRef& operator=(const PyRef&) = delete;
  ~PyRef() {
    if (object_ != nullptr) drop(object_);
  }

  [[nodiscard]] static PyRef steal(PyObject* object) noexcept { return PyRef(object); }
  [[nodiscard]] static PyRef borrow(PyBorrowed object) noexcept {
    return PyRef(object ? take(object.get()) : nullptr);
  }

  [[nodiscard]] PyObject* get() const noexcept { return object_; }
  // Gives the reference away, to an API that steals it or as a return value.
  [[nodiscard]] PyObject* release() noexcept { return std::exchange(object_, nullptr); }
  void reset() noexcept { *this = PyRef(); }
  explicit operator bool() const noexcept { return object_ != nullptr; }
  operator PyBorrowed() const noexcept { return {object_}; }  // NOLINT(google-explicit-constructor)

 private:
  explicit PyRef(PyObject* object) noexcept : object_(object) {}
  PyObject* object_ = nullptr;
};

}  // namespace typhon::python
