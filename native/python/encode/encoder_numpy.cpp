// numpy without numpy's headers: attributes and the buffer protocol say all that is needed.
#include "python/encode/encoder.h"

#include "python/errors.h"

#include <string>
#include <string_view>
#include <utility>

namespace typhon::python {
namespace {

// The letter dtype.kind; 0 with an exception set when there is none.
char kind_letter(PyBorrowed dtype) noexcept {
  const PyRef kind = PyRef::steal(PyObject_GetAttrString(dtype.get(), "kind"));
  const Py_UCS4 letter = kind ? PyUnicode_ReadChar(kind.get(), 0) : 0;
  return letter < 128 ? static_cast<char>(letter) : '\0';
}

// A character of the dtype's name, counted from its end: of <M8[25ps], p is 3 from there. 0: it has none.
Py_UCS4 from_end(PyBorrowed dtype, Py_ssize_t back) noexcept {
  const PyRef name = PyRef::steal(PyObject_GetAttrString(dtype.get(), "str"));
  const Py_ssize_t size = name && PyUnicode_Check(name.get()) != 0 ? PyUnicode_GetLength(name.get()) : 0;
  const Py_UCS4 character = size > back ? PyUnicode_ReadChar(name.get(), size - back) : 0;
  PyErr_Clear();
  return character;
}

// A unit below the microsecond: <M8[ns], <M8[25ps] and so on.
bool is_finer_than_python(PyBorrowed dtype) noexcept {
  const Py_UCS4 prefix = from_end(dtype, 3);
  return prefix == 'n' || prefix == 'p' || prefix == 'f' || prefix == 'a';
}

// <m8, <m8[Y], <m8[5M]
bool has_no_length(PyBorrowed dtype) noexcept {
  const Py_UCS4 unit = from_end(dtype, 2);
  return from_end(dtype, 1) != ']' || unit == 'Y' || unit == 'M';
}

PyRef in_microseconds(PyBorrowed time, const char* dtype) noexcept {
  return PyRef::steal(PyObject_CallMethod(time.get(), "astype", "s", dtype));
}

}  // namespace

// numpy's structured scalars have no counterpart: objects.
EncodeKind Encoder::numpy_kind(PyBorrowed object) noexcept {
  const PyRef dtype = PyRef::steal(PyObject_GetAttrString(object.get(), "dtype"));
  switch (dtype ? kind_letter(dtype) : '\0') {
    case 'b':
      return EncodeKind::kNumpyBool;
    case 'i':
    case 'u':
      return EncodeKind::kNumpyInteger;
    case 'f':
      return EncodeKind::kNumpyFloat;
    case 'c':
      return EncodeKind::kComplex;
    case 'M':
    case 'm':
      return EncodeKind::kNumpyTime;
    default:
      if (must_propagate()) return EncodeKind::kUnknown;
      PyErr_Clear();
      return EncodeKind::kObject;
  }
}

Encoder::Did Encoder::put_numpy_scalar(PyBorrowed object, EncodeKind kind) noexcept {
  if (kind == EncodeKind::kNumpyBool) {
    const int truth = PyObject_IsTrue(object.get());
    if (truth >= 0) return done(writer_.known_atom(truth == 1 ? "true" : "false"));
  } else {
    PyRef plain = PyRef::steal(kind == EncodeKind::kNumpyInteger ? PyNumber_Index(object.get())
                                                                 : PyNumber_Float(object.get()));
    if (plain) {
      return put_kind(std::move(plain),
                      kind == EncodeKind::kNumpyInteger ? EncodeKind::kInteger : EncodeKind::kFloat);
    }
  }
  return refuse_exception(object, "a numpy scalar");
}

// A datetime64 is a date or a datetime, by its unit; a timedelta64 is a timedelta, when its unit has a
// length. Python has nothing finer than a microsecond, and says what it cannot hold as an integer.
Encoder::Did Encoder::put_numpy_time(PyBorrowed object) noexcept {
  PyRef plain = PyRef::steal(PyObject_CallMethod(object.get(), "item", nullptr));
  if (!plain) return refuse_exception(object, "a numpy scalar");
  if (plain.get() == Py_None) return done(writer_.known_atom("nil"));
  const PyRef dtype = PyRef::steal(PyObject_GetAttrString(object.get(), "dtype"));
  const char kind = dtype ? kind_letter(dtype) : '\0';
  if (kind == '\0') return refuse_exception(object, "a numpy scalar");
  if (kind == 'm') return put_numpy_delta(object, dtype, std::move(plain));
  if (PyLong_Check(plain.get()) != 0) {
    if (!is_finer_than_python(dtype)) {
      return refuse(object, "a datetime64 that is not in the years 1 to 9999: send str(...) or its integer");
    }
    const PyRef coarser = in_microseconds(object, "M8[us]");
    plain = PyRef::steal(coarser ? PyObject_CallMethod(coarser.get(), "item", nullptr) : nullptr);
    if (!plain) return refuse_exception(object, "a numpy scalar");
  }
  return put_instead(object, plain, "a datetime64 that is a datetime64");
}

// `plain`: what item() gave. Years and months have no length, nor has what has no unit: an object.
Encoder::Did Encoder::put_numpy_delta(PyBorrowed object, PyBorrowed dtype, PyRef plain) noexcept {
  if (PyLong_Check(plain.get()) != 0) {
    if (has_no_length(dtype)) return put_object(object);
    if (!is_finer_than_python(dtype)) return refuse_longer(object);
    const PyRef coarser = in_microseconds(object, "m8[us]");
    const int same = coarser ? PyObject_RichCompareBool(coarser.get(), object.get(), Py_EQ) : -1;
    if (same == 0) return refuse_finer(object);
    plain = PyRef::steal(same == 1 ? PyObject_CallMethod(coarser.get(), "item", nullptr) : nullptr);
    if (!plain) return refuse_exception(object, "a numpy scalar");
  }
  return put_instead(object, plain, "a timedelta64 that is a timedelta64");
}

// `elements`: a list, nested as the array is; of an array without dimensions the element itself. Null: an
// exception is set.
Encoder::Did Encoder::put_array_as_list(PyBorrowed array, PyRef elements) noexcept {
  if (!elements) return refuse_exception(array, "an array");
  return PyList_CheckExact(elements.get()) != 0
             ? open_list(std::move(elements))
             : put_instead(array, elements, "an array whose element is an array");
}

// A list with nil in the place of what is masked. tolist() makes integers of some dates; one by one they are
// numpy's.
Encoder::Did Encoder::put_masked_array(PyBorrowed array, char kind) noexcept {
  const PyRef dimensions = PyRef::steal(PyObject_GetAttrString(array.get(), "ndim"));
  const long count = dimensions ? PyLong_AsLong(dimensions.get()) : -1;
  if (count < 0) return refuse_exception(array, "an array");
  const bool dates = kind == 'M' || kind == 'm';
  if (dates && count > 0) return put_array_as_list(array, PyRef::steal(PySequence_List(array.get())));
  if (!dates)
    return put_array_as_list(array, PyRef::steal(PyObject_CallMethod(array.get(), "tolist", nullptr)));
  const PyRef empty = PyRef::steal(PyTuple_New(0));
  return put_array_as_list(array, PyRef::steal(empty ? PyObject_GetItem(array.get(), empty.get()) : nullptr));
}

Encoder::Did Encoder::refuse_structured(PyBorrowed array, PyBorrowed dtype) noexcept {
  const PyRef name = PyRef::steal(PyObject_Str(dtype.get()));
  const PyRef text = PyRef::steal(name ? PyUnicode_AsUTF8String(name.get()) : nullptr);
  if (!text) return refuse_exception(array, "an array");
  return refuse(array,
                "an array of dtype %.200s, whose elements have fields: send array.tolist(), or its columns, "
                "{name: array[name] for name in array.dtype.names}",
                PyBytes_AsString(text.get()));
}

Encoder::Did Encoder::put_numpy_array(PyRef array) noexcept {
  const auto failed = [&]() noexcept {
    return PyErr_Occurred() != nullptr ? refuse_exception(array, "an array") : Did::kFailed;
  };
  PyRef dtype = PyRef::steal(PyObject_GetAttrString(array.get(), "dtype"));
  if (!dtype) return failed();
  const char kind = kind_letter(dtype);
  if (kind == '\0') return failed();
  const PyRef mask = PyRef::steal(PyObject_GetAttrString(array.get(), "mask"));
  if (!mask && must_propagate()) return Did::kFailed;
  PyErr_Clear();
  if (kind == 'V') return refuse_structured(array, dtype);
  if (mask) return put_masked_array(array, kind);
  // Objects, and strings of any length.
  if (std::string_view("biufcMmSU").find(kind) == std::string_view::npos) {
    return put_array_as_list(array, PyRef::steal(PyObject_CallMethod(array.get(), "tolist", nullptr)));
  }

  const PyRef order = PyRef::steal(PyObject_GetAttrString(dtype.get(), "byteorder"));
  if (!order) return failed();
  if (PyUnicode_CompareWithASCIIString(order.get(), ">") == 0) {
    PyRef little = PyRef::steal(PyObject_CallMethod(dtype.get(), "newbyteorder", "s", "<"));
    PyRef swapped =
        PyRef::steal(little ? PyObject_CallMethod(array.get(), "astype", "O", little.get()) : nullptr);
    if (!swapped) return failed();
    array = std::move(swapped);
    dtype = std::move(little);
  }
  const PyRef name = PyRef::steal(PyObject_GetAttrString(dtype.get(), "str"));
  const PyRef shape = PyRef::steal(name ? PyObject_GetAttrString(array.get(), "shape") : nullptr);
  if (!shape || PyUnicode_Check(name.get()) == 0 || PyTuple_Check(shape.get()) == 0) return failed();
  if (kind == 'M' || kind == 'm') {  // they have no buffers; their integers do
    PyRef integers = PyRef::steal(PyObject_CallMethod(array.get(), "view", "s", "<i8"));
    if (!integers) return failed();
    array = std::move(integers);
  }

  const Py_ssize_t dimensions = PyTuple_Size(shape.get());
  bool written = put_struct(Known::kArray, 3) && put_known(Known::kShape) &&
                 writer_.tuple_header(static_cast<std::size_t>(dimensions));
  for (Py_ssize_t i = 0; written && i < dimensions; ++i)
    written = put_integer(PyTuple_GetItem(shape.get(), i));
  written = written && put_known(Known::kDtype) && put_text(name.get()) == Did::kWritten &&
            put_known(Known::kData) && put_array_data(array);
  return written ? Did::kWritten : failed();
}

// In C order, straight into the sink, whatever the array's strides are; or lent, when it is a view of what
// cannot change.
bool Encoder::put_array_data(PyBorrowed array) noexcept {
  Py_buffer buffer;
  if (PyObject_GetBuffer(array.get(), &buffer, PyBUF_FULL_RO) != 0) return false;
  if (Did did{}; try_lend_buffer(array, buffer, did)) {
    PyBuffer_Release(&buffer);
    return did == Did::kWritten;
  }
  std::uint8_t* const to = writer_.binary_in_place(static_cast<std::size_t>(buffer.len));
  const bool copied = to != nullptr && PyBuffer_ToContiguous(to, &buffer, buffer.len, 'C') == 0;
  PyBuffer_Release(&buffer);
  return copied;
}

}  // namespace typhon::python
