#include "os/heap.h"

#include <dlfcn.h>
#include <malloc.h>

#include <cstdlib>
#include <mutex>

namespace typhon::os::heap {

#if defined(__GLIBC__)

namespace {

constexpr int kKeepBlocks = 128 * 1024 * 1024;
constexpr int kKeepFree = 512 * 1024 * 1024;
// glibc looks at the end of a heap when a block of 64 KiB or more is freed.
constexpr int kBlock = 256 * 1024;

constinit std::mutex threshold{};  // of the C library's; held while it is low

// Since glibc 2.33; the one that this process has may be older.
using Figures = struct mallinfo2 (*)();
Figures find_figures() noexcept { return reinterpret_cast<Figures>(::dlsym(RTLD_DEFAULT, "mallinfo2")); }

}  // namespace

bool can_tell() noexcept { return find_figures() != nullptr; }

std::size_t in_use() noexcept {
  static const Figures kFigures = find_figures();
  if (!kFigures) return 0;
  const auto now = kFigures();
  return now.uordblks + now.hblkhd;
}

void keep_large_blocks() noexcept {
  ::mallopt(M_MMAP_THRESHOLD, kKeepBlocks);
  ::mallopt(M_TRIM_THRESHOLD, kKeepFree);
}

void trim() noexcept { ::malloc_trim(0); }

void trim_own() noexcept {
  const std::lock_guard lock(threshold);
  ::mallopt(M_TRIM_THRESHOLD, kBlock / 2);
  void* volatile block = std::malloc(kBlock);
  std::free(block);
  ::mallopt(M_TRIM_THRESHOLD, kKeepFree);
}

#else

bool can_tell() noexcept { return false; }
std::size_t in_use() noexcept { return 0; }
void keep_large_blocks() noexcept {}
void trim() noexcept {}
void trim_own() noexcept {}

#endif

std::size_t size_of(void* block) noexcept { return block ? ::malloc_usable_size(block) : 0; }

}  // namespace typhon::os::heap
