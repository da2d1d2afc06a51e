#include "embed/namespace.h"

#include <dlfcn.h>

#include <cstring>
#include <memory>

#include "embed/bridge.h"

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

}  // namespace

Status start_namespace(const NamespaceSpec& spec, int socket) noexcept {
#if defined(__GLIBC__)
  // libpython first: what it exports is then the global scope of the namespace, in which extension modules
  // find it that are not linked to it.
  Library python(::dlmopen(LM_ID_NEWLM, spec.libpython.c_str(), RTLD_NOW | RTLD_LOCAL));
  if (!python) return loader_error("a namespace for Python");
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
