// numpy without numpy's headers: attributes and the buffer protocol say all that is needed.
#include "python/encoder.h"

#include "python/errors.h"

#include <string>
#include <string_view>

namespace typhon::python {
namespace {

// The letter dtype.kind; 0 with an exception set when there is none.
char kind_letter(PyBorrowed dtype) noexcept {
  const PyRef kind = PyRef::steal(PyObject_GetAttrString(dtype.get(), "kind"));
  const Py_UCS4 letter = kind ? PyUnicode_ReadChar(kind.get(), 0) : 0;
  return letter < 128 ? static_cast<char>(letter) : '\0';
}

}  // namespace

// numpy's complex numbers, dates and structured scalars have no counterpart: objects.
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

Encoder::Did Encoder::put_numpy_array(PyRef array) noexcept {
  const auto failed = [&]() noexcept {
    return PyErr_Occurred() != nullptr ? refuse_exception(array, "an array") : Did::kFailed;
  };
  PyRef dtype = PyRef::steal(PyObject_GetAttrString(array.get(), "dtype"));
  if (!dtype) return failed();
  const char kind = kind_letter(dtype);
  if (kind == '\0') return failed();
  if (std::string_view("biufcMmSU").find(kind) == std::string_view::npos) {
    const PyRef name = PyRef::steal(PyObject_Str(dtype.get()));
    const PyRef text = PyRef::steal(name ? PyUnicode_AsUTF8String(name.get()) : nullptr);
    return text ? refuse(array,
                         "an array of dtype %s: only numbers, booleans, dates and fixed-size strings can go",
                         PyBytes_AsString(text.get()))
                : failed();
  }
  const PyRef mask = PyRef::steal(PyObject_GetAttrString(array.get(), "mask"));
  if (mask)
    return refuse(array, "a masked array: its mask would be lost; send array.filled(...) or both parts");
  PyErr_Clear();

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
