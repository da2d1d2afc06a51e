#include "os/descriptor.h"

#include <fcntl.h>
#include <sys/socket.h>

namespace typhon::os {

UniqueFd duplicate(int fd, int at_least) noexcept { return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, at_least)); }

bool set_nonblocking(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

bool make_pipe(UniqueFd& out, UniqueFd& in) noexcept {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return false;
  out.reset(ends[0]);
  in.reset(ends[1]);
  return true;
}

bool make_message_pair(UniqueFd& one, UniqueFd& other) noexcept {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return false;
  one.reset(ends[0]);
  other.reset(ends[1]);
  return true;
}

}  // namespace typhon::os
