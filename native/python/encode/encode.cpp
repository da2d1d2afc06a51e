#include "python/codec.h"

#include "python/encode/encoder.h"

namespace typhon::python {

bool encode(ModuleState& state, PyObject* object, etf::Sink& sink, const EncodeOptions& options) noexcept {
  return Encoder(state, sink, options).run(object, true);
}

bool encode_term(ModuleState& state, PyObject* object, etf::Sink& sink,
                 const EncodeOptions& options) noexcept {
  return Encoder(state, sink, options).run(object, false);
}

}  // namespace typhon::python
