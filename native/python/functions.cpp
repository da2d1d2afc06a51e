#include "python/functions.h"

#include "python/codec.h"
#include "python/module_state.h"

namespace typhon::python {
namespace {

PyObject* encode_function(PyObject*, PyObject*) noexcept {
  PyErr_SetString(PyExc_NotImplementedError, "being written");
  return nullptr;
}
PyObject* decode_function(PyObject* module, PyObject* data) noexcept {
  char* bytes; Py_ssize_t size;
  if (PyBytes_AsStringAndSize(data, &bytes, &size)) return nullptr;
  return decode(ModuleState::of(module), {reinterpret_cast<const std::uint8_t*>(bytes), static_cast<std::size_t>(size)}, {.buffer_owner = data});
}

PyMethodDef functions[] = {
    {"encode", encode_function, METH_O, nullptr},
    {"decode", decode_function, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

PyMethodDef* codec_functions() noexcept { return functions; }

bool encode(ModuleState&, PyObject*, etf::Sink&, const EncodeOptions&) noexcept {
  return false;
}
bool encode_term(ModuleState& state, PyObject* object, etf::Sink& sink, const EncodeOptions& options) noexcept {
  return encode(state, object, sink, options);
}

}  // namespace typhon::python
