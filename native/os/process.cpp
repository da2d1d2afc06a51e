// Nothing of the C++ library is in it: typhon_launch, which is loaded before each start of a worker, has it.
#include "os/process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace typhon::os {
namespace {

// An enum of its own in glibc, a number elsewhere.
using Resource = decltype(RLIMIT_AS);

Resource resource_of(Limit limit) noexcept {
  switch (limit) {
    case Limit::kFileSize:
      return RLIMIT_FSIZE;
    case Limit::kProcessorSeconds:
      return RLIMIT_CPU;
    case Limit::kDescriptors:
      return RLIMIT_NOFILE;
    case Limit::kAddressSpace:
      break;
  }
  return RLIMIT_AS;
}

static_assert(static_cast<std::uint64_t>(RLIM_INFINITY) == kNoLimit);
rlim_t smaller(rlim_t one, rlim_t other) noexcept { return one < other ? one : other; }

}  // namespace

UniqueFd open_process(pid_t pid) noexcept {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

bool send_signal(int process, int signal) noexcept {
  return ::syscall(SYS_pidfd_send_signal, process, signal, nullptr, 0) == 0;
}

pid_t parent_of(pid_t pid) noexcept {
  char text[512];
  ::snprintf(text, sizeof text, "/proc/%d/stat", static_cast<int>(pid));
  const UniqueFd file(::open(text, O_RDONLY | O_CLOEXEC));
  const ssize_t size = file.valid() ? ::read(file.get(), text, sizeof text - 1) : -1;
  if (size <= 0) return 0;
  text[size] = '\0';
  // pid (command) state parent …; the command may hold anything.
  const char* const end = ::strrchr(text, ')');
  return end && ::strlen(end) > 4 ? static_cast<pid_t>(::strtol(end + 4, nullptr, 10)) : 0;
}

UniqueFd open_descriptor_of(pid_t pid, int fd, Access access) noexcept {
  char path[64];
  ::snprintf(path, sizeof path, "/proc/%d/fd/%d", static_cast<int>(pid), fd);
  return UniqueFd(::open(path, (access == Access::kWrite ? O_WRONLY : O_RDWR) | O_CLOEXEC));
}

void go_on_when_parent_ends() noexcept { ::prctl(PR_SET_PDEATHSIG, SIGCONT); }

bool set_nice(int nice) noexcept { return ::setpriority(PRIO_PROCESS, 0, nice) == 0; }

std::uint64_t limit_of(Limit limit) noexcept {
  rlimit now{};
  return ::getrlimit(resource_of(limit), &now) == 0 ? now.rlim_cur : kNoLimit;
}

bool set_limit(Limit limit, std::uint64_t soft, std::uint64_t hard) noexcept {
  rlimit now{};
  if (::getrlimit(resource_of(limit), &now) != 0) return false;
  now.rlim_max = smaller(now.rlim_max, hard);
  now.rlim_cur = smaller(now.rlim_max, soft);
  return ::setrlimit(resource_of(limit), &now) == 0;
}

}  // namespace typhon::os
