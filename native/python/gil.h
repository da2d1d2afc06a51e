// Guards for the thread that lets go of the GIL, and for the thread that takes it.
#pragma once

#include "python/cpython.h"

namespace typhon::python {

// Lets other Python threads run while this one blocks. Between construction and destruction no Python object
// may be touched. Rule of the project: nothing blocks on I/O, a ring, a lock or a condition outside one of
// these.
class GilRelease {
 public:
  GilRelease() noexcept : state_(PyEval_SaveThread()) {}
  ~GilRelease() { PyEval_RestoreThread(state_); }
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
  PyThreadState* state_;
};

// Takes the GIL of one interpreter on a thread that Python did not start, with a thread state of its own.
// It can fail: an interpreter that is being torn down has no thread states to give, and attaching to it would
// hang or end the thread. Check `attached()` before touching anything. The interpreter must outlive the
// guard; who owns it says so (a worker never ends its interpreter before its threads).
class AttachGuard {
 public:
  explicit AttachGuard(PyInterpreterState* interpreter) noexcept {
    state_ = interpreter != nullptr && Py_IsInitialized() != 0 ? PyThreadState_New(interpreter) : nullptr;
    if (state_ != nullptr) PyEval_RestoreThread(state_);
  }
  ~AttachGuard() {
    if (state_ == nullptr) return;
    PyThreadState_Clear(state_);
    PyEval_SaveThread();
    PyThreadState_Delete(state_);
  }
  AttachGuard(const AttachGuard&) = delete;
  AttachGuard& operator=(const AttachGuard&) = delete;

  [[nodiscard]] bool attached() const noexcept { return state_ != nullptr; }

 private:
  PyThreadState* state_ = nullptr;
};

}  // namespace typhon::python
