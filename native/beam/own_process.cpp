#include "beam/own_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <string_view>

namespace typhon::beam {
namespace {

// More wrappers than anybody has around a Python.
constexpr int kMostGenerations = 64;

int open_process(pid_t pid) noexcept { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

int signal_descriptor(int fd, int number) noexcept {
  return static_cast<int>(::syscall(SYS_pidfd_send_signal, fd, number, nullptr, 0));
}

// 0: it cannot be told.
pid_t parent_of(pid_t pid) noexcept {
  std::array<char, 32> path;
  std::snprintf(path.data(), path.size(), "/proc/%d/stat", static_cast<int>(pid));
  const UniqueFd file(::open(path.data(), O_RDONLY | O_CLOEXEC));
  std::array<char, 512> text;
  const ssize_t size = file.valid() ? ::read(file.get(), text.data(), text.size()) : -1;
  if (size <= 0) return 0;
  // pid (command) state parent …; the command may hold anything.
  std::string_view rest(text.data(), static_cast<std::size_t>(size));
  const std::size_t end = rest.rfind(')');
  if (end == std::string_view::npos || rest.size() < end + 5) return 0;
  rest.remove_prefix(end + 4);
  pid_t parent = 0;
  std::from_chars(rest.data(), rest.data() + rest.size(), parent);
  return parent;
}

bool descends_from(pid_t pid, pid_t ancestor) noexcept {
  for (int generation = 0; generation < kMostGenerations && pid > 1; ++generation) {
    if (pid == ancestor) return true;
    pid = parent_of(pid);
  }
  return false;
}

Signalled result(int returned) noexcept {
  if (returned == 0) return Signalled::kSent;
  return errno == ESRCH   ? Signalled::kNoProcess
         : errno == EPERM ? Signalled::kNotPermitted
                          : Signalled::kInvalid;
}

bool leads_group(pid_t pid) noexcept { return pid > 0 && ::getpgid(pid) == pid && ::getpgid(0) != pid; }

}  // namespace

OwnProcess::Adopted OwnProcess::adopt(pid_t port, pid_t claimed) noexcept {
  if (port <= 1 || claimed <= 1 || claimed == ::getpid()) return Adopted::kForeign;
  // In this order: from here on it is this very process that is looked at, or one that has ended.
  UniqueFd fd(open_process(claimed));
  if (!fd.valid() && errno == ESRCH) return Adopted::kGone;
  if (!descends_from(claimed, port)) {
    const bool ended = fd.valid() && signal_descriptor(fd.get(), 0) != 0 && errno == ESRCH;
    return ended ? Adopted::kGone : Adopted::kForeign;
  }
  if (fd.valid() && signal_descriptor(fd.get(), 0) != 0 && errno == ESRCH) return Adopted::kGone;
  const Lock lock(mutex_);
  fd_ = std::move(fd);
  pid_.store(claimed, std::memory_order_release);
  return Adopted::kYes;
}

Signalled OwnProcess::signal(int number) noexcept {
  const Lock lock(mutex_);
  const pid_t pid = pid_.load(std::memory_order_relaxed);
  if (pid == 0) return Signalled::kInvalid;
  if (!fd_.valid()) return signal_process(pid, number);
  if (signal_descriptor(fd_.get(), 0) != 0) return result(-1);
  // Its id is its own for as long as its status has not been collected, or its group has members.
  if (leads_group(pid)) return result(::kill(-pid, number));
  return result(signal_descriptor(fd_.get(), number));
}

Signalled signal_process(pid_t pid, int number) noexcept {
  if (pid == 0 || pid == 1 || pid == -1 || pid == ::getpid() || pid == -::getpgid(0))
    return Signalled::kInvalid;
  // A worker leads a process group of its own, and what it started goes with it.
  return result(::kill(leads_group(pid) ? -pid : pid, number));
}

}  // namespace typhon::beam
