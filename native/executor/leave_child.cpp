#include "executor/leave_child.h"

#include <unistd.h>

#include "executor/worker.h"
#include "worker/forked.h"

namespace typhon::executor {

void leave_child(python::PyRef result) noexcept {
  const python::PyRef error = result ? python::PyRef::borrow(Py_None) : current_exception();
  const python::PyRef module = python::PyRef::steal(PyImport_ImportModule("typhon._fork"));
  if (module && error) {
    static_cast<void>(python::PyRef::steal(PyObject_CallMethod(module.get(), "leave", "O", error.get())));
  }
  ::_exit(1);
}

void leave_if_forked() noexcept {
  if (worker::in_forked_child()) leave_child(python::PyRef::borrow(Py_None));
}

}  // namespace typhon::executor
