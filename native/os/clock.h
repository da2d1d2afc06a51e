// The clock that only goes forward, and is the same in every process of the machine.
//
// Nanoseconds since some moment of the past. Any thread; nothing here fails.
#pragma once

#include <cstdint>

namespace typhon::os {

[[nodiscard]] std::uint64_t monotonic_ns() noexcept;

// Whether that clock is past `deadline`. Costs a fifth of reading it while the deadline is far.
[[nodiscard]] bool is_past(std::uint64_t deadline) noexcept;

// The calling thread sleeps for so long at least, whatever signals come meanwhile.
void sleep_ns(std::int64_t nanoseconds) noexcept;

}  // namespace typhon::os
