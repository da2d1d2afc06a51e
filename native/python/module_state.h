// ModuleState: everything the codec keeps between calls, once for each interpreter that imports
// typhon._native.
//
// Several interpreters of one process load the same library, each under a GIL of its own, so nothing may live
// in a global: types, caches and lazily imported classes are here. Owned by the module object; reached
// through `ModuleState::of`. Every member function needs the GIL of that interpreter. Without a GIL any
// thread of it may call any of them at any time: what changes after the module's exec slot says how it bears
// that.
#pragma once

#include "python/conversions.h"
#include "python/cpython.h"
#include "python/decode/key_cache.h"
#include "python/decode/small_ints.h"
#include "python/encode/type_cache.h"
#include "python/lazy_import.h"
#include "python/ref.h"
#include "python/types/atom_table.h"
#include "python/types/erlport.h"
#include "python/types/known_atoms.h"

#include <array>
#include <cstddef>
#include <memory>

namespace typhon::python {

// What the module object's state memory holds. native/executor derives from it to add its own part; this one
// must stay the first base, and the whole must stay trivial: CPython hands out zeroed memory and frees it.
struct ModuleSlot {
  struct ModuleState* codec;
};

struct ModuleState {
  // The types and exceptions that typhon._native exports.
  PyRef atom_type;
  PyRef pid_type;
  PyRef reference_type;
  PyRef port_type;
  PyRef fun_type;
  PyRef bit_string_type;
  PyRef improper_list_type;
  PyRef kept_type;
  PyRef typhon_error;
  PyRef encode_error;
  PyRef decode_error;
  PyRef cancelled;
  PyRef nothing;  // a function of Python that does nothing

  // typhon._native.decode, which the opaque types are unpickled with.
  PyRef decode_function;

  std::array<PyRef, kKnownAtoms.size()> names;  // by Known
  AtomTable atoms;
#ifndef Py_GIL_DISABLED
  KeyCache keys;
#endif
  SmallInts small_ints;
  TypeCache types;
  LazyImports imports;
  Conversions conversions;
  // The classes of ErlPort's dialect, where its package has been imported.
  std::unique_ptr<Erlport> erlport;

  [[nodiscard]] PyObject* known(Known which) const noexcept {
    return names[static_cast<std::size_t>(which)].get();
  }

  // The state of `module`, which must be a typhon._native.
  [[nodiscard]] static ModuleState& of(PyObject* module) noexcept {
    return *static_cast<ModuleSlot*>(PyModule_GetState(module))->codec;
  }
  // The state of the module that made the heap type `type`.
  [[nodiscard]] static ModuleState& of_type(PyTypeObject* type) noexcept {
    return *static_cast<ModuleSlot*>(PyType_GetModuleState(type))->codec;
  }

  int traverse(visitproc visit, void* arg) noexcept;
};

// For the module's Py_mod_exec slot: makes the state, adds the types, the exceptions and the functions
// `encode` and `decode` to the module. 0, or -1 with an exception set.
int add_codec(PyObject* module) noexcept;
// For m_traverse, m_clear and m_free. Each takes a module whose exec slot may not have run, or may have
// failed.
int traverse_codec(PyObject* module, visitproc visit, void* arg) noexcept;
int clear_codec(PyObject* module) noexcept;
void free_codec(PyObject* module) noexcept;

}  // namespace typhon::python
