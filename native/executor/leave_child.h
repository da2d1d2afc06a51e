// The end of a child that user code has forked (worker/forked.h).
#pragma once

#include "python/ref.h"

namespace typhon::executor {

// In a child, with the GIL: the copy of the call has come back, with a result or an exception that is set.
// Ends the process as the end of a program would: 0, the status of SystemExit, or 1 after a traceback.
[[noreturn]] void leave_child(python::PyRef result) noexcept;

// The same of a child that was forked by other code of the user's than a function that was called: a __str__
// of an error, a finaliser.
void leave_if_forked() noexcept;

}  // namespace typhon::executor
