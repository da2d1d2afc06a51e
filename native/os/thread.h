// Threads of our own, and how a thread lets others have its core.
//
// Errors: start_thread() gives an errno; the rest cannot fail.
#pragma once

#include <cstddef>

namespace typhon::os {

// A detached thread: it ends with the process, or by itself. 0 or an errno. Its stack has `stack` bytes at
// least, whatever a page or the smallest stack is here. Signals are for others (Python, the BEAM): none lands
// on this thread, until it asks for some. Any thread.
[[nodiscard]] int start_thread(void* (*main)(void*), void* argument, std::size_t stack) noexcept;

// What debuggers and `top -H` show for the calling thread: up to 15 bytes.
void name_this_thread(const char* name) noexcept;

// The calling thread lets another one have its core, if one waits for it.
void yield_core() noexcept;

// In a loop that spins: the core may save power, or run its other hardware thread.
inline void cpu_relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace typhon::os
