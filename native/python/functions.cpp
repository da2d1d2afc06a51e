#include "python/functions.h"

#include "python/codec.h"
#include "python/module_state.h"

namespace typhon::python {
namespace {

PyObject* not_yet(PyObject*, PyObject*) noexcept {
  PyErr_SetString(PyExc_NotImplementedError, "being written");
  return nullptr;
}

PyMethodDef functions[] = {
    {"encode", not_yet, METH_O, nullptr},
    {"decode", not_yet, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

PyMethodDef* codec_functions() noexcept { return functions; }

PyObject* decode(ModuleState&, std::span<const std::uint8_t>, const DecodeOptions&) noexcept {
  return not_yet(nullptr, nullptr);
}
bool encode(ModuleState&, PyObject*, etf::Sink&, const EncodeOptions&) noexcept {
  not_yet(nullptr, nullptr);
  return false;
}
bool encode_term(ModuleState& state, PyObject* object, etf::Sink& sink, const EncodeOptions& options) noexcept {
  return encode(state, object, sink, options);
}

}  // namespace typhon::python
