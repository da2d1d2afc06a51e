#include "os/wake_up.h"

#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cstdint>

namespace typhon::os {

UniqueFd make_wake_up(bool set) noexcept {
  return UniqueFd(::eventfd(set ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK));
}

void set_wake_up(int fd) noexcept {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(fd, &one, sizeof one));
}

void clear_wake_up(int fd) noexcept {
  std::uint64_t count = 0;
  static_cast<void>(!::read(fd, &count, sizeof count));
}

UniqueFd make_timer() noexcept {
  return UniqueFd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
}

bool set_timer(int fd, std::int64_t in_ns) noexcept {
  constexpr std::int64_t kSecond = 1'000'000'000;
  itimerspec when{};
  when.it_value = {in_ns / kSecond, in_ns % kSecond};
  return ::timerfd_settime(fd, 0, &when, nullptr) == 0;
}

}  // namespace typhon::os
