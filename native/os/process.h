// Processes: another one by a descriptor that never means a third one, what its descriptors are, and what the
// system limits in this one.
//
// Any thread. Errors: an invalid descriptor or false, and errno.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "os/descriptor.h"

namespace typhon::os {

// A descriptor of the process with this id: it is readable when that has ended, and means nobody else when
// the id is used again. ESRCH: there is no such process. ENOSYS: this kernel has no such descriptors.
[[nodiscard]] UniqueFd open_process(pid_t pid) noexcept;
// To the process that open_process() has opened; 0 only looks whether it is there.
[[nodiscard]] bool send_signal(int process, int signal) noexcept;

// 0: it cannot be told.
[[nodiscard]] pid_t parent_of(pid_t pid) noexcept;

enum class Access : std::uint8_t { kWrite, kReadWrite };
// What the descriptor `fd` of another process of this user is, opened anew here.
[[nodiscard]] UniqueFd open_descriptor_of(pid_t pid, int fd, Access access) noexcept;

// When the parent ends the calling process goes on if it was stopped (SIGSTOP), and so can find out. Kept by
// the program that it becomes.
void go_on_when_parent_ends() noexcept;

// --- what the system limits in this process ---

// From -20 to 19: the higher, the more the others go first.
[[nodiscard]] bool set_nice(int nice) noexcept;

enum class Limit : std::uint8_t { kAddressSpace, kFileSize, kProcessorSeconds, kDescriptors };
inline constexpr std::uint64_t kNoLimit = UINT64_MAX;
// The one in force (the soft one). kNoLimit: none, or it cannot be told.
[[nodiscard]] std::uint64_t limit_of(Limit limit) noexcept;
// Never above what the process may have already: raising the hard one is refused.
[[nodiscard]] bool set_limit(Limit limit, std::uint64_t soft, std::uint64_t hard = kNoLimit) noexcept;

}  // namespace typhon::os
