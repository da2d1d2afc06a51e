// What becomes of a worker in a child that user code forks (os.fork, multiprocessing's "fork" method, Ruby's
// fork).
//
// The child is a copy of the thread that forked: it has the channel mapped, and would answer its parent's
// call a second time, write into the ring beside its parent, and release segments that its parent still
// reads. So in a child the channel is out of bounds: nothing is sent, nothing is released, asking the BEAM
// raises, and when the function that forked returns the child ends. It may go on to read what lies in shared
// memory, which multiprocessing's workers do. Programs that a child executes (subprocess) do not have the
// channel.
#pragma once

#include "base/result.h"

namespace typhon::worker {

// Before the first request, in a process that is the worker's own: the LifeWatch does. Once is enough, and
// more do no harm.
[[nodiscard]] Status watch_forks() noexcept;

// Any thread.
[[nodiscard]] bool in_forked_child() noexcept;

}  // namespace typhon::worker
