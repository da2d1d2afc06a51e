// What becomes of a worker in a child that user code forks (os.fork, multiprocessing's "fork" method).
//
// The child is a copy of the thread that forked: it has the channel mapped, and would answer its parent's
// call a second time, write into the ring beside its parent, and release segments that its parent still
// reads. So in a child the channel is out of bounds: nothing is sent, nothing is released, asking the BEAM
// raises, and when the function that forked returns the child ends. It may go on to read what lies in shared
// memory, which multiprocessing's workers do. Programs that a child executes (subprocess) do not have the
// channel.
#pragma once

#include "python/ref.h"

namespace typhon::executor::fork_guard {

// Once, before the first request.
void install() noexcept;

// Any thread.
[[nodiscard]] bool in_child() noexcept;

// In a child, with the GIL: the copy of the call has come back, with a result or an exception that is set.
// Ends the process as the end of a program would: 0, the status of SystemExit, or 1 after a traceback.
[[noreturn]] void leave(python::PyRef result) noexcept;

}  // namespace typhon::executor::fork_guard
