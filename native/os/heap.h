// Heap: what is asked of malloc beside memory.
//
// A large result or argument of each call would otherwise be mapped, faulted in page by page, and unmapped
// again: that costs several times the copy itself. So blocks of up to 128 MiB stay with the process while it
// is busy; an idle one gives back whatever is free (executor/idle_trim.h). A malloc that has no such settings
// (musl's) does as it likes.
//
// Any thread; nothing here fails. One heap for each C library: interpreters inside the VM have one of their
// own.
#pragma once

#include <cstddef>

namespace typhon::os::heap {

void keep_large_blocks() noexcept;

// Gives back what is free. Not the end of the heap of another thread, which only that thread can reach:
// trim_own().
void trim() noexcept;
void trim_own() noexcept;

// Bytes of all blocks that are in use. Walks the free lists. 0 where can_tell() is false.
[[nodiscard]] bool can_tell() noexcept;
[[nodiscard]] std::size_t in_use() noexcept;

// Bytes that this block has. 0 for nullptr.
[[nodiscard]] std::size_t size_of(void* block) noexcept;

}  // namespace typhon::os::heap
