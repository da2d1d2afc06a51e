#include "os/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>

#include "os/process.h"

namespace typhon::os {
namespace {

// The seals are the kernel's own numbers.
static_assert(kNoMoreSeals == F_SEAL_SEAL && kNoShrinking == F_SEAL_SHRINK && kNoGrowing == F_SEAL_GROW &&
              kNoWriting == F_SEAL_WRITE);

constexpr int kReadWrite = PROT_READ | PROT_WRITE;

std::uint8_t* mapped_or_null(void* mapped) noexcept {
  return mapped == MAP_FAILED ? nullptr : static_cast<std::uint8_t*>(mapped);
}

std::uint8_t* map_file(int fd, std::size_t offset, std::size_t size, void* at) noexcept {
  const int fixed = at ? MAP_FIXED : 0;
  return mapped_or_null(
      ::mmap(at, size, kReadWrite, MAP_SHARED | MAP_NORESERVE | fixed, fd, static_cast<off_t>(offset)));
}

// The number that a small file starts with; 0 when there is none ("max").
std::size_t number_in(const char* path) noexcept {
  const UniqueFd file(::open(path, O_RDONLY | O_CLOEXEC));
  std::array<char, 32> text{};
  if (!file.valid() || ::read(file.get(), text.data(), text.size() - 1) <= 0) return 0;
  return std::strtoull(text.data(), nullptr, 10);
}

}  // namespace

std::size_t page_size() noexcept {
  static const auto kSize = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return kSize;
}

UniqueFd make_shared_memory(const char* label) noexcept {
  return UniqueFd(::memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING));
}

// The system call would raise SIGXFSZ beyond the limit, which ends a process that does not expect it.
bool set_size(int fd, std::size_t size) noexcept {
  if (size > limit_of(Limit::kFileSize)) {
    errno = EFBIG;
    return false;
  }
  return ::ftruncate(fd, static_cast<off_t>(size)) == 0;
}

std::int64_t size_of(int fd) noexcept {
  struct stat status {};
  return ::fstat(fd, &status) == 0 ? std::int64_t{status.st_size} : -1;
}

std::int64_t memory_behind(int fd) noexcept {
  constexpr std::int64_t kBlock = 512;
  struct stat status {};
  return ::fstat(fd, &status) == 0 ? std::int64_t{status.st_blocks} * kBlock : -1;
}

std::int64_t first_hole(int fd, std::uint64_t offset) noexcept {
  return ::lseek(fd, static_cast<off_t>(offset), SEEK_HOLE);
}

bool seal(int fd, unsigned seals) noexcept { return ::fcntl(fd, F_ADD_SEALS, static_cast<int>(seals)) == 0; }

unsigned seals_of(int fd) noexcept {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  return seals < 0 ? 0 : static_cast<unsigned>(seals);
}

std::uint8_t* map_shared(int fd, std::size_t offset, std::size_t size) noexcept {
  return map_file(fd, offset, size, nullptr);
}

std::uint8_t* map_shared_twice(int fd, std::size_t offset, std::size_t size) noexcept {
  std::uint8_t* const base = mapped_or_null(
      ::mmap(nullptr, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (!base) return nullptr;
  if (map_file(fd, offset, size, base) && map_file(fd, offset, size, base + size)) return base;
  unmap(base, 2 * size);
  return nullptr;
}

void discard_shared(std::uint8_t* at, std::size_t size) noexcept { ::madvise(at, size, MADV_REMOVE); }

std::uint8_t* map_private(std::size_t size, Touch touch) noexcept {
  const int flags = touch == Touch::kNow ? MAP_POPULATE : touch == Touch::kUnlikely ? MAP_NORESERVE : 0;
  return mapped_or_null(::mmap(nullptr, size, kReadWrite, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0));
}

void unmap(void* at, std::size_t size) noexcept {
  const int saved = errno;
  ::munmap(at, size);
  errno = saved;
}

void leave_out_of_dumps(std::uint8_t* at, std::size_t size) noexcept { ::madvise(at, size, MADV_DONTDUMP); }
void prefer_huge_pages(std::uint8_t* at, std::size_t size) noexcept { ::madvise(at, size, MADV_HUGEPAGE); }

bool write_if_writable(void* place, const void* from, std::size_t size) noexcept {
  const iovec source{const_cast<void*>(from), size};
  const iovec target{place, size};
  return ::process_vm_writev(::getpid(), &source, 1, &target, 1, 0) == static_cast<ssize_t>(size);
}

std::size_t mapped_bytes() noexcept { return number_in("/proc/self/statm") * page_size(); }

std::size_t machine_memory() noexcept {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const std::size_t all = pages > 0 ? static_cast<std::size_t>(pages) * page_size() : std::size_t{4} << 30;
  const std::size_t group = number_in("/sys/fs/cgroup/memory.max");
  return group != 0 ? std::min(all, group) : all;
}

}  // namespace typhon::os
