// A wake-up: a descriptor that a thread waits for beside others (poll, an event loop), and that is readable
// from when somebody sets it until it is cleared.
//
// Any thread may set it, any number of times; one clears it. Errors: an invalid descriptor, and errno; once
// it is there nothing fails.
#pragma once

#include <cstdint>

#include "os/descriptor.h"

namespace typhon::os {

// `set`: it is readable from the start.
[[nodiscard]] UniqueFd make_wake_up(bool set = false) noexcept;
void set_wake_up(int fd) noexcept;
void clear_wake_up(int fd) noexcept;

// Readable when so much time has passed, once, until clear_wake_up(). Invalid: the system has none left.
UniqueFd make_timer() noexcept;
bool set_timer(int fd, std::int64_t in_ns) noexcept;

}  // namespace typhon::os
