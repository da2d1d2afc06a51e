// Lane: a thread of Python that serves calls, or waits for the BEAM.
#pragma once

#include "python/cpython.h"
#include "worker/lane.h"

namespace typhon::executor {

class Lane : public worker::Lane {
 public:
  unsigned long python_thread = 0;  // as in threading.get_ident()
  unsigned nested = 0;              // calls that run on top of others that wait; its own thread
  bool used = false;                // it has served something since it gave memory back; its own thread

  // From the thread itself, with the GIL. It goes on at least until the lane is removed.
  void enter() noexcept { python_thread = PyThread_get_thread_ident(); }
};

}  // namespace typhon::executor
