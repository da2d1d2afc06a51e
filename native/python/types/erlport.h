// The dialect of ErlPort: the same codec, with another table of which term becomes what. Programs written for
// ErlPort get its classes (Atom, List, Map …, of the package erlport) in place of this module's own.
//
//   atom       true, false, undefined: True, False, None; else Atom, a subclass of bytes (UTF-8)
//   binary     bytes                                   bytes
//   list       List; strings of code points, too       list, List, str
//   map        Map, whatever its keys                  dict, Map
//   [a | b]    ImproperList
//   pid, reference, port, fun, bit string: OpaqueObject with the term's own bytes, which go back as they came
//   any other object of Python's: {'$erlport.opaque', python, Pickle}, and back
//
// Classes count by identity, as in ErlPort: what derives from one is any other object.
//
// The classes are the package's, which hands them over when it is imported. Threads: set once, read by
// anyone; the table of atoms is a dict of Python's.
#pragma once

#include "python/cpython.h"
#include "python/ref.h"

#include "etf/views.h"

#include <string_view>

namespace typhon::python {

struct ModuleState;

struct Erlport {
  PyRef atom_type;
  PyRef list_type;
  PyRef map_type;
  PyRef improper_list_type;
  PyRef opaque_type;
  PyRef dump;  // object -> bytes, or raises
  PyRef load;  // (bytes, language: Atom) -> object

  PyRef atoms;  // Atom by typhon.Atom, whose look-up by the bytes of a name needs no object
  PyRef marker;
  PyRef python;
  PyRef erlang;
  newfunc new_dict = nullptr;
  allocfunc new_list = nullptr;

  int traverse(visitproc visit, void* arg) const noexcept;
};

// typhon._native's functions erlport_types, erlport_encode and erlport_decode.
PyMethodDef* erlport_functions() noexcept;

// New references, or nullptr with an exception set; `known_atom` also without one.
PyObject* known_atom(ModuleState&, const Erlport&, PyObject* atom) noexcept;
PyObject* make_atom(ModuleState&, const Erlport&, PyObject* atom) noexcept;
// A List of the elements of a list that nobody else has seen.
PyObject* make_list(const Erlport&, PyRef elements) noexcept;
PyObject* make_opaque(const Erlport&, etf::Bytes term) noexcept;

}  // namespace typhon::python
