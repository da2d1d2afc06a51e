#include "executor/heap.h"

#include <malloc.h>

#include <cstdlib>
#include <mutex>

namespace typhon::executor::heap {

#if defined(__GLIBC__)

namespace {

constexpr int kKeepBlocks = 128 * 1024 * 1024;
constexpr int kKeepFree = 512 * 1024 * 1024;
// glibc looks at the end of a heap when a block of 64 KiB or more is freed.
constexpr int kBlock = 256 * 1024;

constinit std::mutex threshold{};  // of the C library's; held while it is low

}  // namespace

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

void keep_large_blocks() noexcept {}
void trim() noexcept {}
void trim_own() noexcept {}

#endif

}  // namespace typhon::executor::heap
