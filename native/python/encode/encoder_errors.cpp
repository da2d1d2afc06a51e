#include "python/encode/encoder.h"

#include "python/errors.h"

#include <cstdarg>
#include <cstdio>
#include <exception>
#include <new>

namespace typhon::python {

Encoder::Did Encoder::refuse(PyBorrowed object, const char* format, ...) noexcept {
  char text[400];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  try {
    reason_ = text;
    at_fault_ = PyRef::borrow(object);
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
  return Did::kFailed;
}

Encoder::Did Encoder::refuse_exception(PyBorrowed object, const char* what) noexcept {
  if (must_propagate()) return Did::kFailed;
  try {
    reason_ = std::string("cannot read ") + what + ": " + current_exception_text();
    at_fault_ = PyRef::borrow(object);
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
  return Did::kFailed;
}

// `did`: what the function did that is wrong; with the exception that is set, if one is.
Encoder::Did Encoder::refuse_encoder(PyBorrowed object, PyBorrowed encoder, const char* did) noexcept {
  if (must_propagate()) return Did::kFailed;
  try {
    reason_ = "the encoder " + function_name(encoder) + ' ' + did;
    if (PyErr_Occurred() != nullptr) reason_ += ' ' + current_exception_text();
    at_fault_ = PyRef::borrow(object);
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
  return Did::kFailed;
}

Encoder::Did Encoder::refuse_text(PyBorrowed text) noexcept {
  if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError) == 0) return Did::kFailed;
  PyErr_Clear();
  const Py_ssize_t size = PyUnicode_GetLength(text.get());
  for (Py_ssize_t i = 0; i < size; ++i) {
    const Py_UCS4 character = PyUnicode_ReadChar(text.get(), i);
    if (character < 0xD800 || character > 0xDFFF) continue;
    const auto code = static_cast<unsigned>(character);
    switch (options_.surrogates) {
      case Surrogates::kRefuse:
        return refuse(text,
                      "a str with a lone surrogate (character %zd is U+%04X), which no UTF-8 can hold. "
                      "Python makes such a "
                      "str of a file name that is not UTF-8: the option surrogates: of the pool lets it go "
                      "as :bytes, or "
                      "with :replace",
                      i, code);
      case Surrogates::kBytes:
        if (code >= 0xDC80 && code <= 0xDCFF) continue;
        return refuse(text, "a str with a lone surrogate (character %zd is U+%04X) that stands for no byte",
                      i, code);
      default:
        return refuse(text, "a str with a lone surrogate (character %zd is U+%04X), which no UTF-8 can hold",
                      i, code);
    }
  }
  return refuse(text, "a str that UTF-8 cannot hold");
}

Encoder::Did Encoder::refuse_changed() noexcept {
  PyErr_Clear();  // an IndexError, when it has shrunk
  at_container_ = true;
  const Frame& frame = frames_[depth_ - 1];
  return refuse(frame.source != nullptr ? frame.source : frame.container,
                "it changed its size while it was being encoded");
}

bool Encoder::refuse_keys(const Frame& frame, PyBorrowed one, PyBorrowed other) {
  at_container_ = true;
  const bool set = frame.shape == Shape::kSet;
  refuse(frame.source != nullptr ? frame.source : frame.container,
         "its %s %s and %s are one term on the BEAM", set ? "elements" : "keys", describe(one).c_str(),
         describe(other).c_str());
  return false;
}

void Encoder::raise() noexcept {
  if (reason_.empty() && PyErr_Occurred() != nullptr && must_propagate()) return;
  try {
    raise_with_path();
  } catch (const std::exception&) {
    PyErr_NoMemory();
  }
}

void Encoder::raise_with_path() {
  const std::string path = path_to_fault();
  std::string reason = reason_;
  if (reason.empty()) {
    reason = PyErr_Occurred() != nullptr ? current_exception_text()
             : writer_.ok()              ? "cannot be encoded"
                                         : writer_.why();
  }
  raise_encode_error(state_, path, reason, at_fault_ ? type_name(at_fault_) : std::string());
}

std::string Encoder::path_to_fault() {
  Path path(options_.root, options_.parts);
  for (std::uint32_t i = 0; i < depth_; ++i) {
    const Frame& frame = frames_[i];
    if (at_container_ && i + 1 == depth_) break;
    if (frame.in_key) {
      path.at_key(frame.shape == Shape::kSet ? "element" : "key", frame.key);
      break;  // what is inside of a key has no place in a path
    }
    const auto last = static_cast<std::size_t>(frame.index - 1);
    switch (frame.shape) {
      case Shape::kDict:
        if (frame.key != nullptr) path.key(frame.key);
        break;
      case Shape::kFields:
        if (frame.key == nullptr) break;
        // What a model holds beyond its fields may have any key.
        PyUnicode_Check(frame.key) != 0 ? path.attribute(frame.key) : path.key(frame.key);
        break;
      case Shape::kImproperTail:
        path.member(frame.index > frame.size ? "tail" : "items");
        if (frame.index <= frame.size) path.index(last);
        break;
      case Shape::kList:
      case Shape::kTuple:
        path.index(last);
        break;
      case Shape::kSet:
        break;
    }
  }
  return path.text();
}

}  // namespace typhon::python
