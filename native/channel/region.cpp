#include "channel/region.h"

#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <new>
#include <string>

#include "os/memory.h"

namespace typhon::channel {
namespace {

constexpr std::size_t kSmallestArena = 64 * 1024 * 1024;

Error system_error(const char* what) noexcept {
  const int reason = errno;  // callers look at it again
  Error error{Code::kSystem, 0, std::string(what) + ": " + std::strerror(reason)};
  errno = reason;
  return error;
}

Error invalid(const char* what) noexcept { return Error{Code::kInvalid, 0, what}; }

std::size_t total_size(std::size_t ring_size, std::size_t arena_size) noexcept {
  return kHeaderSize + kClaimsSize + 2 * ring_size + 2 * arena_size;
}

bool sizes_make_sense(std::size_t ring_size, std::size_t arena_size) noexcept {
  return std::has_single_bit(ring_size) && ring_size >= kMinRing && ring_size <= kMaxRing &&
         arena_size % kArenaUnit == 0 && arena_size >= kArenaUnit && arena_size <= (std::size_t{1} << 44);
}

// All that lies before the arenas starts at a page, whatever the page size.
static_assert(kHeaderSize % os::kLargestPage == 0 && kClaimsSize % os::kLargestPage == 0 &&
              kMinRing % os::kLargestPage == 0);

// The next smaller arena to try. A mapping starts at a page.
std::size_t half_of(std::size_t arena_size) noexcept { return arena_size / 2 & ~(os::page_size() - 1); }

void unmap_if(void* address, std::size_t size) noexcept {
  if (address) os::unmap(address, size);
}

}  // namespace

Result<std::unique_ptr<Region>> Region::create(const RegionOptions& options) noexcept {
  if (!sizes_make_sense(options.ring_size, options.arena_size)) {
    return invalid("ring_size must be a power of two from 64 KiB to 64 MiB, arena_size a multiple of 4 KiB");
  }
  for (std::size_t arena_size = os::whole_pages(options.arena_size);; arena_size = half_of(arena_size)) {
    std::unique_ptr<Region> region(new (std::nothrow) Region);
    if (!region) return Error{Code::kSystem, 0, "out of memory"};
    region->fd_ = os::make_shared_memory("typhon");
    if (!region->fd_.valid()) return system_error("memory to share with a worker");
    const bool sized = os::set_size(region->fd_.get(), total_size(options.ring_size, arena_size));
    if (!sized && errno != EFBIG) return system_error("the size of the channel's memory");
    Status mapped = sized ? region->map(options.ring_size, arena_size)
                          : Status(system_error("the size of the channel's memory"));
    if (!mapped.ok()) {
      // A limit on address space or file size: a smaller arena still serves, only for smaller payloads.
      if ((errno == ENOMEM || errno == EFBIG) && half_of(arena_size) >= kSmallestArena) continue;
      return std::move(mapped).error();
    }
    if (!os::seal(region->fd_.get(), os::kNoShrinking | os::kNoGrowing | os::kNoMoreSeals)) {
      return system_error("sealing the channel's memory");
    }
    Header& header = *region->header_;
    header.magic = kMagic;
    header.version = kVersion;
    header.header_size = kHeaderSize;
    header.ring_size = options.ring_size;
    header.arena_size = arena_size;
    header.beam_pid = static_cast<std::uint32_t>(::getpid());
    header.worker_spin_us = options.worker_spin_us;
    header.flags = options.flags;
    header.max_result = region->max_result_ = options.max_result;
    header.reader_word.value.store(kAsleep, std::memory_order_relaxed);
    return region;
  }
}

Result<std::unique_ptr<Region>> Region::attach(os::UniqueFd fd) noexcept {
  const std::int64_t size = os::size_of(fd.get());
  if (size < 0) return system_error("the size of the channel's memory");
  constexpr unsigned kFixed = os::kNoShrinking | os::kNoGrowing;
  if ((os::seals_of(fd.get()) & kFixed) != kFixed) {
    return invalid("the descriptor is not a sealed channel region");
  }
  if (static_cast<std::uint64_t>(size) < kHeaderSize) return invalid("the region is too small");

  std::unique_ptr<Region> region(new (std::nothrow) Region);
  if (!region) return Error{Code::kSystem, 0, "out of memory"};
  region->fd_ = std::move(fd);
  std::uint8_t* const first = os::map_shared(region->fd_.get(), 0, kHeaderSize);
  if (!first) return system_error("mmap of the channel's header");
  Header copy_of_constants{};
  std::memcpy(static_cast<void*>(&copy_of_constants), first, offsetof(Header, request_tail));
  os::unmap(first, kHeaderSize);

  if (copy_of_constants.magic != kMagic)
    return invalid("the region does not start with Typhon's magic number");
  if (copy_of_constants.version != kVersion || copy_of_constants.header_size != kHeaderSize) {
    return invalid("the region was made by another version of Typhon");
  }
  const std::size_t ring_size = copy_of_constants.ring_size;
  const std::size_t arena_size = copy_of_constants.arena_size;
  region->max_result_ = copy_of_constants.max_result;
  if (!sizes_make_sense(ring_size, arena_size) ||
      total_size(ring_size, arena_size) != static_cast<std::uint64_t>(size)) {
    return invalid("the region's sizes contradict each other");
  }
  if (arena_size != os::whole_pages(arena_size))
    return invalid("the region's arenas are not whole pages of this machine");
  if (Status mapped = region->map(ring_size, arena_size); !mapped.ok()) return std::move(mapped).error();
  return region;
}

Status Region::map(std::size_t ring_size, std::size_t arena_size) noexcept {
  ring_size_ = ring_size;
  arena_size_ = arena_size;
  const int fd = fd_.get();
  std::size_t offset = 0;
  std::uint8_t* const first = os::map_shared(fd, offset, kHeaderSize + kClaimsSize);
  if (!first) return system_error("mmap of the channel's header");
  header_ = reinterpret_cast<Header*>(first);
  claims_ = reinterpret_cast<std::atomic<std::uint32_t>*>(first + kHeaderSize);
  offset += kHeaderSize + kClaimsSize;
  request_ring_ = os::map_shared_twice(fd, offset, ring_size);
  offset += ring_size;
  if (request_ring_) reply_ring_ = os::map_shared_twice(fd, offset, ring_size);
  offset += ring_size;
  if (!request_ring_ || !reply_ring_) return system_error("mmap of the channel's rings");
  request_arena_ = os::map_shared(fd, offset, arena_size);
  offset += arena_size;
  if (request_arena_) reply_arena_ = os::map_shared(fd, offset, arena_size);
  if (!request_arena_ || !reply_arena_) return system_error("mmap of the channel's arenas");
  // A core dump of either side should not carry gigabytes of payload.
  os::leave_out_of_dumps(request_arena_, arena_size);
  os::leave_out_of_dumps(reply_arena_, arena_size);
  return Unit{};
}

void Region::drop_request_arena() noexcept { os::discard_shared(request_arena_, arena_size_); }

bool Region::reply_written(std::uint64_t offset, std::uint64_t length) const noexcept {
  if (length == 0) return true;
  const std::uint64_t from = kHeaderSize + kClaimsSize + 2 * ring_size_ + arena_size_ + offset;
  const std::int64_t hole = os::first_hole(fd_.get(), from);
  return hole < 0 || static_cast<std::uint64_t>(hole) >= from + length;
}

void Region::unmap() noexcept {
  // create() looks at errno after a failed map(), which this leaves as it is.
  unmap_if(header_, kHeaderSize + kClaimsSize);
  unmap_if(request_ring_, 2 * ring_size_);
  unmap_if(reply_ring_, 2 * ring_size_);
  unmap_if(request_arena_, arena_size_);
  unmap_if(reply_arena_, arena_size_);
}

Region::~Region() { unmap(); }

}  // namespace typhon::channel
