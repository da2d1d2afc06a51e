#include "executor/arena_cache.h"

#include <dlfcn.h>

#include <array>
#include <cstddef>
#include <mutex>

#include "executor/memory_limit.h"
#include "os/memory.h"

namespace typhon::executor::arena_cache {
namespace {

constexpr std::size_t kMaxBytes = std::size_t{256} << 20;
constexpr std::size_t kMaxArenas = 1024;
// Without a GIL Python's object allocator maps memory by itself, and never asks a hook.
#ifdef Py_GIL_DISABLED
constexpr bool kHasArenas = false;
#else
constexpr bool kHasArenas = true;
#endif

struct Arena {
  void* memory;
  std::size_t size;
};

// Trivially destructible: Python frees arenas until the very end of the process.
struct Cache {
  std::mutex mutex;
  std::array<Arena, kMaxArenas> arenas;
  std::size_t count;
  std::size_t bytes;
  std::size_t mapped;  // wraps below zero when more is unmapped than was mapped: only differences count
  bool installed;
};
constinit Cache cache{};

void* allocate(void*, std::size_t size) noexcept {
  {
    std::lock_guard lock(cache.mutex);
    // All have one size, that of this Python's arenas; the last one freed is the warmest.
    if (cache.count > 0 && cache.arenas[cache.count - 1].size == size) {
      cache.bytes -= size;
      return cache.arenas[--cache.count].memory;
    }
  }
  if (!memory_limit::allows(size)) return nullptr;
  void* memory = os::map_private(size);
  if (!memory) return nullptr;
  std::lock_guard lock(cache.mutex);
  cache.mapped += size;
  return memory;
}

// Also for arenas that Python has mapped itself before the hook was there: it maps them in the same way.
void release(void*, void* memory, std::size_t size) noexcept {
  {
    std::lock_guard lock(cache.mutex);
    if (cache.count < kMaxArenas && cache.bytes + size <= kMaxBytes) {
      cache.arenas[cache.count++] = {memory, size};
      cache.bytes += size;
      return;
    }
    cache.mapped -= size;
  }
  os::unmap(memory, size);
}

// As in CPython's cpython/objimpl.h, which the limited API leaves out. The same since Python 3.4.
struct PyArenaAllocator {
  void* context;
  void* (*allocate)(void* context, std::size_t size);
  void (*release)(void* context, void* memory, std::size_t size);
};

}  // namespace

void install() noexcept {
  if (!kHasArenas) return;
  void* hook = ::dlsym(RTLD_DEFAULT, "PyObject_SetArenaAllocator");
  if (!hook) return;
  PyArenaAllocator allocator{nullptr, allocate, release};
  reinterpret_cast<void (*)(PyArenaAllocator*)>(hook)(&allocator);
  cache.installed = true;
}

bool installed() noexcept { return cache.installed; }

std::size_t mapped() noexcept {
  std::lock_guard lock(cache.mutex);
  return cache.mapped;
}

void trim() noexcept {
  std::lock_guard lock(cache.mutex);
  while (cache.count > 0) {
    const Arena& arena = cache.arenas[--cache.count];
    cache.bytes -= arena.size;
    cache.mapped -= arena.size;
    os::unmap(arena.memory, arena.size);
  }
}

}  // namespace typhon::executor::arena_cache
