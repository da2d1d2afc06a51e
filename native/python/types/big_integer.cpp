#include "python/types/big_integer.h"

#include "python/module_state.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

// Null where this Python has no such function. Names of our own, as headers of some versions declare them.
extern "C" {
[[gnu::weak]] PyObject* typhon_from_unsigned_bytes(const void* bytes, size_t size,
                                                   int flags) __asm__("PyLong_FromUnsignedNativeBytes");
[[gnu::weak]] Py_ssize_t typhon_as_native_bytes(PyObject* integer, void* bytes, Py_ssize_t size,
                                                int flags) __asm__("PyLong_AsNativeBytes");
[[gnu::weak]] PyObject* typhon_from_byte_array(const unsigned char* bytes, size_t size, int little_endian,
                                               int is_signed) __asm__("_PyLong_FromByteArray");
[[gnu::weak]] int typhon_as_byte_array(PyObject* integer, unsigned char* bytes, size_t size,
                                       int little_endian, int is_signed) __asm__("_PyLong_AsByteArray");
[[gnu::weak]] size_t typhon_num_bits(PyObject* integer) __asm__("_PyLong_NumBits");
}

namespace typhon::python {
namespace {

constexpr unsigned long kPython313 = 0x030d0000;
constexpr int kLittleEndian = 1;  // Py_ASNATIVEBYTES_LITTLE_ENDIAN
constexpr std::size_t kInline = 256;

struct Free {
  void operator()(std::uint8_t* bytes) const noexcept { PyMem_Free(bytes); }
};

// Two's complement to magnitude.
void negate(std::span<std::uint8_t> bytes) noexcept {
  unsigned carry = 1;
  for (std::uint8_t& byte : bytes) {
    carry += static_cast<std::uint8_t>(~byte);
    byte = static_cast<std::uint8_t>(carry);
    carry >>= 8;
  }
}

// Calls the method `which` of the class int with the byte order as its last argument.
PyRef call_int(ModuleState& state, Lazy which, PyBorrowed first, PyBorrowed second) noexcept {
  const PyBorrowed method = state.imports.get(which);
  const PyRef order = PyRef::steal(method ? PyUnicode_FromString("little") : nullptr);
  if (!order) return {};
  return PyRef::steal(
      second ? PyObject_CallFunctionObjArgs(method.get(), first.get(), second.get(), order.get(), nullptr)
             : PyObject_CallFunctionObjArgs(method.get(), first.get(), order.get(), nullptr));
}

// How many bytes hold `integer` with its sign. 0 with an exception set when that fails.
std::size_t signed_size(PyObject* integer) noexcept {
  if (Py_Version >= kPython313) {
    const Py_ssize_t size = typhon_as_native_bytes(integer, nullptr, 0, kLittleEndian);
    return size < 0 ? 0 : static_cast<std::size_t>(size);
  }
  const std::size_t bits = typhon_num_bits(integer);
  return bits == static_cast<std::size_t>(-1) ? 0 : bits / 8 + 1;
}

// In two's complement; `to` is of signed_size().
bool read_bytes(PyObject* integer, std::span<std::uint8_t> to) noexcept {
  if (Py_Version >= kPython313) {
    return typhon_as_native_bytes(integer, to.data(), static_cast<Py_ssize_t>(to.size()), kLittleEndian) >= 0;
  }
  return typhon_as_byte_array(integer, to.data(), to.size(), 1, 1) == 0;
}

bool write_by_method(ModuleState& state, PyBorrowed integer, etf::Writer& writer) noexcept {
  const PyRef magnitude = PyRef::steal(PyNumber_Absolute(integer.get()));
  const PyRef bits =
      PyRef::steal(magnitude ? PyObject_CallMethod(magnitude.get(), "bit_length", nullptr) : nullptr);
  if (!bits) return false;
  const Py_ssize_t bit_length = PyLong_AsSsize_t(bits.get());
  if (bit_length < 0) return false;
  const PyRef size = PyRef::steal(PyLong_FromSsize_t((bit_length + 7) / 8));
  const PyRef bytes = size ? call_int(state, Lazy::kIntToBytes, magnitude, size) : PyRef();
  const PyRef zero = PyRef::steal(PyLong_FromLong(0));
  if (!bytes || !zero) return false;
  const int negative = PyObject_RichCompareBool(integer.get(), zero.get(), Py_LT);
  if (negative < 0) return false;
  return writer.big(negative == 1,
                    etf::Bytes(reinterpret_cast<const std::uint8_t*>(PyBytes_AsString(bytes.get())),
                               static_cast<std::size_t>(PyBytes_Size(bytes.get()))));
}

}  // namespace

PyObject* make_big_integer(ModuleState& state, bool negative, etf::Bytes magnitude) noexcept {
  PyRef value;
  if (Py_Version >= kPython313 && typhon_from_unsigned_bytes != nullptr) {
    value = PyRef::steal(typhon_from_unsigned_bytes(magnitude.data(), magnitude.size(), kLittleEndian));
  } else if (Py_Version < kPython313 && typhon_from_byte_array != nullptr) {
    value = PyRef::steal(typhon_from_byte_array(magnitude.data(), magnitude.size(), 1, 0));
  } else {
    const PyRef bytes = PyRef::steal(PyBytes_FromStringAndSize(
        reinterpret_cast<const char*>(magnitude.data()), static_cast<Py_ssize_t>(magnitude.size())));
    value = bytes ? call_int(state, Lazy::kIntFromBytes, bytes, nullptr) : PyRef();
  }
  if (negative && value) value = PyRef::steal(PyNumber_Negative(value.get()));
  return value.release();
}

bool write_big_integer(ModuleState& state, PyObject* integer, etf::Writer& writer) noexcept {
  const bool direct = Py_Version >= kPython313
                          ? typhon_as_native_bytes != nullptr
                          : typhon_as_byte_array != nullptr && typhon_num_bits != nullptr;
  if (!direct) return write_by_method(state, integer, writer);
  const std::size_t size = signed_size(integer);
  if (size == 0) return false;
  std::uint8_t small[kInline];
  std::unique_ptr<std::uint8_t, Free> large(size > kInline ? static_cast<std::uint8_t*>(PyMem_Malloc(size))
                                                           : nullptr);
  if (size > kInline && !large) {
    PyErr_NoMemory();
    return false;
  }
  const std::span<std::uint8_t> bytes(large ? large.get() : small, size);
  if (!read_bytes(integer, bytes)) return false;
  const bool negative = bytes.back() >= 0x80;
  if (negative) negate(bytes);
  return writer.big(negative, bytes);
}

}  // namespace typhon::python
