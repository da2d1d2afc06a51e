#include "python/conversions.h"

#include "python/decode/structs.h"
#include "python/errors.h"
#include "python/module_state.h"
#include "python/path.h"

#include <string_view>

namespace typhon::python {
namespace {

PyRef look_up(PyBorrowed dict, PyBorrowed key) noexcept {
#ifdef Py_GIL_DISABLED
  PyObject* found = nullptr;
  static_cast<void>(PyDict_GetItemRef(dict.get(), key.get(), &found));
  return PyRef::steal(found);
#else
  return PyRef::borrow(PyDict_GetItemWithError(dict.get(), key.get()));
#endif
}

PyTypeObject* as_type(PyBorrowed type) noexcept { return reinterpret_cast<PyTypeObject*>(type.get()); }

}  // namespace

int Conversions::init() noexcept {
  encoders_ = PyRef::steal(PyDict_New());
  decoders_ = PyRef::steal(PyDict_New());
  return encoders_ && decoders_ ? 0 : -1;
}

bool Conversions::add_encoder(PyBorrowed type, PyBorrowed function) noexcept {
  const PyRef address = PyRef::steal(PyLong_FromVoidPtr(type.get()));
  const PyRef entry = PyRef::steal(PyTuple_Pack(2, type.get(), function.get()));
  if (!address || !entry || PyDict_SetItem(encoders_.get(), address.get(), entry.get()) != 0) return false;
  encoders_version_.fetch_add(1, std::memory_order_acq_rel);
  return true;
}

bool Conversions::add_decoder(PyBorrowed name, PyBorrowed function) noexcept {
  if (PyDict_SetItem(decoders_.get(), name.get(), function.get()) != 0) return false;
  has_decoders_.store(true, std::memory_order_release);
  return true;
}

PyRef Conversions::encoder_of(PyTypeObject* type) const noexcept {
  const PyRef bases = attribute_of_class(type, "__mro__");
  if (!bases || PyTuple_Check(bases.get()) == 0) return {};
  const Py_ssize_t size = PyTuple_Size(bases.get());
  for (Py_ssize_t i = 0; i < size; ++i) {
    const PyRef address = PyRef::steal(PyLong_FromVoidPtr(PyTuple_GetItem(bases.get(), i)));
    if (!address) return {};
    const PyRef entry = look_up(encoders_, address);
    if (entry) return PyRef::borrow(PyTuple_GetItem(entry.get(), 1));
    if (PyErr_Occurred() != nullptr) return {};
  }
  return {};
}

PyRef Conversions::decoder_of(PyBorrowed name) const noexcept { return look_up(decoders_, name); }

int Conversions::traverse(visitproc visit, void* arg) const noexcept {
  Py_VISIT(encoders_.get());
  Py_VISIT(decoders_.get());
  return 0;
}

// The dicts stay: a thread may be looking into them.
void Conversions::clear() noexcept {
  has_decoders_.store(false, std::memory_order_release);
  if (encoders_version() != 0) encoders_version_.fetch_add(1, std::memory_order_acq_rel);
  if (encoders_) PyDict_Clear(encoders_.get());
  if (decoders_) PyDict_Clear(decoders_.get());
}

std::string function_name(PyBorrowed function) {
  const ExceptionAside aside;
  std::string text;
  for (const char* const part : {"__module__", "__qualname__"}) {
    const PyRef name = PyRef::steal(PyObject_GetAttrString(function.get(), part));
    Py_ssize_t size = 0;
    const char* const utf8 =
        name && PyUnicode_Check(name.get()) != 0 ? PyUnicode_AsUTF8AndSize(name.get(), &size) : nullptr;
    if (utf8 != nullptr) {
      if (!text.empty()) text += '.';
      text.append(utf8, static_cast<std::size_t>(size));
    }
    PyErr_Clear();
  }
  return text.empty() ? type_name(function) : text;
}

// --- the functions of the module ---

namespace {

bool is_callable(PyBorrowed function, const char* decorator) noexcept {
  if (PyCallable_Check(function.get()) != 0) return true;
  PyErr_Format(PyExc_TypeError, "typhon.%s takes a function, got %R", decorator, function.get());
  return false;
}

// Their instances never come to where an encoder is looked for; and every class derives from object.
bool has_fixed_form(const ModuleState& state, PyBorrowed type) noexcept {
  const PyTypeObject* const plain[] = {&PyUnicode_Type,  &PyLong_Type,      &PyFloat_Type, &PyBool_Type,
                                       Py_TYPE(Py_None), &PyDict_Type,      &PyList_Type,  &PyTuple_Type,
                                       &PyBytes_Type,    &PyBaseObject_Type};
  for (const PyTypeObject* const one : plain) {
    if (as_type(type) == one) return true;
  }
  return type.get() == state.atom_type.get();
}

PyObject* register_encoder(PyObject* module, PyObject* args) noexcept {
  PyObject* type = nullptr;
  PyObject* function = nullptr;
  if (PyArg_ParseTuple(args, "OO:register_encoder", &type, &function) == 0) return nullptr;
  ModuleState& state = ModuleState::of(module);
  if (PyType_Check(type) == 0) {
    return PyErr_Format(PyExc_TypeError, "typhon.encoder takes a class, got %R", type);
  }
  if (has_fixed_form(state, type)) {
    return PyErr_Format(
        PyExc_TypeError,
        "typhon.encoder takes no %R, which goes out in its own form: name a class of your own", type);
  }
  if (!is_callable(function, "encoder") || !state.conversions.add_encoder(type, function)) return nullptr;
  // The class and those that derive from it may have been seen before.
  state.types.clear();
  return take(Py_None);
}

// A name that no struct has would be waited for in silence. False with an exception set.
bool is_struct_name(ModuleState& state, PyBorrowed name) noexcept {
  Py_ssize_t size = 0;
  const char* const utf8 = PyUnicode_AsUTF8AndSize(name.get(), &size);
  if (utf8 == nullptr) return false;
  const std::string_view text(utf8, static_cast<std::size_t>(size));
  if (size > 0 && utf8[0] >= 'A' && utf8[0] <= 'Z' && !text.starts_with("Elixir.")) {
    PyErr_Format(PyExc_ValueError, "typhon.decoder: the struct %U has the name 'Elixir.%U'", name.get(),
                 name.get());
    return false;
  }
  const PyRef atom = PyRef::steal(state.atoms.get(text));
  if (!atom) return false;
  if (struct_named(state, atom) == Struct::kUnknown) return true;
  PyErr_Format(PyExc_ValueError, "typhon.decoder takes no %R: Python has a type of its own for that struct",
               name.get());
  return false;
}

PyObject* register_decoder(PyObject* module, PyObject* args) noexcept {
  PyObject* name = nullptr;
  PyObject* function = nullptr;
  if (PyArg_ParseTuple(args, "OO:register_decoder", &name, &function) == 0) return nullptr;
  ModuleState& state = ModuleState::of(module);
  const bool atom = reinterpret_cast<PyObject*>(Py_TYPE(name)) == state.atom_type.get();
  const PyRef text = PyRef::borrow(atom ? AtomObject::of(name)->name : name);
  if (PyUnicode_Check(text.get()) == 0) {
    return PyErr_Format(PyExc_TypeError,
                        "typhon.decoder takes the name of a struct, such as 'Elixir.MyApp.User', got %R",
                        name);
  }
  if (!is_struct_name(state, text) || !is_callable(function, "decoder") ||
      !state.conversions.add_decoder(text, function)) {
    return nullptr;
  }
  return take(Py_None);
}

PyObject* forget_conversions(PyObject* module, PyObject*) noexcept {
  ModuleState& state = ModuleState::of(module);
  state.conversions.clear();
  state.types.clear();
  return take(Py_None);
}

PyMethodDef functions[] = {
    {"forget_conversions", forget_conversions, METH_NOARGS,
     "forget_conversions($module, /)\n--\n\nWhat was registered here: the next worker of this interpreter "
     "may be of another pool."},
    {"register_encoder", register_encoder, METH_VARARGS,
     "register_encoder($module, cls, function, /)\n--\n\nFor typhon.encoder alone."},
    {"register_decoder", register_decoder, METH_VARARGS,
     "register_decoder($module, name, function, /)\n--\n\nFor typhon.decoder alone."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

PyMethodDef* conversion_functions() noexcept { return functions; }

}  // namespace typhon::python
