// ArenaCache: keeps freed arenas of Python's object allocator for the next call.
//
// A call with a million small objects takes tens of megabytes in arenas of 256 KiB or 1 MiB. Python maps each
// anew and unmaps it when its last object is gone, so that every such call pays for each page again: the
// kernel zeroes it and the first touch faults, which costs as much as making the objects. With the cache
// installed an arena that is freed stays, up to a bound, and an idle worker gives all of them back (trim()).
//
// One for the process, as Python's hook is. Any thread: interpreters with a GIL of their own share it.
#pragma once

#include <cstddef>

namespace typhon::executor::arena_cache {

// Hooks the allocator of the running Python; does nothing where it has no such hook. With the GIL.
void install() noexcept;
// Whether it has hooked the allocator, and how many bytes it has mapped since then, less what it has unmapped
// (which may be arenas of before).
bool installed() noexcept;
std::size_t mapped() noexcept;

// Gives all of them back.
void trim() noexcept;

}  // namespace typhon::executor::arena_cache
