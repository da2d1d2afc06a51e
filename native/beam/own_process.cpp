#include "beam/own_process.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <string_view>

#include "os/process.h"

namespace typhon::beam {
namespace {

// More wrappers than anybody has around a Python.
constexpr int kMostGenerations = 64;

bool descends_from(pid_t pid, pid_t ancestor) noexcept {
  for (int generation = 0; generation < kMostGenerations && pid > 1; ++generation) {
    if (pid == ancestor) return true;
    pid = os::parent_of(pid);
  }
  return false;
}

Signalled result(bool sent) noexcept {
  if (sent) return Signalled::kSent;
  return errno == ESRCH   ? Signalled::kNoProcess
         : errno == EPERM ? Signalled::kNotPermitted
                          : Signalled::kInvalid;
}

bool leads_group(pid_t pid) noexcept { return pid > 0 && ::getpgid(pid) == pid && ::getpgid(0) != pid; }

}  // namespace

OwnProcess::Adopted OwnProcess::adopt(pid_t port, pid_t claimed) noexcept {
  if (port <= 1 || claimed <= 1 || claimed == ::getpid()) return Adopted::kForeign;
  // In this order: from here on it is this very process that is looked at, or one that has ended.
  os::UniqueFd fd = os::open_process(claimed);
  if (!fd.valid() && errno == ESRCH) return Adopted::kGone;
  if (!descends_from(claimed, port)) {
    const bool ended = fd.valid() && !os::send_signal(fd.get(), 0) && errno == ESRCH;
    return ended ? Adopted::kGone : Adopted::kForeign;
  }
  if (fd.valid() && !os::send_signal(fd.get(), 0) && errno == ESRCH) return Adopted::kGone;
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
  if (!os::send_signal(fd_.get(), 0)) return result(false);
  // Its id is its own for as long as its status has not been collected, or its group has members.
  if (leads_group(pid)) return result(::kill(-pid, number) == 0);
  return result(os::send_signal(fd_.get(), number));
}

Signalled signal_process(pid_t pid, int number) noexcept {
  if (pid == 0 || pid == 1 || pid == -1 || pid == ::getpid() || pid == -::getpgid(0))
    return Signalled::kInvalid;
  // A worker leads a process group of its own, and what it started goes with it.
  return result(::kill(leads_group(pid) ? -pid : pid, number) == 0);
}

}  // namespace typhon::beam
