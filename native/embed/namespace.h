// A namespace: one more libpython in this process, with a libc and all else of its own (dlmopen). Whole
// CPythons side by side, each with its own GIL, and any C extension works in them.
//
// There is no way back: a namespace is never unloaded, and the process has 15 at most. Who keeps them for
// reuse is lib/typhon/interpreters.ex.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace typhon::embed {

struct NamespaceSpec {
  std::string libpython;  // the shared library
  std::string bridge;     // typhon_bridge.so
  std::string guard;      // typhon_guard.so
  std::string program;
  std::string package;
  std::vector<std::string> environment;
  bool host = false;  // of sub-interpreters
};

// Loads it and starts the main thread of its Python, which serves a copy of `socket`: jobs, or as a host
// messages of one byte that each bring the socket of a sub-interpreter to start. Takes tens of milliseconds;
// from any thread, one at a time, in a process that has started threads by its own libc: one that has not
// gives the loader's lock back without waking the threads of the namespaces, which wait for it, too.
[[nodiscard]] Status start_namespace(const NamespaceSpec& spec, int socket) noexcept;

}  // namespace typhon::embed
