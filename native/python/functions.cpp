#include "python/functions.h"

#include "python/codec.h"
#include "python/encode/bytes_sink.h"
#include "python/module_state.h"

#include <cstddef>
#include <string_view>

namespace typhon::python {
namespace {

// Keyword arguments by hand: a call with none, the usual one, costs nothing for them.
class Keywords {
 public:
  Keywords(const char* function, PyObject* const* arguments, Py_ssize_t count, PyObject* names) noexcept
      : function_(function), values_(arguments + count), names_(names) {}

  [[nodiscard]] Py_ssize_t count() const noexcept { return names_ == nullptr ? 0 : PyTuple_Size(names_); }
  [[nodiscard]] bool is(Py_ssize_t index, const char* name) const noexcept {
    return PyUnicode_CompareWithASCIIString(PyTuple_GetItem(names_, index), name) == 0;
  }
  [[nodiscard]] PyObject* value(Py_ssize_t index) const noexcept { return values_[index]; }
  bool unknown(Py_ssize_t index) const noexcept {
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R", function_,
                 PyTuple_GetItem(names_, index));
    return false;
  }

 private:
  const char* function_;
  PyObject* const* values_;
  PyObject* names_;
};

template <class Number>
bool read_limit(PyObject* object, const char* name, Number& out) noexcept {
  const unsigned long long value = PyLong_AsUnsignedLongLong(object);
  if (PyErr_Occurred() != nullptr) return false;
  if (value > static_cast<Number>(-1)) {
    PyErr_Format(PyExc_OverflowError, "%s is too large", name);
    return false;
  }
  out = static_cast<Number>(value);
  return true;
}

bool read_truth(PyObject* object, bool& out) noexcept {
  const int truth = PyObject_IsTrue(object);
  out = truth == 1;
  return truth >= 0;
}

bool one_argument(const char* function, Py_ssize_t count) noexcept {
  if (count == 1) return true;
  PyErr_Format(PyExc_TypeError, "%s() takes exactly one positional argument (%zd given)", function, count);
  return false;
}

bool read_options(const Keywords& keywords, EncodeOptions& options) noexcept {
  for (Py_ssize_t i = 0; i < keywords.count(); ++i) {
    if (keywords.is(i, "max_depth")) {
      if (!read_limit(keywords.value(i), "max_depth", options.max_depth)) return false;
    } else if (keywords.is(i, "mapset_version")) {
      if (!read_truth(keywords.value(i), options.mapset_version)) return false;
    } else if (keywords.is(i, "duration")) {
      if (!read_truth(keywords.value(i), options.duration)) return false;
    } else if (keywords.is(i, "tagged")) {
      if (!read_truth(keywords.value(i), options.tagged)) return false;
    } else {
      return keywords.unknown(i);
    }
  }
  return true;
}

bool read_options(const Keywords& keywords, DecodeOptions& options) noexcept {
  for (Py_ssize_t i = 0; i < keywords.count(); ++i) {
    if (keywords.is(i, "max_depth")) {
      if (!read_limit(keywords.value(i), "max_depth", options.max_depth)) return false;
    } else if (keywords.is(i, "max_atoms")) {
      if (!read_limit(keywords.value(i), "max_atoms", options.max_atoms)) return false;
    } else if (keywords.is(i, "max_inflated")) {
      if (!read_limit(keywords.value(i), "max_inflated", options.max_inflated)) return false;
    } else if (keywords.is(i, "tagged")) {
      if (!read_truth(keywords.value(i), options.tagged)) return false;
    } else {
      return keywords.unknown(i);
    }
  }
  return true;
}

PyObject* encode_function(PyObject* module, PyObject* const* arguments, Py_ssize_t count,
                          PyObject* names) noexcept {
  EncodeOptions options;
  if (!one_argument("encode", count) || !read_options({"encode", arguments, count, names}, options))
    return nullptr;
  BytesSink sink;
  return encode(ModuleState::of(module), arguments[0], sink, options) ? sink.finish() : nullptr;
}

PyObject* decode_function(PyObject* module, PyObject* const* arguments, Py_ssize_t count,
                          PyObject* names) noexcept {
  DecodeOptions options;
  if (!one_argument("decode", count) || !read_options({"decode", arguments, count, names}, options))
    return nullptr;
  ModuleState& state = ModuleState::of(module);
  PyObject* const data = arguments[0];
  if (PyBytes_CheckExact(data) != 0) {
    options.buffer_owner = data;
    char* begin = nullptr;
    Py_ssize_t size = 0;
    if (PyBytes_AsStringAndSize(data, &begin, &size) != 0) return nullptr;
    return decode(state, {reinterpret_cast<const std::uint8_t*>(begin), static_cast<std::size_t>(size)},
                  options);
  }
  Py_buffer buffer;
  if (PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE) != 0) return nullptr;
  if (buffer.readonly != 0) options.buffer_owner = data;
  PyObject* const object = decode(
      state, {static_cast<const std::uint8_t*>(buffer.buf), static_cast<std::size_t>(buffer.len)}, options);
  PyBuffer_Release(&buffer);
  return object;
}

constexpr const char* kEncodeDoc =
    "encode($module, obj, /, *, max_depth=10000, mapset_version=False, duration=False, tagged=False)\n--\n\n"
    "Return obj in Erlang's External Term Format, version byte included.\n\n"
    "max_depth: containers inside one another.\n"
    "mapset_version: give a MapSet the field `version`, which older versions of Elixir have.\n"
    "duration: a timedelta is a Duration, which Elixir has from 1.17 on, and no tuple.\n"
    "tagged: a Fraction and a complex number are the tuples {:fraction, numerator, denominator} and "
    "{:complex, real, imaginary}.\n\n"
    "Raises EncodeError for a value that has no counterpart on the BEAM.";

constexpr const char* kDecodeDoc =
    "decode($module, data, /, *, max_depth=10000, max_atoms=1048576, max_inflated=268435456, "
    "tagged=False)\n--\n\n"
    "Return the object that data, one whole term in Erlang's External Term Format, stands for.\n\n"
    "data: bytes, or anything with the buffer protocol. A Typhon.Buffer or Typhon.Array inside becomes a "
    "view of it\n"
    "when it is read-only, and of a copy otherwise.\n"
    "max_depth: containers inside one another. max_atoms: atoms not met before.\n"
    "max_inflated: bytes that a compressed term may expand to.\n"
    "tagged: such tuples are a Fraction and a complex number again.\n\n"
    "Raises DecodeError for other bytes, and for a term that Python cannot hold.";

PyMethodDef functions[] = {
    {"encode", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(encode_function)),
     METH_FASTCALL | METH_KEYWORDS, kEncodeDoc},
    {"decode", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(decode_function)),
     METH_FASTCALL | METH_KEYWORDS, kDecodeDoc},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

PyMethodDef* codec_functions() noexcept { return functions; }

}  // namespace typhon::python
