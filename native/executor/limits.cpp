#include "executor/limits.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>

#include "executor/memory_limit.h"
#include "os/memory.h"
#include "os/process.h"

namespace typhon::executor {
namespace {

// After SIGXCPU, which a worker may have a handler for: time enough for its last words.
constexpr std::uint64_t kLastSeconds = 2;

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

std::string refused(const char* what) { return std::string(what) + " (" + std::strerror(errno) + ")"; }

}  // namespace

std::string apply_limits(PyObject* settings) noexcept {
  if (const auto nice = setting(settings, "nice")) {
    if (!os::set_nice(static_cast<int>(*nice))) return refused("nice");
  }
  if (const auto files = setting(settings, "limit_files")) {
    const auto limit = static_cast<std::uint64_t>(*files);
    if (!os::set_limit(os::Limit::kDescriptors, limit, limit)) return refused("open_files");
  }
  if (const auto seconds = setting(settings, "limit_cpu")) {
    const auto limit = static_cast<std::uint64_t>(*seconds);
    if (!os::set_limit(os::Limit::kProcessorSeconds, limit, limit + kLastSeconds)) return refused("cpu_time");
  }
  if (const auto bytes = setting(settings, "limit_memory")) {
    // The channel's region alone is many times what a limit may be.
    const std::uint64_t limit = os::mapped_bytes() + static_cast<std::uint64_t>(*bytes);
    if (!os::set_limit(os::Limit::kAddressSpace, limit, limit)) return refused("memory");
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
