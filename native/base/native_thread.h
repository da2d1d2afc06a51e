// start_native_thread: a thread of our own, detached. It ends with the process, or by itself.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <cstddef>

namespace typhon {

// 0 or an errno. Signals are for others (Python, the BEAM): none lands on this thread, until it asks for
// some.
inline int start_native_thread(void* (*main)(void*), void* argument, std::size_t stack) noexcept {
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, stack);
  ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread{};
  const int failed = ::pthread_create(&thread, &attributes, main, argument);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::pthread_attr_destroy(&attributes);
  return failed;
}

}  // namespace typhon
