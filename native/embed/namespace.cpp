#include "embed/namespace.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>

#include "embed/bridge.h"
#include "os/descriptor.h"

namespace typhon::embed {
namespace {

Error loader_error(const char* what) noexcept {
  const char* reason = ::dlerror();
  return Error{Code::kSystem, 0,
               std::string(what) + ": " + (reason ? reason : "the loader does not say why")};
}

// Until something runs in it a namespace can be given back: the last of its libraries takes it along.
struct CloseLibrary {
  void operator()(void* library) const noexcept { ::dlclose(library); }
};
using Library = std::unique_ptr<void, CloseLibrary>;

// What this thread has under pthread_setspecific(). Its place is the thread's, but which keys are taken each
// libc decides for itself; so what a library of the namespace notes in its constructor (libpython from 3.13
// on does, for its allocator) is noted where the program has something of its own.
class ThreadValues {
 public:
  ThreadValues() noexcept {
    for (pthread_key_t key = 0; key < values_.size(); ++key) values_[key] = ::pthread_getspecific(key);
  }
  // Takes away what was noted by the libc that `library` uses, and puts back what was there before.
  void restore(void* library) const noexcept {
    using Get = void* (*)(pthread_key_t);
    using Set = int (*)(pthread_key_t, const void*);
    const auto get = reinterpret_cast<Get>(::dlsym(library, "pthread_getspecific"));
    const auto set = reinterpret_cast<Set>(::dlsym(library, "pthread_setspecific"));
    for (pthread_key_t key = 0; get && set && key < values_.size(); ++key) {
      if (get(key)) set(key, nullptr);
    }
    for (pthread_key_t key = 0; key < values_.size(); ++key) {
      if (::pthread_getspecific(key) != values_[key]) ::pthread_setspecific(key, values_[key]);
    }
  }

 private:
  std::array<void*, PTHREAD_KEYS_MAX> values_{};
};

Error system_error(const std::string& what) noexcept {
  return Error{Code::kSystem, 0, what + ": " + std::strerror(errno)};
}

bool read_file(const std::string& path, std::string& bytes) noexcept {
  const os::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char piece[16 * 1024];
  ssize_t count = file.valid() ? 1 : -1;
  while (count > 0) {
    count = ::read(file.get(), piece, sizeof piece);
    if (count > 0) bytes.append(piece, static_cast<std::size_t>(count));
  }
  return count == 0;
}

// The guard (guard.cpp) of a namespace: a copy of the library that needs this libpython.
Result<os::UniqueFd> guard_of(const NamespaceSpec& spec) noexcept {
  // What CMakeLists.txt has put in place of the path.
  constexpr std::string_view kUnit = "typhon-libpython/";
  std::string bytes;
  if (!read_file(spec.guard, bytes)) return system_error("typhon_guard: " + spec.guard);
  const std::size_t place = bytes.find(kUnit);
  std::size_t end = place;
  while (bytes.compare(end, kUnit.size(), kUnit) == 0) end += kUnit.size();
  if (place == std::string::npos)
    return Error{Code::kSystem, 0, "typhon_guard: there is no place for libpython's path"};
  // The loader would put something else in the place of a dollar.
  if (spec.libpython.size() >= end - place || spec.libpython.find('$') != std::string::npos)
    return Error{Code::kSystem, 0, "libpython's path is too long, or has a $ in it: " + spec.libpython};
  bytes.replace(place, spec.libpython.size() + 1, spec.libpython.c_str(), spec.libpython.size() + 1);

  os::UniqueFd made(::memfd_create("typhon_guard", MFD_CLOEXEC));
  if (!made.valid() || ::write(made.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
    return system_error("the memory of typhon_guard");
  return made;
}

}  // namespace

Status start_namespace(const NamespaceSpec& spec, int socket) noexcept {
#if defined(__GLIBC__)
  const Result<os::UniqueFd> guard = guard_of(spec);
  if (!guard.ok()) return guard.error();
  const std::string copy = "/proc/self/fd/" + std::to_string(guard.value().get());
  // It brings libpython along, and comes before it: the two and what they need are the global scope of the
  // namespace.
  const ThreadValues before;
  Library python(::dlmopen(LM_ID_NEWLM, copy.c_str(), RTLD_NOW | RTLD_LOCAL));
  if (!python) return loader_error("a namespace for Python");
  before.restore(python.get());
  Lmid_t id{};
  if (::dlinfo(python.get(), RTLD_DI_LMID, &id) != 0) return loader_error("the namespace of Python");
  Library bridge(::dlmopen(id, spec.bridge.c_str(), RTLD_NOW | RTLD_LOCAL));
  if (!bridge) return loader_error("typhon_bridge");
  auto* start = reinterpret_cast<TyphonBridgeStart>(::dlsym(bridge.get(), "typhon_bridge_start"));
  if (!start) return loader_error("typhon_bridge_start");
  // A thread runs in it from here on, also one that is about to end.
  static_cast<void>(python.release());
  static_cast<void>(bridge.release());

  std::vector<const char*> environment;
  environment.reserve(spec.environment.size() + 1);
  for (const std::string& variable : spec.environment) environment.push_back(variable.c_str());
  environment.push_back(nullptr);
  const TyphonBridgeSpec inner{spec.program.c_str(), spec.package.c_str(), environment.data(), socket,
                               spec.host ? 1 : 0};
  if (const int failed = start(&inner); failed != 0) {
    return Error{Code::kSystem, 0, std::string("the thread of an interpreter: ") + std::strerror(failed)};
  }
  return Unit{};
#else
  static_cast<void>(spec);
  static_cast<void>(socket);
  return Error{Code::kSystem, 0, "namespaces need glibc's dlmopen"};
#endif
}

}  // namespace typhon::embed
