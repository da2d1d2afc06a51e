// Guards for the thread that lets go of the GIL, for the thread that takes it, and for what has none to rely
// on.
#pragma once

#include "python/cpython.h"

#include <mutex>

namespace typhon::python {

// Lets other Python threads run while this one blocks. Between construction and destruction no Python object
// may be touched. Rule of the project: nothing blocks on I/O, a ring, a lock or a condition outside one of
// these.
//
// Without a GIL it is the same rule for another reason: who is to stop every thread (a collection of garbage)
// waits for those that have not said that they touch no Python object.
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

// Guards what the GIL guards where there is one: a mutex in a build for free-threaded Python, nothing in any
// other. It is held for a few instructions, never while Python code may run or a thread waits for something
// else. (A thread that has to wait for it lets go of its thread state meanwhile, so it may be taken by
// threads that Python knows.)
class GilSubstitute {
 public:
  GilSubstitute() noexcept = default;
  GilSubstitute(const GilSubstitute&) = delete;
  GilSubstitute& operator=(const GilSubstitute&) = delete;

#ifdef Py_GIL_DISABLED
  void lock() noexcept { PyMutex_Lock(&mutex_); }
  void unlock() noexcept { PyMutex_Unlock(&mutex_); }

 private:
  PyMutex mutex_{};
#else
  void lock() noexcept {}
  void unlock() noexcept {}
#endif
};

using SubstituteLock = std::lock_guard<GilSubstitute>;

}  // namespace typhon::python
