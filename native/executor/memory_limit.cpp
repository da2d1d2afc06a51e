#include "executor/memory_limit.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <mutex>

#include "executor/arena_cache.h"
#include "os/heap.h"
#include "os/memory.h"

namespace typhon::executor::memory_limit {
namespace {

// Close to the limit the truth is looked up again after so many bytes at the soonest: that walks malloc's
// free lists. Small requests may go beyond the limit by as much.
constexpr std::size_t kSlack = std::size_t{1} << 20;
// A request of this size is never a small one.
constexpr std::size_t kLarge = std::size_t{64} << 10;

// As in CPython's cpython/pymem.h, which the limited API leaves out. The same since Python 3.5.
struct PyMemAllocator {
  void* context;
  void* (*malloc)(void* context, std::size_t size);
  void* (*calloc)(void* context, std::size_t count, std::size_t size);
  void* (*realloc)(void* context, void* memory, std::size_t size);
  void (*free)(void* context, void* memory);
};
constexpr int kRawDomain = 0;
using AccessAllocator = void (*)(int domain, PyMemAllocator* allocator);

// As in numpy's ndarraytypes.h since 1.22 (its NEP 49); `version` says when that changes.
struct NumpyAllocator {
  void* context;
  void* (*malloc)(void* context, std::size_t size);
  void* (*calloc)(void* context, std::size_t count, std::size_t size);
  void* (*realloc)(void* context, void* memory, std::size_t size);
  void (*free)(void* context, void* memory, std::size_t size);
};
struct NumpyHandler {
  std::array<char, 127> name;
  std::uint8_t version;
  NumpyAllocator allocator;
};
constexpr std::size_t kNumpyDefaultHandler = 306;  // its place in numpy's C API

struct State {
  std::atomic<std::size_t> limit;     // in bytes as held() counts them; 0: none
  std::atomic<std::size_t> asked;     // what was held at the last look, and asked for since
  std::atomic<unsigned> suspensions;  // while any lives, all is allowed
  std::mutex looking;                 // one thread looks up the truth
  std::atomic<bool> hooked;           // PyMem_RawMalloc; changed with the GIL
  PyMemAllocator raw;                 // Python's own
  NumpyAllocator numpy;               // numpy's own
};
// Trivially destructible: Python allocates until the very end of the process.
constinit State state{};

template <class Function>
Function exported(const char* name) noexcept {
  return reinterpret_cast<Function>(::dlsym(RTLD_DEFAULT, name));
}

std::size_t held() noexcept { return arena_cache::mapped() + os::heap::in_use(); }

bool look_up(std::size_t bytes, std::size_t limit) noexcept {
  const std::lock_guard lock(state.looking);
  arena_cache::trim();
  const std::size_t is = held();
  if (is + bytes > limit) {
    state.asked.store(is, std::memory_order_relaxed);
    return false;
  }
  const std::size_t soonest = limit > kSlack ? limit - kSlack : 0;
  state.asked.store(bytes < kLarge ? std::min(is + bytes, soonest) : is + bytes, std::memory_order_relaxed);
  return true;
}

std::size_t product(std::size_t count, std::size_t size) noexcept {
  std::size_t bytes = 0;
  return __builtin_mul_overflow(count, size, &bytes) ? SIZE_MAX / 2 : bytes;
}

// What a block grows by.
std::size_t growth(void* memory, std::size_t size) noexcept {
  const std::size_t has = os::heap::size_of(memory);
  return size > has ? size - has : 0;
}

void* raw_malloc(void*, std::size_t size) noexcept {
  return allows(size) ? state.raw.malloc(state.raw.context, size) : nullptr;
}
void* raw_calloc(void*, std::size_t count, std::size_t size) noexcept {
  return allows(product(count, size)) ? state.raw.calloc(state.raw.context, count, size) : nullptr;
}
void* raw_realloc(void*, void* memory, std::size_t size) noexcept {
  return allows(growth(memory, size)) ? state.raw.realloc(state.raw.context, memory, size) : nullptr;
}
void raw_free(void*, void* memory) noexcept { state.raw.free(state.raw.context, memory); }

void* numpy_malloc(void* context, std::size_t size) noexcept {
  return allows(size) ? state.numpy.malloc(context, size) : nullptr;
}
void* numpy_calloc(void* context, std::size_t count, std::size_t size) noexcept {
  return allows(product(count, size)) ? state.numpy.calloc(context, count, size) : nullptr;
}
void* numpy_realloc(void* context, void* memory, std::size_t size) noexcept {
  return allows(growth(memory, size)) ? state.numpy.realloc(context, memory, size) : nullptr;
}

bool hook_raw() noexcept {
  if (state.hooked.load()) return true;
  const auto get = exported<AccessAllocator>("PyMem_GetAllocator");
  const auto set = exported<AccessAllocator>("PyMem_SetAllocator");
  if (!get || !set) return false;
  get(kRawDomain, &state.raw);
  PyMemAllocator ours{nullptr, raw_malloc, raw_calloc, raw_realloc, raw_free};
  set(kRawDomain, &ours);
  state.hooked.store(true);
  return true;
}

// Unless somebody (tracemalloc) has put a hook of theirs over this one: without a limit it does no harm.
void unhook_raw() noexcept {
  if (!state.hooked.load()) return;
  PyMemAllocator now{};
  exported<AccessAllocator>("PyMem_GetAllocator")(kRawDomain, &now);
  if (now.malloc != raw_malloc) return;
  exported<AccessAllocator>("PyMem_SetAllocator")(kRawDomain, &state.raw);
  state.hooked.store(false);
}

}  // namespace

bool set(std::size_t bytes) noexcept {
  if (!os::heap::can_tell() || !arena_cache::installed() || !hook_raw()) return false;
  const std::size_t now = held();
  state.asked.store(now, std::memory_order_relaxed);
  state.limit.store(now + bytes, std::memory_order_relaxed);
  return true;
}

void lift() noexcept {
  state.limit.store(0, std::memory_order_relaxed);
  unhook_raw();
}

bool allows(std::size_t bytes) noexcept {
  const std::size_t limit = state.limit.load(std::memory_order_relaxed);
  if (limit == 0 || bytes == 0 || state.suspensions.load(std::memory_order_relaxed) != 0) return true;
  if (bytes >= limit) return false;
  if (state.asked.fetch_add(bytes, std::memory_order_relaxed) + bytes <= limit) return true;
  return look_up(bytes, limit);
}

bool has_room_for(std::size_t bytes) noexcept {
  const std::size_t limit = state.limit.load(std::memory_order_relaxed);
  if (limit == 0 || state.suspensions.load(std::memory_order_relaxed) != 0) return true;
  return bytes <= limit && held() <= limit - bytes;
}

bool watch_numpy(PyObject* api) noexcept {
  auto* const table = static_cast<void**>(PyCapsule_GetPointer(api, nullptr));
  PyObject* const* const capsule = table ? static_cast<PyObject**>(table[kNumpyDefaultHandler]) : nullptr;
  auto* const handler = capsule && *capsule
                            ? static_cast<NumpyHandler*>(PyCapsule_GetPointer(*capsule, "mem_handler"))
                            : nullptr;
  if (!handler) {
    PyErr_Clear();
    return false;
  }
  constexpr const char* kName = "default_allocator";
  if (handler->version != 1 || std::strncmp(handler->name.data(), kName, handler->name.size()) != 0)
    return false;
  if (handler->allocator.malloc == numpy_malloc) return true;
  state.numpy = handler->allocator;
  const NumpyAllocator ours{handler->allocator.context, numpy_malloc, numpy_calloc, numpy_realloc,
                            handler->allocator.free};
  // A handler that numpy declares constant some day is left alone.
  return os::write_if_writable(&handler->allocator, &ours, sizeof ours);
}

Suspension::Suspension() noexcept { state.suspensions.fetch_add(1, std::memory_order_relaxed); }
Suspension::~Suspension() { state.suspensions.fetch_sub(1, std::memory_order_relaxed); }

}  // namespace typhon::executor::memory_limit
