// OwnProcess: the process that serves a channel, once it is proven to be one of the BEAM's own: the process
// of the worker's port, or a descendant of it (the port's may be a wrapper that waits for the true one).
//
// A descriptor of it is held from then on, so a signal never reaches another process that has got its id
// since. Any thread.
#pragma once

#include <sys/types.h>

#include <atomic>

#include "beam/nif.h"
#include "os/descriptor.h"

namespace typhon::beam {

enum class Signalled : std::uint8_t { kSent, kNoProcess, kNotPermitted, kInvalid };

class OwnProcess {
 public:
  enum class Adopted : std::uint8_t { kYes, kForeign, kGone };
  // `claimed`: what the worker says that it is.
  Adopted adopt(pid_t port, pid_t claimed) noexcept;
  // 0: none has been adopted.
  [[nodiscard]] pid_t pid() const noexcept { return pid_.load(std::memory_order_acquire); }
  // To its process group if it leads one: what it started goes with it.
  Signalled signal(int number) noexcept;

 private:
  Mutex mutex_{"typhon.process"};
  os::UniqueFd fd_ TYPHON_GUARDED_BY(mutex_);  // none where the kernel has no such descriptors
  std::atomic<pid_t> pid_{0};
};

// The same for a process that is known by its id alone. -pid: its group.
Signalled signal_process(pid_t pid, int number) noexcept;

}  // namespace typhon::beam
