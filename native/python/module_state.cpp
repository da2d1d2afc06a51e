#include "python/module_state.h"

#include "python/errors.h"
#include "python/functions.h"
#include "python/types/identifier.h"
#include "python/types/values.h"

#include <new>

namespace typhon::python {
namespace {

ModuleState* state_or_null(PyObject* module) noexcept {
  auto* const slot = static_cast<ModuleSlot*>(PyModule_GetState(module));
  return slot == nullptr ? nullptr : slot->codec;
}

int init_state(ModuleState& state, PyObject* module) noexcept {
  state.atom_type = make_atom_type(module);
  if (!state.atom_type || state.atoms.init(reinterpret_cast<PyTypeObject*>(state.atom_type.get())) != 0)
    return -1;
  if (init_identifiers(state, module) != 0 || init_values(state, module) != 0 || init_errors(state) != 0)
    return -1;
  for (std::size_t i = 0; i < state.names.size(); ++i) {
    state.names[i] = PyRef::steal(state.atoms.get(kKnownAtoms[i]));
    if (!state.names[i]) return -1;
  }
  if (PyModule_AddFunctions(module, codec_functions()) != 0) return -1;
  if (PyModule_AddFunctions(module, erlport_functions()) != 0) return -1;
  if (PyModule_AddFunctions(module, conversion_functions()) != 0 || state.conversions.init() != 0) return -1;
  state.decode_function = PyRef::steal(PyObject_GetAttrString(module, "decode"));
  return state.decode_function ? 0 : -1;
}

int export_names(const ModuleState& state, PyObject* module) noexcept {
  const struct {
    const char* name;
    const PyRef& object;
  } exports[] = {
      {"Atom", state.atom_type},
      {"Pid", state.pid_type},
      {"Reference", state.reference_type},
      {"Port", state.port_type},
      {"Fun", state.fun_type},
      {"BitString", state.bit_string_type},
      {"ImproperList", state.improper_list_type},
      {"Kept", state.kept_type},
      {"TyphonError", state.typhon_error},
      {"EncodeError", state.encode_error},
      {"DecodeError", state.decode_error},
      {"Cancelled", state.cancelled},
  };
  for (const auto& entry : exports) {
    if (PyModule_AddObjectRef(module, entry.name, entry.object.get()) != 0) return -1;
  }
  return 0;
}

}  // namespace

int ModuleState::traverse(visitproc visit, void* arg) noexcept {
  const PyRef* const held[] = {&atom_type,    &pid_type,        &reference_type,     &port_type,
                               &fun_type,     &bit_string_type, &improper_list_type, &kept_type,
                               &typhon_error, &encode_error,    &decode_error,       &cancelled,
                               &nothing,      &decode_function};
  for (const PyRef* const object : held) Py_VISIT(object->get());
  for (const PyRef& name : names) Py_VISIT(name.get());
  if (const int stop = atoms.traverse(visit, arg); stop != 0) return stop;
#ifndef Py_GIL_DISABLED
  if (const int stop = keys.traverse(visit, arg); stop != 0) return stop;
#endif
  if (erlport) {
    if (const int stop = erlport->traverse(visit, arg); stop != 0) return stop;
  }
  if (const int stop = types.traverse(visit, arg); stop != 0) return stop;
  if (const int stop = conversions.traverse(visit, arg); stop != 0) return stop;
  return imports.traverse(visit, arg);
}

int add_codec(PyObject* module) noexcept {
  auto* const slot = static_cast<ModuleSlot*>(PyModule_GetState(module));
  slot->codec = new (std::nothrow) ModuleState;
  if (slot->codec == nullptr) {
    PyErr_NoMemory();
    return -1;
  }
  return init_state(*slot->codec, module) == 0 && export_names(*slot->codec, module) == 0 ? 0 : -1;
}

int traverse_codec(PyObject* module, visitproc visit, void* arg) noexcept {
  ModuleState* const state = state_or_null(module);
  return state == nullptr ? 0 : state->traverse(visit, arg);
}

// What refers back to the module: the types do, and functions. The caches only hold; they go with the state.
int clear_codec(PyObject* module) noexcept {
  if (ModuleState* const state = state_or_null(module); state != nullptr) {
    state->decode_function.reset();
    state->types.clear();
    state->conversions.clear();
    state->imports.clear();
    state->erlport.reset();
  }
  return 0;
}

void free_codec(PyObject* module) noexcept {
  auto* const slot = static_cast<ModuleSlot*>(PyModule_GetState(module));
  if (slot != nullptr) delete std::exchange(slot->codec, nullptr);
}

}  // namespace typhon::python
