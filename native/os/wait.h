// How a thread sleeps on a word of memory, until another thread or another process has changed it: a futex.
//
// The word may lie in shared memory. Any thread. Nothing here fails: a wait that the system refuses returns
// at once, and whoever waits looks at the word again anyway.
#pragma once

#include <atomic>
#include <cstdint>

namespace typhon::os {

// Waits while `word` holds `expected`; returns on a wake, a signal, a changed word, or after `timeout_ns`
// (negative: no limit). It may also return for no reason.
void wait_word(std::atomic<std::uint32_t>& word, std::uint32_t expected, std::int64_t timeout_ns) noexcept;

// Wakes up to `count` of those that wait on `word`. Whoever has changed the word does so afterwards.
void wake_word(std::atomic<std::uint32_t>& word, int count) noexcept;

}  // namespace typhon::os
