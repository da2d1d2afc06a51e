// What a decoder makes in the dialect of ErlPort (erlport.h).
#include "python/decode/decoder.h"
#include "python/errors.h"

#include "etf/sink.h"
#include "etf/writer.h"

#include <utility>

namespace typhon::python {

bool Decoder::find_erlport_atom(std::string_view text, Value& out) noexcept {
  const PyRef atom =
      PyRef::steal(caches_.find_atom(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
  return atom && (out = known_atom(state_, *erlport_, atom.get())) != nullptr;
}

// Takes over a typhon.Atom.
bool Decoder::to_erlport_atom(Value& out) noexcept {
  const PyRef atom = PyRef::steal(out);
  return (out = make_atom(state_, *erlport_, atom.get())) != nullptr;
}

// Takes over a list.
bool Decoder::to_erlport_list(Value& out) noexcept {
  return (out = make_list(*erlport_, PyRef::steal(out))) != nullptr;
}

bool Decoder::opaque_bits(etf::Bytes bytes, unsigned last, Value& out) noexcept {
  etf::HeapSink sink;
  etf::Writer writer(sink);
  if (!writer.bits(bytes, last)) {
    PyErr_NoMemory();
    return false;
  }
  return (out = make_opaque(*erlport_, sink.bytes())) != nullptr;
}

// A container that fails to close is abandoned: until then it is the reader's.
bool Decoder::close_erlport_list(Container& c, Value& out) noexcept {
  out = make_list(*erlport_, PyRef::borrow(c.object));
  if (out == nullptr) return false;
  python::drop(c.object);
  return true;
}

bool Decoder::close_erlport_tuple(Container& c, Value& out) noexcept {
  if (PyTuple_Size(c.object) != 3 || PyTuple_GetItem(c.object, 0) != erlport_->marker.get()) return true;
  PyObject* const language = PyTuple_GetItem(c.object, 1);
  PyObject* const data = PyTuple_GetItem(c.object, 2);
  auto* const type = reinterpret_cast<PyObject*>(Py_TYPE(language));
  if (type != erlport_->atom_type.get() || PyBytes_CheckExact(data) == 0) return true;
  out = PyObject_CallFunctionObjArgs(erlport_->load.get(), data, language, nullptr);
  if (out == nullptr) {
    context_.refuse_exception("Python object of what it was pickled to");
    return false;
  }
  python::drop(c.object);
  return true;
}

PyObject* Decoder::new_dict() noexcept {
  const PyRef none = PyRef::steal(PyTuple_New(0));
  return none ? erlport_->new_dict(reinterpret_cast<PyTypeObject*>(erlport_->map_type.get()), none.get(),
                                   nullptr)
              : nullptr;
}

}  // namespace typhon::python
