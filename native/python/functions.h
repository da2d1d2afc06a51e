// The Python functions typhon.encode and typhon.decode.
#pragma once

#include "python/cpython.h"

namespace typhon::python {

// For PyModule_AddFunctions; ends with an empty entry.
PyMethodDef* codec_functions() noexcept;

}  // namespace typhon::python
