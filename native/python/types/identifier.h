// Pid, Reference, Port and Fun: terms that only the BEAM can read, kept as the bytes in which they came and
// sent back so. Their fields are parsed when somebody asks. Two are equal when their fields are (one pid has
// several encodings); closures compare by their bytes.
#pragma once

#include "python/cpython.h"
#include "python/ref.h"

#include "etf/views.h"

#include <cstddef>
#include <cstdint>

namespace typhon::python {

struct ModuleState;

enum class IdentifierKind : std::uint8_t { kPid, kReference, kPort, kFun };

struct IdentifierObject {
  PyObject_VAR_HEAD
  Py_hash_t hash;
  std::uint32_t raw_size;
  IdentifierKind kind;
  // The term without the version byte follows.

  [[nodiscard]] etf::Bytes bytes() const noexcept {
    return {reinterpret_cast<const std::uint8_t*>(this + 1), raw_size};
  }
  [[nodiscard]] static IdentifierObject* of(PyObject* object) noexcept {
    return reinterpret_cast<IdentifierObject*>(object);
  }
};

// Makes the four heap types in `state`. 0, or -1 with an exception set.
int init_identifiers(ModuleState& state, PyObject* module) noexcept;

// New reference, or null with MemoryError set. The view must come from etf::decode, which has checked it.
PyObject* make_pid(ModuleState&, const etf::PidView&) noexcept;
PyObject* make_reference(ModuleState&, const etf::ReferenceView&) noexcept;
PyObject* make_port(ModuleState&, const etf::PortView&) noexcept;
PyObject* make_export(ModuleState&, const etf::ExportView&) noexcept;
PyObject* make_fun(ModuleState&, const etf::FunView&) noexcept;

}  // namespace typhon::python
