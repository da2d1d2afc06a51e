#include "python/encode/bytes_sink.h"

namespace typhon::python {

bool BytesSink::grow(std::size_t at_least) noexcept {
  if (at_least <= capacity) return true;
  const std::size_t limit = static_cast<std::size_t>(PY_SSIZE_T_MAX) - 4096;
  if (at_least > limit) {
    PyErr_NoMemory();
    return false;
  }
  // Beyond the first steps by halves: what is too much is never touched, and cut off at the end.
  const std::size_t wanted =
      std::max(at_least, capacity < (1u << 20) ? capacity * 4 : capacity + capacity / 2);
  return resize(std::min(wanted, limit));
}

// Memory of a bytes object comes from PyObject_Malloc: its head, the bytes, a zero.
bool BytesSink::resize(std::size_t bytes) noexcept {
  if (!bytes_) {
    bytes_ = PyRef::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(bytes)));
    if (!bytes_) return false;
    auto* const begin = reinterpret_cast<std::uint8_t*>(PyBytes_AsString(bytes_.get()));
    header_ = static_cast<std::size_t>(begin - reinterpret_cast<std::uint8_t*>(bytes_.get()));
    std::memcpy(begin, inline_, size);
    data = begin;
  } else {
    void* const moved = PyObject_Realloc(bytes_.get(), header_ + bytes + 1);
    if (moved == nullptr) {
      PyErr_NoMemory();
      return false;
    }
    (void)bytes_.release();
    bytes_ = PyRef::steal(static_cast<PyObject*>(moved));
    Py_SET_SIZE(reinterpret_cast<PyVarObject*>(moved), static_cast<Py_ssize_t>(bytes));
    data = static_cast<std::uint8_t*>(moved) + header_;
  }
  data[bytes] = 0;
  capacity = bytes;
  return true;
}

PyObject* BytesSink::finish() noexcept {
  // A short one into an object of its own: cutting would leave most of the big one unused.
  if (!bytes_ || size < 512) {
    return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(data), static_cast<Py_ssize_t>(size));
  }
  if (size != capacity && !resize(size)) return nullptr;
  return bytes_.release();
}

}  // namespace typhon::python
