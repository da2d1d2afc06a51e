// Memory by the page: what processes share, what this one takes and gives back, and how much there is.
//
// Threads: any; who may touch which bytes is the caller's to know. Errors: nullptr, false, or an invalid
// descriptor, and errno. What only advises the system (discard, the two hints) cannot fail.
#pragma once

#include <cstddef>
#include <cstdint>

#include "os/descriptor.h"

namespace typhon::os {

// Bytes of a page: 4 KiB on x86-64, 4, 16 or 64 KiB on AArch64. A power of two. A mapping starts at one, in
// memory and in what it maps.
[[nodiscard]] std::size_t page_size() noexcept;

// No machine has larger ones: a multiple of it is a multiple of any page size.
inline constexpr std::size_t kLargestPage = std::size_t{64} * 1024;

// `unit`: a power of two.
[[nodiscard]] constexpr std::size_t round_up(std::size_t bytes, std::size_t unit) noexcept {
  return (bytes + unit - 1) & ~(unit - 1);
}
[[nodiscard]] inline std::size_t whole_pages(std::size_t bytes) noexcept {
  return round_up(bytes, page_size());
}

// --- what processes share ---

// Memory that has a descriptor and no name in any file system, so nothing is left behind by a crash. `label`
// is for whoever looks at a process from outside. It has no size yet.
[[nodiscard]] UniqueFd make_shared_memory(const char* label) noexcept;

// EFBIG for a size beyond what this process may give a file.
[[nodiscard]] bool set_size(int fd, std::size_t size) noexcept;
// -1: it cannot be told.
[[nodiscard]] std::int64_t size_of(int fd) noexcept;
// Bytes of it that memory lies behind. -1: it cannot be told.
[[nodiscard]] std::int64_t memory_behind(int fd) noexcept;
// Where the first byte that was never written, or was discarded, lies from `offset` on. -1: it cannot be
// told.
[[nodiscard]] std::int64_t first_hole(int fd, std::uint64_t offset) noexcept;

// What nobody may do to shared memory any more, in whichever process, once it is sealed so.
enum Seal : unsigned {
  kNoMoreSeals = 1,
  kNoShrinking = 2,
  kNoGrowing = 4,
  kNoWriting = 8,          // refused while it is mapped for writing
  kNoFurtherWriting = 16,  // what is mapped for writing stays so
};
[[nodiscard]] bool seal(int fd, unsigned seals) noexcept;
// 0 for what cannot be sealed, too.
[[nodiscard]] unsigned seals_of(int fd) noexcept;

// Maps it for reading and writing. Address space, not memory, until it is touched.
[[nodiscard]] std::uint8_t* map_shared(int fd, std::size_t offset, std::size_t size) noexcept;
// The same bytes twice in a row: 2 * `size` bytes.
[[nodiscard]] std::uint8_t* map_shared_twice(int fd, std::size_t offset, std::size_t size) noexcept;

// Gives the pages of shared memory back, in all processes: they read as zeros afterwards.
void discard_shared(std::uint8_t* at, std::size_t size) noexcept;

// --- what this process has ---

enum class Touch : std::uint8_t {
  kLater,     // memory comes with the first touch of each page
  kNow,       // all of it at once: cheaper for what will be written anyway
  kUnlikely,  // as kLater, and it does not count as promised
};
// Zeroed memory.
[[nodiscard]] std::uint8_t* map_private(std::size_t size, Touch touch = Touch::kLater) noexcept;
// Whatever was mapped. errno stays as it is.
void unmap(void* at, std::size_t size) noexcept;

// Hints: a core dump is to leave it out; it is to lie on huge pages, where there are some.
void leave_out_of_dumps(std::uint8_t* at, std::size_t size) noexcept;
void prefer_huge_pages(std::uint8_t* at, std::size_t size) noexcept;

// Writes into this process's own memory, where it may be written: false instead of a fault where it may not.
[[nodiscard]] bool write_if_writable(void* place, const void* from, std::size_t size) noexcept;

// --- how much there is ---

// Bytes of address space that this process has in use. 0: it cannot be told.
[[nodiscard]] std::size_t mapped_bytes() noexcept;
// Bytes of memory that this machine has, or that a control group leaves of it.
[[nodiscard]] std::size_t machine_memory() noexcept;

}  // namespace typhon::os
