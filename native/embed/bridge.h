// What the two sides of a namespace agree on: typhon_nif loads typhon_bridge beside a libpython of its own,
// and calls typhon_bridge_start there once. Plain data and C: the two sides have different C and C++
// libraries.
#pragma once

#include <cstdint>

extern "C" {

struct TyphonBridgeSpec {
  const char* program;             // the interpreter's path: Python finds its prefix, or virtualenv, by it
  const char* package;             // the directory that has the package typhon
  const char* const* environment;  // NAME=value, nullptr behind the last
  int socket;  // jobs come and results go by it; the thread has a copy when the call returns
  int host;  // 1: this Python runs no jobs. Each message on the socket brings the socket of a sub-interpreter
};

// Starts the main thread of the namespace's Python, which serves the socket until its other end is closed.
// What the specification points to is copied. 0 or an errno. From any thread.
typedef int (*TyphonBridgeStart)(const struct TyphonBridgeSpec* spec);  // NOLINT(modernize-use-using)
}
