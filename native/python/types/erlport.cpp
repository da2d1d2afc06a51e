#include "python/types/erlport.h"

#include "python/codec.h"
#include "python/encode/bytes_sink.h"
#include "python/module_state.h"

#include "etf/skip.h"

#include <memory>
#include <new>
#include <utility>

namespace typhon::python {

int Erlport::traverse(visitproc visit, void* arg) const noexcept {
  const PyRef* const held[] = {&atom_type,   &list_type, &map_type, &improper_list_type,
                               &opaque_type, &dump,      &load,     &atoms,
                               &marker,      &python,    &erlang};
  for (const PyRef* const object : held) Py_VISIT(object->get());
  return 0;
}

PyObject* known_atom(ModuleState&, const Erlport& erlport, PyObject* atom) noexcept {
#ifdef Py_GIL_DISABLED
  PyObject* found = nullptr;
  static_cast<void>(PyDict_GetItemRef(erlport.atoms.get(), atom, &found));
  return found;
#else
  PyObject* const found = PyDict_GetItemWithError(erlport.atoms.get(), atom);
  return found == nullptr ? nullptr : take(found);
#endif
}

PyObject* make_atom(ModuleState& state, const Erlport& erlport, PyObject* atom) noexcept {
  if (PyObject* const known = known_atom(state, erlport, atom); known != nullptr) return known;
  if (PyErr_Occurred() != nullptr) return nullptr;
  const std::string_view name = AtomObject::of(atom)->text();
  PyRef made = PyRef::steal(PyObject_CallFunction(erlport.atom_type.get(), "y#", name.data(),
                                                  static_cast<Py_ssize_t>(name.size())));
  if (!made || PyDict_SetItem(erlport.atoms.get(), atom, made.get()) != 0) return nullptr;
  return made.release();
}

PyObject* make_list(const Erlport& erlport, PyRef elements) noexcept {
  PyRef list = PyRef::steal(erlport.new_list(reinterpret_cast<PyTypeObject*>(erlport.list_type.get()), 0));
  if (!list || PyList_SetSlice(list.get(), 0, 0, elements.get()) != 0) return nullptr;
  return list.release();
}

PyObject* make_opaque(const Erlport& erlport, etf::Bytes term) noexcept {
  return PyObject_CallFunction(erlport.opaque_type.get(), "y#O", reinterpret_cast<const char*>(term.data()),
                               static_cast<Py_ssize_t>(term.size()), erlport.erlang.get());
}

namespace {

// erlport_types(Atom, List, Map, ImproperList, OpaqueObject, dump, load)
PyObject* set_types(PyObject* module, PyObject* args) noexcept {
  ModuleState& state = ModuleState::of(module);
  PyObject* types[5];
  PyObject* dump = nullptr;
  PyObject* load = nullptr;
  if (PyArg_ParseTuple(args, "O!O!O!O!O!OO", &PyType_Type, &types[0], &PyType_Type, &types[1], &PyType_Type,
                       &types[2], &PyType_Type, &types[3], &PyType_Type, &types[4], &dump, &load) == 0) {
    return nullptr;
  }
  auto* const list = reinterpret_cast<PyTypeObject*>(types[1]);
  auto* const map = reinterpret_cast<PyTypeObject*>(types[2]);
  if (PyType_IsSubtype(list, &PyList_Type) == 0 || PyType_IsSubtype(map, &PyDict_Type) == 0) {
    PyErr_SetString(PyExc_TypeError, "List must be a list, and Map a dict");
    return nullptr;
  }
  std::unique_ptr<Erlport> made(new (std::nothrow) Erlport);
  if (!made) return PyErr_NoMemory();
  made->atom_type = PyRef::borrow(types[0]);
  made->list_type = PyRef::borrow(types[1]);
  made->map_type = PyRef::borrow(types[2]);
  made->improper_list_type = PyRef::borrow(types[3]);
  made->opaque_type = PyRef::borrow(types[4]);
  made->dump = PyRef::borrow(dump);
  made->load = PyRef::borrow(load);
  made->atoms = PyRef::steal(PyDict_New());
  made->new_list = reinterpret_cast<allocfunc>(PyType_GetSlot(list, Py_tp_alloc));
  made->new_dict = reinterpret_cast<newfunc>(PyType_GetSlot(&PyDict_Type, Py_tp_new));
  const struct {
    const char* name;
    PyRef& place;
  } names[] = {{"$erlport.opaque", made->marker}, {"python", made->python}, {"erlang", made->erlang}};
  if (!made->atoms) return nullptr;
  for (const auto& [name, place] : names) {
    const PyRef atom = PyRef::steal(state.atoms.get(name));
    if (atom) place = PyRef::steal(make_atom(state, *made, atom.get()));
    if (!place) return nullptr;
  }
  const struct {
    const char* name;
    PyObject* object;
  } constants[] = {{"true", Py_True}, {"false", Py_False}, {"undefined", Py_None}};
  for (const auto& [name, object] : constants) {
    const PyRef atom = PyRef::steal(state.atoms.get(name));
    if (!atom || PyDict_SetItem(made->atoms.get(), atom.get(), object) != 0) return nullptr;
  }
  // What the codec may be using in another thread stays what it is.
  if (!state.erlport) state.erlport = std::move(made);
  Py_RETURN_NONE;
}

const Erlport* dialect_of(PyObject* module) noexcept {
  const Erlport* const erlport = ModuleState::of(module).erlport.get();
  if (erlport == nullptr) PyErr_SetString(PyExc_RuntimeError, "erlport.erlterms has not been imported");
  return erlport;
}

PyObject* encode_function(PyObject* module, PyObject* object) noexcept {
  EncodeOptions options;
  options.erlport = dialect_of(module);
  options.old_atoms = true;
  options.root = "term";
  BytesSink sink;
  if (options.erlport == nullptr || !encode(ModuleState::of(module), object, sink, options)) return nullptr;
  return sink.finish();
}

// The term at the start of `data`, and how many bytes it takes. An input that ends inside a term, also inside
// of what is compressed in it: (None, 0).
PyObject* decode_function(PyObject* module, PyObject* data) noexcept {
  DecodeOptions options;
  options.erlport = dialect_of(module);
  Py_buffer buffer;
  if (options.erlport == nullptr || PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE) != 0) return nullptr;
  const std::span<const std::uint8_t> input(static_cast<const std::uint8_t*>(buffer.buf),
                                            static_cast<std::size_t>(buffer.len));
  etf::Limits limits;
  limits.max_depth = options.max_depth;
  limits.max_inflated = options.max_inflated;
  const etf::Outcome outcome = etf::skip(input, limits);
  PyObject* result = nullptr;
  if (outcome.incomplete) {
    result = Py_BuildValue("(Oi)", Py_None, 0);
  } else {
    // What skip() refuses is refused by decode(), too, and that says where.
    const std::size_t size = outcome.ok() ? static_cast<std::size_t>(outcome.used) : input.size();
    PyRef object = PyRef::steal(decode(ModuleState::of(module), input.first(size), options));
    if (object) result = Py_BuildValue("(On)", object.get(), static_cast<Py_ssize_t>(size));
  }
  PyBuffer_Release(&buffer);
  return result;
}

PyMethodDef functions[] = {
    {"erlport_types", set_types, METH_VARARGS,
     "erlport_types(Atom, List, Map, ImproperList, OpaqueObject, dump, load): for erlport.erlterms alone"},
    {"erlport_encode", encode_function, METH_O, "erlport_encode(object) -> bytes"},
    {"erlport_decode", decode_function, METH_O,
     "erlport_decode(data) -> (object, size); (None, 0) when data ends inside a term"},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

PyMethodDef* erlport_functions() noexcept { return functions; }

}  // namespace typhon::python
