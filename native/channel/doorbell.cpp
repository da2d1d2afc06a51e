#include "channel/doorbell.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "channel/layout.h"

namespace typhon::channel {

void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected, std::int64_t timeout_ns) noexcept {
  timespec limit{};
  timespec* limit_or_none = nullptr;
  if (timeout_ns >= 0) {
    limit.tv_sec = timeout_ns / 1'000'000'000;
    limit.tv_nsec = timeout_ns % 1'000'000'000;
    limit_or_none = &limit;
  }
  ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAIT, expected, limit_or_none, nullptr,
            0);
}

void futex_wake(std::atomic<std::uint32_t>& word, int count) noexcept {
  ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAKE, count, nullptr, nullptr, 0);
}

bool wake_from(std::atomic<std::uint32_t>& word, std::uint32_t from) noexcept {
  if (!word.compare_exchange_strong(from, kAwake, std::memory_order_acq_rel)) return false;
  futex_wake(word, 1);
  return true;
}

std::uint64_t SpinGuard::yield_for_ns() noexcept {
  const std::uint64_t before = monotonic_ns();
  ::sched_yield();
  return monotonic_ns() - before;
}

void SpinGuard::lost() noexcept {
  const std::uint32_t rest = next_rest_.load(std::memory_order_relaxed);
  rest_.store(rest, std::memory_order_relaxed);
  next_rest_.store(std::min(rest * 2, kLongRest), std::memory_order_relaxed);
}

std::uint64_t monotonic_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

bool is_past(std::uint64_t deadline) noexcept {
  constexpr std::uint64_t kCoarseLag = 20'000'000;  // it is behind by a tick of the kernel, 1 to 10 ms
  timespec coarse{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &coarse);
  const std::uint64_t behind =
      static_cast<std::uint64_t>(coarse.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(coarse.tv_nsec);
  return behind + kCoarseLag > deadline && monotonic_ns() > deadline;
}

}  // namespace typhon::channel
