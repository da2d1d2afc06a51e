#include "executor/limits.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>

#include "executor/memory_limit.h"
#include "worker/address_space.h"

namespace typhon::executor {
namespace {

// After SIGXCPU, which a worker may have a handler for: time enough for its last words.
constexpr rlim_t kLastSeconds = 2;

std::optional<std::int64_t> setting(PyObject* settings, const char* name) noexcept {
  PyObject* const value = PyDict_GetItemString(settings, name);
  if (!value) return std::nullopt;
  const long long number = PyLong_AsLongLong(value);
  if (number == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    return std::nullopt;
  }
  return number;
}

// Never above what the process may have already: raising a hard limit is refused.
bool set_limit(int resource, rlim_t soft, rlim_t hard) noexcept {
  rlimit limit{};
  if (::getrlimit(static_cast<__rlimit_resource_t>(resource), &limit) != 0) return false;
  limit.rlim_max = std::min(limit.rlim_max, hard);
  limit.rlim_cur = std::min(limit.rlim_max, soft);
  return ::setrlimit(static_cast<__rlimit_resource_t>(resource), &limit) == 0;
}

std::string refused(const char* what) { return std::string(what) + " (" + std::strerror(errno) + ")"; }

}  // namespace

std::string apply_limits(PyObject* settings) noexcept {
  if (const auto nice = setting(settings, "nice")) {
    if (::setpriority(PRIO_PROCESS, 0, static_cast<int>(*nice)) != 0) return refused("nice");
  }
  if (const auto files = setting(settings, "limit_files")) {
    const auto limit = static_cast<rlim_t>(*files);
    if (!set_limit(RLIMIT_NOFILE, limit, limit)) return refused("open_files");
  }
  if (const auto seconds = setting(settings, "limit_cpu")) {
    const auto limit = static_cast<rlim_t>(*seconds);
    if (!set_limit(RLIMIT_CPU, limit, limit + kLastSeconds)) return refused("cpu_time");
  }
  if (const auto bytes = setting(settings, "limit_memory")) {
    // The channel's region alone is many times what a limit may be.
    const rlim_t limit = worker::mapped_bytes() + static_cast<rlim_t>(*bytes);
    if (!set_limit(RLIMIT_AS, limit, limit)) return refused("memory");
  }
  return {};
}

bool limits_memory(PyObject* settings) noexcept { return setting(settings, "limit_memory").has_value(); }

std::string apply_limits_inside(PyObject* settings) noexcept {
  const auto bytes = setting(settings, "limit_memory");
  if (bytes && !memory_limit::set(static_cast<std::size_t>(*bytes)))
    return "memory (this Python's allocators cannot be measured; one with a GIL, and glibc 2.33 or newer, "
           "are needed)";
  return {};
}

}  // namespace typhon::executor
