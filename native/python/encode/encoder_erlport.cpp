// How objects are written in the dialect of ErlPort (erlport.h).
#include "python/encode/encoder.h"
#include "python/errors.h"
#include "python/types/values.h"

#include "etf/leaf.h"
#include "etf/skip.h"
#include "etf/tags.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <new>
#include <string>
#include <utility>

namespace typhon::python {
namespace {

std::string_view text_of(PyBorrowed bytes) noexcept {
  return {PyBytes_AsString(bytes.get()), static_cast<std::size_t>(PyBytes_Size(bytes.get()))};
}

etf::Bytes bytes_of(PyBorrowed bytes) noexcept {
  const std::string_view text = text_of(bytes);
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

bool is_ascii(std::string_view text) noexcept {
  return std::ranges::all_of(text, [](char c) { return static_cast<signed char>(c) >= 0; });
}

}  // namespace

bool Encoder::put_constant(std::string_view atom) noexcept {
  return options_.old_atoms ? writer_.old_atom(atom) : writer_.known_atom(atom);
}

// What is neither a leaf, nor exactly a dict, a list or a tuple.
Encoder::Did Encoder::put_erlport(PyObject* object) noexcept {
  const Erlport& erlport = *options_.erlport;
  auto* const type = reinterpret_cast<PyObject*>(Py_TYPE(object));
  if (type == erlport.atom_type.get()) return put_erlport_atom(object);
  if (Py_TYPE(object) == &PyBytes_Type) return put_bytes(object);
  if (type == erlport.list_type.get()) return open_list(PyRef::borrow(object));
  if (type == erlport.map_type.get()) return open_dict(PyRef::borrow(object));
  if (type == erlport.improper_list_type.get()) return put_erlport_improper(object);
  if (type == erlport.opaque_type.get()) return put_opaque(object);
  // Of the worker itself.
  if (type == state_.atom_type.get()) return done(writer_.raw(AtomObject::of(object)->wire()));
  if (Py_TYPE(object) == &PyFloat_Type)
    return refuse(object, "a float that is infinite or no number, which the BEAM does not have");
  return put_pickled(object);
}

// A list of code points, lone surrogates included.
Encoder::Did Encoder::put_characters(PyObject* text) noexcept {
  constexpr Py_ssize_t kLong = 1024;  // as in put_text()
  const Py_ssize_t length = PyUnicode_GetLength(text);
  bool ascii = true;
  if (length > kLong) {
    const PyRef answer = PyRef::steal(PyObject_CallMethod(text, "isascii", nullptr));
    if (!answer) return Did::kFailed;
    ascii = answer.get() == Py_True;
  }
  if (ascii) {
    Py_ssize_t size = 0;
    const char* const utf8 = PyUnicode_AsUTF8AndSize(text, &size);
    if (utf8 == nullptr) PyErr_Clear();
    if (utf8 != nullptr && size == length) {
      return done(
          writer_.string({reinterpret_cast<const std::uint8_t*>(utf8), static_cast<std::size_t>(size)}));
    }
  }
  const char* const encoding = std::endian::native == std::endian::little ? "utf-32-le" : "utf-32-be";
  const PyRef encoded = PyRef::steal(PyUnicode_AsEncodedString(text, encoding, "surrogatepass"));
  if (!encoded) return Did::kFailed;
  const etf::Bytes bytes = bytes_of(encoded);
  const std::size_t count = bytes.size() / 4;
  const auto at = [&](std::size_t index) {
    std::uint32_t point = 0;
    std::memcpy(&point, bytes.data() + 4 * index, sizeof point);
    return point;
  };
  bool small = count <= etf::kMaxStringLength;
  for (std::size_t i = 0; small && i < count; ++i) small = at(i) <= 255;
  if (small) {
    try {
      std::string characters;
      for (std::size_t i = 0; i < count; ++i) characters += static_cast<char>(at(i));
      return done(
          writer_.string({reinterpret_cast<const std::uint8_t*>(characters.data()), characters.size()}));
    } catch (const std::bad_alloc&) {
      PyErr_NoMemory();
      return Did::kFailed;
    }
  }
  if (!writer_.list_header(count)) return Did::kFailed;
  for (std::size_t i = 0; i < count; ++i) {
    if (!writer_.integer(at(i))) return Did::kFailed;
  }
  return done(writer_.nil());
}

// UTF-8, or what no UTF-8 is in Latin-1, as ErlPort writes every atom.
Encoder::Did Encoder::put_erlport_atom(PyBorrowed atom) noexcept {
  const std::string_view name = text_of(atom);
  if (options_.old_atoms && name.size() <= kMaxAtomCharacters && is_ascii(name))
    return done(writer_.old_atom(name));
  if (etf::detail::check_atom(name)) return done(writer_.atom(name));
  const PyRef text =
      PyRef::steal(PyUnicode_DecodeLatin1(name.data(), static_cast<Py_ssize_t>(name.size()), nullptr));
  Py_ssize_t size = 0;
  const char* const utf8 = text ? PyUnicode_AsUTF8AndSize(text.get(), &size) : nullptr;
  if (utf8 == nullptr) return Did::kFailed;
  const std::string_view converted(utf8, static_cast<std::size_t>(size));
  if (!etf::detail::check_atom(converted)) return refuse(atom, "an atom of more than 255 characters");
  return done(writer_.atom(converted));
}

Encoder::Did Encoder::put_erlport_improper(PyBorrowed list) noexcept {
  PyRef items = PyRef::steal(PyList_AsTuple(list.get()));
  PyRef tail = items ? PyRef::steal(PyObject_GetAttrString(list.get(), "tail")) : PyRef();
  if (!tail) return refuse_exception(list, "an ImproperList");
  if (PyTuple_Size(items.get()) == 0) return put(tail.get());
  PyRef plain = PyRef::steal(make_improper_list(state_, std::move(items), std::move(tail)));
  return plain ? open_improper(std::move(plain)) : Did::kFailed;
}

Encoder::Did Encoder::put_opaque(PyBorrowed object) noexcept {
  const Erlport& erlport = *options_.erlport;
  const PyRef language = PyRef::steal(PyObject_GetAttrString(object.get(), "language"));
  const PyRef data = language ? PyRef::steal(PyObject_GetAttrString(object.get(), "data")) : PyRef();
  if (!data) return refuse_exception(object, "an OpaqueObject");
  auto* const type = reinterpret_cast<PyObject*>(Py_TYPE(language.get()));
  if (type != erlport.atom_type.get() || PyBytes_CheckExact(data.get()) == 0)
    return refuse(object, "an OpaqueObject whose language is no Atom, or whose data are no bytes");
  if (language.get() != erlport.erlang.get()) return put_opaque_term(language, data);
  // Anybody can make one of any bytes. What is no term would garble all that is around it.
  const etf::Bytes term = bytes_of(data);
  etf::Limits limits;
  limits.max_depth = options_.max_depth;
  const etf::Outcome outcome = etf::skip_inner(term, limits);
  if (!outcome.ok() || outcome.used != term.size())
    return refuse(object, "an OpaqueObject of the BEAM whose data are not one term");
  return done(writer_.raw(term));
}

Encoder::Did Encoder::put_pickled(PyBorrowed object) noexcept {
  const PyRef data =
      PyRef::steal(PyObject_CallFunctionObjArgs(options_.erlport->dump.get(), object.get(), nullptr));
  if (!data) {
    if (must_propagate()) return Did::kFailed;
    try {
      const std::string name = type_name(object);
      return refuse(object, "unsupported data type: %s cannot be pickled: %s", name.c_str(),
                    current_exception_text().c_str());
    } catch (const std::bad_alloc&) {
      PyErr_NoMemory();
      return Did::kFailed;
    }
  }
  if (PyBytes_CheckExact(data.get()) == 0) return refuse(object, "what it was pickled to are no bytes");
  return put_opaque_term(options_.erlport->python, data);
}

Encoder::Did Encoder::put_opaque_term(PyBorrowed language, PyBorrowed data) noexcept {
  if (!writer_.tuple_header(3)) return Did::kFailed;
  Did did = put_erlport_atom(options_.erlport->marker);
  if (did == Did::kWritten) did = put_erlport_atom(language);
  return did == Did::kWritten ? put_bytes(data) : did;
}

}  // namespace typhon::python
