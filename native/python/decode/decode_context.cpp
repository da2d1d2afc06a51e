#include "python/decode/decode_context.h"

#include "python/errors.h"

#include <cstdarg>
#include <cstdio>
#include <functional>
#include <new>

namespace typhon::python {

PyObject* DecodeContext::refuse(const char* format, ...) noexcept {
  char text[400];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  try {
    reason_ = text;
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
  return nullptr;
}

PyObject* DecodeContext::refuse_text(const std::string& reason) noexcept {
  try {
    reason_ = reason;
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
  return nullptr;
}

PyObject* DecodeContext::refuse_exception(const char* what) noexcept {
  return refuse_because("cannot make a ", what);
}

PyObject* DecodeContext::refuse_import(const char* sentence) noexcept { return refuse_because("", sentence); }

PyObject* DecodeContext::refuse_decoder(PyBorrowed decoder, std::string_view name) noexcept {
  if (must_propagate()) return nullptr;
  try {
    reason_ = "the decoder " + function_name(decoder) + " of " + std::string(name) + " raised " +
              current_exception_text();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
  return nullptr;
}

PyObject* DecodeContext::refuse_because(const char* verb, const char* what) noexcept {
  if (must_propagate()) return nullptr;
  try {
    reason_ = std::string(verb) + what + ": " + current_exception_text();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
  return nullptr;
}

bool DecodeContext::open_owner() noexcept {
  owner_opened_ = true;
  Py_buffer buffer;
  if (PyObject_GetBuffer(options.buffer_owner, &buffer, PyBUF_SIMPLE) != 0) return false;
  owner_begin_ = static_cast<const std::uint8_t*>(buffer.buf);
  owner_end_ = owner_begin_ + buffer.len;
  PyBuffer_Release(&buffer);
  const PyRef whole = PyRef::steal(PyMemoryView_FromObject(options.buffer_owner));
  if (!whole) return false;
  const PyRef flat = PyRef::steal(PyObject_CallMethod(whole.get(), "cast", "s", "B"));
  if (!flat) return false;
  owner_view_ = PyRef::steal(PyObject_CallMethod(flat.get(), "toreadonly", nullptr));
  return static_cast<bool>(owner_view_);
}

PyObject* DecodeContext::view(etf::Bytes bytes) noexcept {
  if (options.buffer_owner != nullptr && !owner_opened_ && !open_owner()) return nullptr;
  const std::less_equal<> before;
  if (owner_view_ && before(owner_begin_, bytes.data()) && before(bytes.data() + bytes.size(), owner_end_)) {
    const auto start = static_cast<Py_ssize_t>(bytes.data() - owner_begin_);
    return PySequence_GetSlice(owner_view_.get(), start, start + static_cast<Py_ssize_t>(bytes.size()));
  }
  const PyRef copy = PyRef::steal(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(bytes.data()),
                                                            static_cast<Py_ssize_t>(bytes.size())));
  return copy ? PyMemoryView_FromObject(copy.get()) : nullptr;
}

}  // namespace typhon::python
