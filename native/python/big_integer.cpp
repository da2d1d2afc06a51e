#include "python/big_integer.h"

#include "python/module_state.h"

#include <array>
#include <bit>
#include <cstdint>

namespace typhon::python {
namespace {

constexpr std::size_t kMaxByText = 64;  // bytes of magnitude

constexpr auto kHexPairs = [] {
  std::array<std::array<char, 2>, 256> pairs{};
  for (std::size_t i = 0; i < 256; ++i) pairs[i] = {"0123456789abcdef"[i >> 4], "0123456789abcdef"[i & 15]};
  return pairs;
}();

constexpr auto kHexValues = [] {
  std::array<std::uint8_t, 256> values{};
  for (std::uint8_t i = 0; i < 10; ++i) values[static_cast<std::size_t>('0') + i] = i;
  for (std::uint8_t i = 0; i < 6; ++i) values[static_cast<std::size_t>('a') + i] = static_cast<std::uint8_t>(10 + i);
  return values;
}();

// The method `which` of the class int, called as a function.
PyRef call_int(ModuleState& state, Lazy which, PyBorrowed first, PyBorrowed second) noexcept {
  const PyBorrowed method = state.imports.get(which);
  const PyRef order = PyRef::steal(method ? PyUnicode_InternFromString("little") : nullptr);
  if (!order) return {};
  return PyRef::steal(second ? PyObject_CallFunctionObjArgs(method.get(), first.get(), second.get(), order.get(), nullptr)
                             : PyObject_CallFunctionObjArgs(method.get(), first.get(), order.get(), nullptr));
}

bool write_by_bytes(ModuleState& state, PyBorrowed integer, etf::Writer& writer) noexcept {
  const PyRef magnitude = PyRef::steal(PyNumber_Absolute(integer.get()));
  const PyRef bits = PyRef::steal(magnitude ? PyObject_CallMethod(magnitude.get(), "bit_length", nullptr) : nullptr);
  if (!bits) return false;
  const Py_ssize_t bit_length = PyLong_AsSsize_t(bits.get());
  if (bit_length < 0) return false;
  const PyRef size = PyRef::steal(PyLong_FromSsize_t((bit_length + 7) / 8));
  const PyRef bytes = size ? call_int(state, Lazy::kIntToBytes, magnitude, size) : PyRef();
  const PyRef zero = PyRef::steal(PyLong_FromLong(0));
  if (!bytes || !zero) return false;
  const int negative = PyObject_RichCompareBool(integer.get(), zero.get(), Py_LT);
  if (negative < 0) return false;
  return writer.big(negative == 1, etf::Bytes(reinterpret_cast<const std::uint8_t*>(PyBytes_AsString(bytes.get())),
                                              static_cast<std::size_t>(PyBytes_Size(bytes.get()))));
}

}  // namespace

PyObject* make_big_integer(ModuleState& state, bool negative, etf::Bytes magnitude) noexcept {
  if (magnitude.size() <= kMaxByText) {
    char text[2 * kMaxByText + 2];
    char* to = text;
    if (negative) *to++ = '-';
    for (std::size_t i = magnitude.size(); i-- > 0; to += 2) std::memcpy(to, kHexPairs[magnitude[i]].data(), 2);
    *to = '\0';
    return PyLong_FromString(text, nullptr, 16);
  }
  const PyRef bytes = PyRef::steal(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(magnitude.data()),
                                                             static_cast<Py_ssize_t>(magnitude.size())));
  PyRef value = bytes ? call_int(state, Lazy::kIntFromBytes, bytes, nullptr) : PyRef();
  if (negative && value) value = PyRef::steal(PyNumber_Negative(value.get()));
  return value.release();
}

bool write_big_integer(ModuleState& state, PyObject* integer, etf::Writer& writer) noexcept {
  const PyRef text = PyRef::steal(PyNumber_ToBase(integer, 16));
  if (!text) return false;
  Py_ssize_t size = 0;
  const char* from = PyUnicode_AsUTF8AndSize(text.get(), &size);
  if (from == nullptr) return false;
  const bool negative = *from == '-';
  from += negative ? 3 : 2;  // and "0x"
  const auto digits = static_cast<std::size_t>(size) - (negative ? 3 : 2);
  if (digits > 2 * kMaxByText) return write_by_bytes(state, integer, writer);
  std::array<std::uint8_t, kMaxByText> magnitude;
  const std::size_t bytes = (digits + 1) / 2;
  const auto value = [](char digit) { return kHexValues[static_cast<unsigned char>(digit)]; };
  const char* last = from + digits;
  for (std::size_t i = 0; i < bytes; ++i) {
    last -= 2;
    const int high = last < from ? 0 : value(last[0]);
    magnitude[i] = static_cast<std::uint8_t>(high << 4 | value(last[1]));
  }
  return writer.big(negative, etf::Bytes(magnitude.data(), bytes));
}

}  // namespace typhon::python
