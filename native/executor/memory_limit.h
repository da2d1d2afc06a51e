// MemoryLimit: how much memory a Python inside the BEAM may take. The operating system limits whole
// processes; here what counts is what this interpreter's allocators hold.
//
//   small objects ──► arenas of Python's object allocator ──► arena_cache ──┐
//   large ones, buffers ──► PyMem_RawMalloc ────────────────► hook ─────────┤ allows()?
//   numpy's data ──► its default memory handler ────────────► hook ─────────┘
//
// What they ask for is added up; when the sum reaches the limit, the truth is looked up: the arenas that are
// mapped, and what is in use of malloc (each namespace has a libc, and so a malloc, of its own; other native
// code's memory counts here). A request beyond the limit is refused, which Python makes a MemoryError of.
//
// Nothing is hooked while there is no limit, nor in the path of small objects ever. Not seen: what native
// code maps by itself (mmap, allocators of its own such as pyarrow's); and malloc called by native code is
// counted, but refused only to Python and numpy.
//
// One for the process, as Python's hooks are; which is one for each namespace.
#pragma once

#include <cstddef>

#include "python/cpython.h"

namespace typhon::executor::memory_limit {

// `bytes` more than are held now. With the GIL. False where this Python, or this libc, cannot be measured.
[[nodiscard]] bool set(std::size_t bytes) noexcept;
// With the GIL. No limit, and no hooks any more.
void lift() noexcept;

// Whether so many bytes more may be taken. Any thread.
[[nodiscard]] bool allows(std::size_t bytes) noexcept;

// Whether so many bytes beside what is held now are within the limit. Takes nothing. Any thread.
[[nodiscard]] bool has_room_for(std::size_t bytes) noexcept;

// The capsule of numpy's C API: its arrays count from now on before they are made. False: they count
// afterwards, as they are not those of a numpy that is known here. With the GIL.
bool watch_numpy(PyObject* api) noexcept;

// While one lives nothing is refused: whoever describes a MemoryError needs some memory.
class Suspension {
 public:
  Suspension() noexcept;
  ~Suspension();
  Suspension(const Suspension&) = delete;
  Suspension& operator=(const Suspension&) = delete;
};

}  // namespace typhon::executor::memory_limit
