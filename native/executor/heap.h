// Heap: what a worker asks of malloc.
//
// A large result or argument of each call would otherwise be mapped, faulted in page by page, and unmapped
// again: that costs several times the copy itself. So blocks of up to 128 MiB stay with the process while it
// is busy; an idle one gives back whatever is free (IdleTrim).
//
// Any thread. One for each C library: interpreters inside the VM have one of their own.
#pragma once

namespace typhon::executor::heap {

void keep_large_blocks() noexcept;

// Gives back what is free. Not the end of the heap of another thread, which only that thread can reach:
// trim_own().
void trim() noexcept;
void trim_own() noexcept;

}  // namespace typhon::executor::heap
