#include "os/clock.h"

#include <time.h>

#include <cerrno>

namespace typhon::os {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

std::uint64_t now_of(clockid_t clock) noexcept {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * kSecond + static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace

std::uint64_t monotonic_ns() noexcept { return now_of(CLOCK_MONOTONIC); }

bool is_past(std::uint64_t deadline) noexcept {
  constexpr std::uint64_t kCoarseLag = 20'000'000;  // it is behind by a tick of the kernel, 1 to 10 ms
  return now_of(CLOCK_MONOTONIC_COARSE) + kCoarseLag > deadline && monotonic_ns() > deadline;
}

void sleep_ns(std::int64_t nanoseconds) noexcept {
  if (nanoseconds <= 0) return;
  constexpr auto kInSecond = static_cast<std::int64_t>(kSecond);
  timespec left{};
  left.tv_sec = static_cast<time_t>(nanoseconds / kInSecond);
  left.tv_nsec = static_cast<long>(nanoseconds % kInSecond);
  while (::nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

}  // namespace typhon::os
