// AddressSpace: what `limits: [memory:]` of a worker process means. The operating system limits its address
// space (os/process.h), and that of the channel's region is there from the start: so what is written to the
// reply arena has to be counted here.
#pragma once

#include <cstddef>

namespace typhon::worker {

// Whether so many bytes beside what is mapped are within the limit. For Outlet::limit_memory().
bool address_space_allows(std::size_t bytes) noexcept;

}  // namespace typhon::worker
