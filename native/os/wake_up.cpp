#include "os/wake_up.h"

#include <sys/eventfd.h>
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

}  // namespace typhon::os
