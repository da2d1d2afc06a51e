#include "executor/fork_guard.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>

#include "executor/worker.h"

namespace typhon::executor::fork_guard {
namespace {

// Of the process, like the fork itself: the handler gets no argument.
constinit std::atomic<bool> forked{false};

}  // namespace

void install() noexcept {
  ::pthread_atfork(nullptr, nullptr, [] { forked.store(true, std::memory_order_relaxed); });
}

bool in_child() noexcept { return forked.load(std::memory_order_relaxed); }

void leave(python::PyRef result) noexcept {
  const python::PyRef error = result ? python::PyRef::borrow(Py_None) : current_exception();
  const python::PyRef module = python::PyRef::steal(PyImport_ImportModule("typhon._fork"));
  if (module && error) {
    static_cast<void>(python::PyRef::steal(PyObject_CallMethod(module.get(), "leave", "O", error.get())));
  }
  ::_exit(1);
}

}  // namespace typhon::executor::fork_guard
