// unencodable(results, awaited): which results of a batch (typhon._bulk) cannot cross to the BEAM. None when
// some are of the type `awaited`, coroutines: they are not results yet.
//
// A reply is encoded as a whole, and one bad value fails all of it. For a batch that would throw away the
// results of calls that have been made, so each is tried before. Plain numbers cannot fail and cost a look at
// their type.
#pragma once

#include "python/cpython.h"

namespace typhon::executor {

// For the module's exec slot: adds unencodable. 0, or -1 with an exception set.
int add_bulk(PyObject* module) noexcept;

}  // namespace typhon::executor
