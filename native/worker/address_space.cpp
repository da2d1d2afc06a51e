#include "worker/address_space.h"

#include <cstdint>

#include "os/memory.h"
#include "os/process.h"

namespace typhon::worker {

bool address_space_allows(std::size_t bytes) noexcept {
  const std::uint64_t limit = os::limit_of(os::Limit::kAddressSpace);
  return limit == os::kNoLimit || os::mapped_bytes() + bytes <= limit;
}

}  // namespace typhon::worker
