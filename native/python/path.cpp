#include "python/path.h"

#include "python/errors.h"
#include "python/types/atom_table.h"

namespace typhon::python {
namespace {

constexpr std::size_t kMaxShownBytes = 60;

std::string shorten(std::string text) {
  if (text.size() <= kMaxShownBytes) return text;
  std::size_t cut = kMaxShownBytes - 3;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;  // not inside a character
  text.resize(cut);
  return text + "…";
}

// The str as UTF-8; lone surrogates as escapes.
std::string to_utf8(PyBorrowed text) {
  const ExceptionAside aside;
  const PyRef bytes = PyRef::steal(PyUnicode_AsEncodedString(text.get(), "utf-8", "backslashreplace"));
  if (!bytes) {
    PyErr_Clear();
    return "?";
  }
  return {PyBytes_AsString(bytes.get()), static_cast<std::size_t>(PyBytes_Size(bytes.get()))};
}

std::string quoted(PyBorrowed text) {
  constexpr const char* kHex = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : shorten(to_utf8(text))) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7F) {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  return out + '"';
}

// Whether repr() of it runs only code of Python itself and ours.
bool has_safe_repr(PyBorrowed value, int depth) noexcept {
  PyObject* const object = value.get();
  PyTypeObject* const type = Py_TYPE(object);
  if (object == Py_None || type == &PyBool_Type || type == &PyLong_Type || type == &PyFloat_Type ||
      type == &PyUnicode_Type || type == &PyBytes_Type) {
    return true;
  }
  if (type == &PyTuple_Type || type == &PyList_Type) {
    if (depth == 0) return false;
    const bool tuple = type == &PyTuple_Type;
    const Py_ssize_t size = tuple ? PyTuple_Size(object) : PyList_Size(object);
    if (size > 20) return false;
    for (Py_ssize_t i = 0; i < size; ++i) {
      if (!has_safe_repr(tuple ? PyTuple_GetItem(object, i) : PyList_GetItem(object, i), depth - 1))
        return false;
    }
    return true;
  }
  return (PyType_GetFlags(type) & Py_TPFLAGS_HEAPTYPE) == 0 || type_name(value).starts_with("typhon.");
}

}  // namespace

PyRef attribute_of_class(PyTypeObject* type, const char* name) noexcept {
  const PyRef text = PyRef::steal(PyUnicode_InternFromString(name));
  const auto get = reinterpret_cast<getattrofunc>(PyType_GetSlot(&PyType_Type, Py_tp_getattro));
  return PyRef::steal(text ? get(reinterpret_cast<PyObject*>(type), text.get()) : nullptr);
}

std::string type_name(PyBorrowed value) {
  const ExceptionAside aside;
  PyTypeObject* const type = Py_TYPE(value.get());
  const PyRef name = PyRef::steal(PyType_GetQualName(type));
  const PyRef module = name ? attribute_of_class(type, "__module__") : PyRef();
  PyErr_Clear();
  std::string text = name ? to_utf8(name) : "?";
  if (module && PyUnicode_Check(module.get()) != 0) {
    const std::string prefix = to_utf8(module);
    if (prefix != "builtins") text = prefix + '.' + text;
  }
  return text;
}

std::string describe(PyBorrowed value) {
  const ExceptionAside aside;
  if (Py_TYPE(value.get()) == &PyUnicode_Type) return quoted(value);
  if (has_safe_repr(value, 3)) {
    const PyRef repr = PyRef::steal(PyObject_Repr(value.get()));
    if (repr) return shorten(to_utf8(repr));
    PyErr_Clear();
  }
  return '<' + type_name(value) + '>';
}

void Path::step(std::string text) {
  if (steps_ < kShown) {
    head_ += text;
  } else {
    tail_[steps_ % kShown] = std::move(text);
  }
  ++steps_;
}

void Path::index(std::size_t index) {
  if (steps_ == 0 && index < parts_.size()) {
    root_ = parts_[index];
    parts_ = {};
    return;
  }
  parts_ = {};
  step('[' + std::to_string(index) + ']');
}

void Path::key(PyBorrowed key) {
  parts_ = {};
  step('[' + describe(key) + ']');
}

void Path::attribute(PyBorrowed name) { member(to_utf8(name)); }

void Path::member(std::string_view name) {
  parts_ = {};
  step('.' + std::string(name));
}

void Path::suffix(std::string_view text) { suffix_ += text; }

void Path::at_key(std::string_view what, PyBorrowed key) {
  suffix_ += " (";
  suffix_ += what;
  suffix_ += ' ' + describe(key) + ')';
}

std::string Path::text() const {
  std::string text = root_ + head_;
  if (steps_ > kShown) {
    const std::size_t left = steps_ - kShown;
    if (left > kShown) text += "[…]";
    for (std::size_t i = left > kShown ? left - kShown : 0; i < left; ++i)
      text += tail_[(i + kShown) % kShown];
  }
  return text + suffix_;
}

}  // namespace typhon::python
