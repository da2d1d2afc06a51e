// Limits of the operating system for a worker, set before any user code runs.
#pragma once

#include <string>

#include "python/cpython.h"

namespace typhon::executor {

// From the settings `limit_memory` (bytes beyond what the process has mapped now, the channel's region
// included), `limit_cpu` (seconds), `limit_files` and `nice`; those that are absent are left as they are. An
// empty string, or a sentence that says which of them the system refused.
std::string apply_limits(PyObject* settings) noexcept;

// The same inside the BEAM, whose process is not to be limited: `limit_memory` alone (memory_limit.h).
std::string apply_limits_inside(PyObject* settings) noexcept;

// Whether there is a `limit_memory`.
[[nodiscard]] bool limits_memory(PyObject* settings) noexcept;

}  // namespace typhon::executor
